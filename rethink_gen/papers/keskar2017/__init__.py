"""Large batches and sharp minima: what the paper reports of its network F1 on MNIST."""
