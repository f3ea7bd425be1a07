"""Power et al. 2022 (arXiv 2201.02177): the protocol of a small version of grokking, with corrupted labels."""
