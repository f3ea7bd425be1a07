"""Learners without gradients, of scikit-learn and LightGBM: each function returns an estimator not yet fitted.

`learner` fits them. What a function is not given stays at its library's default. Ours are: trees without a limit of
their own, boosting without early stopping, and iterations enough for logistic regression to converge.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.ensemble import (
    AdaBoostClassifier,
    ExtraTreesClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
    StackingClassifier,
)
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier

from rethink_gen.errors import UsageError, unknown

_FEATURES = {"all": None, "sqrt": "sqrt"}  # values of an input that a split chooses from
_ALL = 100_000  # leaves: until all are pure
_ITERATIONS = 2000  # of logistic regression, at most


def random_forest(seed: int, *, trees: int = 100, bootstrap: bool = True, leaves: int = _ALL) -> Any:
    """Trees on bootstrap samples, or with bootstrap=false on all examples; a split sees √D of the D values.

    Args:
      leaves: of a tree at most, which then grows where impurity falls most; 100,000: until all are pure.
    """
    most = None if leaves >= _ALL else leaves
    return RandomForestClassifier(trees, bootstrap=bootstrap, max_leaf_nodes=most, random_state=seed)


def extra_trees(seed: int, *, trees: int = 100) -> Any:
    """Trees on all examples, with thresholds drawn at random; a split sees √D of the D values."""
    return ExtraTreesClassifier(trees, random_state=seed)


def decision_tree(seed: int, *, leaves: int = _ALL, features: str = "all") -> Any:
    """One tree that grows where impurity falls most, until its leaves are pure or as many as allowed.

    Raises:
      UsageError: features is neither all nor sqrt.
    """
    if features not in _FEATURES:
        raise unknown("features of a split", features, _FEATURES)
    return DecisionTreeClassifier(max_leaf_nodes=leaves, max_features=_FEATURES[features], random_state=seed)


def adaboost(seed: int, *, depth: int = 1, rounds: int = 200) -> Any:
    """AdaBoost (SAMME) with trees of a depth: 1 are stumps. It ends early once one tree fits every label alone."""
    tree = DecisionTreeClassifier(max_depth=depth)
    return AdaBoostClassifier(tree, n_estimators=rounds, random_state=seed)


def gradient_boosting(
    seed: int, *, rounds: int = 100, rate: float = 0.1, leaves: int = 31, least_in_leaf: int = 20
) -> Any:
    """Boosting of the cross-entropy by histograms, one tree per class and round."""
    return HistGradientBoostingClassifier(
        max_iter=rounds,
        learning_rate=rate,
        max_leaf_nodes=leaves,
        min_samples_leaf=least_in_leaf,
        early_stopping=False,
        random_state=seed,
    )


def lightgbm(seed: int, *, rounds: int = 100, rate: float = 0.1, leaves: int = 31, least_in_leaf: int = 20) -> Any:
    """Boosting of the cross-entropy by histograms, one tree per class and round: LightGBM, an optional package.

    Raises:
      UsageError: LightGBM is not installed.
    """
    try:
        from lightgbm import LGBMClassifier  # pyright: ignore
    except (ImportError, OSError) as error:  # OSError: without libgomp
        raise UsageError(f"learner lightgbm needs LightGBM: pip install lightgbm ({error})") from error

    class Classifier(LGBMClassifier):
        def staged_predict_proba(self, x: np.ndarray) -> Iterator[np.ndarray]:
            """Probabilities float64[N, K] after each round, whose trees are added up: each is asked once."""
            from scipy.special import expit, softmax

            scores: Any = 0.0
            for i in range(self.n_iter_):
                scores = scores + self.predict_proba(x, raw_score=True, start_iteration=i, num_iteration=1)
                of_two = scores.ndim == 1  # classes, which have one score
                yield np.stack([expit(-scores), expit(scores)], 1) if of_two else softmax(scores, axis=1)

        def leaves_by_round(self) -> list[int]:
            """The leaves that each round adds."""
            trees = [tree["num_leaves"] for tree in self.booster_.dump_model()["tree_info"]]
            return np.reshape(trees, (self.n_iter_, -1)).sum(1).tolist()

    return Classifier(
        n_estimators=rounds,
        learning_rate=rate,
        num_leaves=leaves,
        min_child_samples=least_in_leaf,
        random_state=seed,
        deterministic=True,
        n_jobs=1,
        verbose=-1,
    )


def l2_boosting(seed: int, *, rounds: int = 200, rate: float = 0.85, leaves: int = 10, members: int = 1) -> Any:
    """Boosting of the squared error on one-hot labels; then the mean of several such ensembles. See `L2Boosting`."""
    return L2Boosting(rounds=rounds, rate=rate, leaves=leaves, members=members, random_state=seed)


def nearest_neighbors(seed: int, *, neighbors: int = 1) -> Any:
    """Majority of the nearest training examples, by Euclidean distance."""
    return KNeighborsClassifier(neighbors)


def svm(seed: int, *, C: float = 1.0) -> Any:
    """Support vector machine with an RBF kernel of scikit-learn's width; larger C allows fewer errors."""
    return SVC(C=C)


