"""CIFAR-10N: what the paper and its repository report of cross-entropy."""
