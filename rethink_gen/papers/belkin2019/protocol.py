"""The protocols for random Fourier features and for trees on MNIST of Belkin et al. 2019, and our choices.

Stated: 10,000 training images of MNIST; N random Fourier features with frequencies from N(0, 0.2²), so σ = 5; squared
loss on one-hot labels; of all solutions that fit the labels, the one of least norm; the peak is at N = n = 10,000. The
paper shows figures and no numbers, so nothing here has a number of the paper beside it.

Our choices:

* Features are real, √(2/N) cos(v·x + b) with a random phase b. The paper's are complex exponentials.
* Pixels are in [0, 1], and all 10,000 test images count.
* Ridge regression is ours: the same features and images with five penalties.
* The limit of many features is the kernel machine with the Gaussian kernel of γ = 1/(2σ²) = 0.02.

Trees (Section 4; the settings are those of the code of Curth et al. 2023, alanjeffares/not-double-descent): a forest
without bootstrap samples, √D of D values in a split, first one tree with more and more leaves, then more and more full
trees; boosting of the squared error with 10 leaves, rate 0.85 and √D values in a split, one against the rest, first
more and more rounds, then the mean of more and more such ensembles. Curth et al. have up to 100 trees, 200 rounds and
20 ensembles. Our choices:

* The leaves axis is one tree that grows where impurity falls most. Its beginnings are the trees with fewer leaves.
* Classification trees with the Gini impurity: it equals the squared error of regression on one-hot labels.
"""