def logistic_regression(seed: int, *, C: float = 1.0) -> Any:
    """Linear model with the cross-entropy; larger C is less regularization."""
    return LogisticRegression(C=C, max_iter=_ITERATIONS)


def stacking(seed: int, *, folds: int = 5, trees: int = 100) -> Any:
    """Logistic regression on the outputs of three learners for held-out folds: forest, neighbors, logistic."""
    three = [
        ("random_forest", random_forest(seed, trees=trees)),
        ("nearest_neighbors", KNeighborsClassifier(5)),
        ("logistic_regression", logistic_regression(seed)),
    ]
    return StackingClassifier(three, logistic_regression(seed), cv=folds)


class L2Boosting(ClassifierMixin, BaseEstimator):
    """Boosting of the squared error, one against the rest, as Belkin et al. 2019 and Curth et al. 2023 have it.

    For each class, `rounds` trees are fitted in turn to what is left of its one-hot labels, each multiplied by `rate`;
    a split sees √D of the values. Then `members` such ensembles with other seeds are averaged.
    """

    def __init__(
        self, rounds: int = 200, rate: float = 0.85, leaves: int = 10, members: int = 1, random_state: Any = None
    ) -> None:
        self.rounds, self.rate, self.leaves = rounds, rate, leaves
        self.members, self.random_state = members, random_state

    def fit(self, x: np.ndarray, y: np.ndarray) -> L2Boosting:
        """Fits members · K · rounds trees to inputs [N, D] and labels [N] of K classes."""
        self.classes_ = np.unique(y)
        seeds = np.random.default_rng(self.random_state).integers(2**31, size=(self.members, len(self.classes_)))
        self.ensembles_ = [
            [self._one_class(int(seed)).fit(x, y == each) for seed, each in zip(row, self.classes_, strict=True)]
            for row in seeds
        ]
        return self

    def _one_class(self, seed: int) -> GradientBoostingRegressor:
        return GradientBoostingRegressor(
            n_estimators=self.rounds,
            learning_rate=self.rate,
            max_leaf_nodes=self.leaves,
            max_depth=None,
            max_features="sqrt",
            init="zero",
            random_state=seed,
        )

    def staged_predict_proba(self, x: np.ndarray) -> Iterator[np.ndarray]:
        """Outputs float64[N, K] after each round of the first ensemble, then as the mean of 2, 3, … ensembles."""
        total = np.zeros((len(x), len(self.classes_)))
        for i, ensemble in enumerate(self.ensembles_):
            if i == 0:
                for outputs in zip(*(each.staged_predict(x) for each in ensemble), strict=True):
                    total = np.stack(outputs, axis=1)
                    yield total
            else:
                total = total + np.stack([each.predict(x) for each in ensemble], axis=1)
                yield total / (i + 1)

    def predict_proba(self, x: np.ndarray) -> np.ndarray:
        """Outputs float64[N, K], which tend to probabilities but may leave [0, 1]."""
        return np.mean([[each.predict(x) for each in ensemble] for ensemble in self.ensembles_], axis=0).T

    def predict(self, x: np.ndarray) -> np.ndarray:
        """The class of the largest output."""
        return self.classes_[self.predict_proba(x).argmax(1)]
