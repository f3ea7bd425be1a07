"""Zhang, Bengio, Hardt, Recht and Vinyals 2017 (arXiv 1611.03530): reported values and protocol."""
