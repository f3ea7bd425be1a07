"""Chiang et al. 2023 (ICLR): settings from the authors' public code; test accuracies of the paper were not found."""
