"""mixup: what the paper reports of corrupt labels."""
