"""Large batches with the steps of small ones: what the paper reports, from memory, of Keskar's F1 and of ResNet-44."""
