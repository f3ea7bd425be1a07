"""The protocol of Curth et al. 2023 for trees, boosting and random features on MNIST, and our choices.

Effective parameters on inputs x_1 … x_m: p = n/m Σ‖ŝ(x_j)‖², where ŝ(x) are the weights with which a model adds up
the n training labels at x (Section 5). How they are computed is told in `rethink_gen.solvers.stages` and
`solvers.ridge`. We checked the definition with the authors' code, alanjeffares/not-double-descent; the number of the
section is from memory.

Stated in that code: 10,000 training images, all test images; trees with √D of D values in a split and no bootstrap
samples, 2 to 2,000 leaves or all, then 100 trees; boosting of the squared error, one against the rest, with 10
leaves, rate 0.85 and 200 rounds, then up to 50 such ensembles; random Fourier features, up to 60,000, and of more
than 10,000 the first p principal components, p up to 10,000.

Our choices:

* Features are real cosines, as in the protocol of Belkin et al. 2019, to which these are a reply. Components are
  those of the features as they are; the authors' have mean 0 and variance 1 first. So all n components are exactly
  least norm.
* Trees are classification trees, whose Gini impurity equals the squared error of the authors' regression trees on
  one-hot labels. Both are for all classes at once.
* Effective parameters of boosting are the mean over the classes; the authors' script counts those of class 0. A mean of
  ensembles is a plain mean; the authors' code divides the weights by their sum.
* 20 ensembles at paper scale. Early turns, where the second axis begins sooner: the values of `Scale` below.
"""

from typing import NamedTuple

from rethink_gen.runs import LearnerRun, RidgeRun, grid
from rethink_gen.runs.base import AnyRun

TREE = "decision_tree(features=sqrt)"
ALL = 100_000  # leaves: until all are pure


class Scale(NamedTuple):
    """Sizes of the experiment; an early turn is a number of leaves or rounds at which the second axis begins."""

    images: int
    test_size: int | None
    features: tuple[int, ...]
    leaves: tuple[int, ...]
    rounds: int
    early_rounds: tuple[int, ...]
    members: int
    seeds: int


def forest(leaves: int = ALL) -> str:
    return f"random_forest(bootstrap=false,leaves={leaves})"


def boosting(rounds: int, members: int) -> str:
    return f"l2_boosting(members={members},rounds={rounds})"


def runs(scale: Scale) -> tuple[AnyRun, ...]:
    """A run for each family of learners and turn, and one for each number of features."""
    sizes = {"train_size": scale.images, "test_size": scale.test_size}
    learners = (TREE, *map(forest, (ALL, *scale.leaves)))
    learners += tuple(boosting(rounds, scale.members) for rounds in (scale.rounds, *scale.early_rounds))
    counts = tuple(f"fourier(count={count})" for count in scale.features)
    return (
        *grid(LearnerRun(**sizes, effective_parameters=True), learner=learners, seed=range(scale.seeds)),
        *grid(RidgeRun(**sizes, path="components"), features=counts, seed=range(scale.seeds)),
    )
