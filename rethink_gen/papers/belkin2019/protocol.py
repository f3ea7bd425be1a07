"""The protocol for random Fourier features on MNIST of Belkin et al. 2019, and our choices.

Stated: 10,000 training images of MNIST; N random Fourier features with frequencies from N(0, 0.2²), so σ = 5; squared
loss on one-hot labels; of all solutions that fit the labels, the one of least norm; the peak is at N = n = 10,000. The
paper shows figures and no numbers, so nothing here has a number of the paper beside it.

Our choices:

* Features are real, √(2/N) cos(v·x + b) with a random phase b. The paper's are complex exponentials.
* Pixels are in [0, 1], and all 10,000 test images count.
* Ridge regression is ours: the same features and images with five penalties.
* The limit of many features is the kernel machine with the Gaussian kernel of γ = 1/(2σ²) = 0.02.
"""
