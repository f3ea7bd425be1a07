"""Large batches and sharp minima: what the paper reports of F1 on MNIST and C1 on CIFAR-10."""
