"""The claim of Wyner et al. 2017, and our choices.

Stated (abstract): random forests and AdaBoost work for similar reasons: both are self-averaging, interpolating
algorithms. Boosting should be used like random forests: with large decision trees, without regularization or early
stopping. The paper shows this on simulated data with label noise, in figures. So only orderings are compared.

From memory, not checked against a source: the simulated data. Mease and Wyner 2008 have inputs that are uniform on
[0, 1]^20, the class is 1 if the sum of the first five values is above 2.5, and each label is flipped with
probability q; the best possible rule has the error q on noisy labels.

Our choices:

* 1,000 (laptop) or 5,000 examples of these data, and as many images of MNIST; q from 0 to 40 %. On MNIST a wrong label
  is one of the other nine.
* Test labels are true, so the best possible error is 0 at each q. With noisy test labels an error e would be
  q + (1 - 2q) e.
* Large trees of AdaBoost have the depth 8. A tree without a limit fits every label alone, and scikit-learn's AdaBoost
  then ends after one round.
* One tree, and AdaBoost with stumps, stand beside: the one interpolates without averaging, the other does not
  interpolate.
"""
