"""What a fitted learner is at each stage of its growth: after so many trees, rounds of boosting, or leaves.

One fit gives all stages. A forest is a mean over its first trees. A tree that was grown best-first, with at most k
leaves, is the beginning of the same tree with more: its nodes are numbered as they were made, two for each split, so
the tree with k leaves has the first 2k - 1. Learners without stages have one.

Trees, forests on all examples and boosting of the squared error smooth labels: the output at x is ŝ(x)·Y, where Y are
the one-hot training labels, or what a class has of them. Their **effective parameters** on m inputs are n/m Σ‖ŝ(x)‖²
(Curth et al. 2023, Section 5). The weights of a tree are 1/|leaf| for the examples in the leaf of x, so on the training
inputs it has as many effective parameters as leaves. The weights of a forest are the mean over its trees. A round of
boosting adds `rate` times the weights of a tree, of what is left of the labels: each row of the smoother less its mean
over the leaf of x. As classes have trees of their own, the number is the mean over the classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import count
from typing import Any, NamedTuple

import numpy as np

from rethink_gen import memory
from rethink_gen.errors import ComponentError

SHOWN = 40  # stages that are measured, spaced evenly on a logarithmic axis


# Computes, of a fitted learner, the inputs of each split and numbers of stages: number → effective parameters.
_Smoothers = Callable[[Any, Sequence[np.ndarray], Sequence[int]], dict[int, list[float]]]


class Stage(NamedTuple):
    """A stage: its number, counted from 1, the outputs on each split, and what the learner consists of."""

    number: int
    outputs: list[np.ndarray]  # of each split float[n, K], probabilities; or labels [n] where there are none
    capacity: dict[str, float]  # leaves, support_vectors, stored_examples or weights


def measured(fitted: Any) -> list[int]:
    """The numbers of the stages of a fitted learner that are measured, the first and the last one included."""
    last = _count_stages(fitted)
    axis = fitted.rounds if hasattr(fitted, "ensembles_") else last  # beyond it, every ensemble
    return sorted({round(axis ** (i / (SHOWN - 1))) for i in range(SHOWN)} | {*range(axis + 1, last + 1)})


def follow(fitted: Any, splits: Sequence[np.ndarray]) -> Iterator[Stage]:
    """The stages of a fitted learner that are measured.

    Args:
      splits: inputs float32[n, D] of each split.
    """
    if _is_best_first(fitted):
        kind = _leaves
    elif is_forest(fitted):
        kind = _trees
    else:
        kind = _rounds if _is_boosted(fitted) else _whole
    yield from kind(fitted, splits, measured(fitted))


def effective_parameters(fitted: Any, splits: Sequence[np.ndarray]) -> dict[int, list[float]]:
    """The effective parameters of the measured stages of a fitted learner: number → those on each split.

    Args:
      splits: inputs float32[m, D] of each split, the training inputs first.

    Raises:
      ComponentError: as of `smoothers`.
    """
    return smoothers(fitted, splits)(fitted, splits, measured(fitted))


def smoothers(learner: Any, splits: Sequence[np.ndarray]) -> _Smoothers:
    """How effective parameters of a learner are computed. It need not be fitted, so that none is fitted in vain.

    Raises:
      ComponentError: the learner is no smoother of which they are known, or its weights do not fit into memory.
    """
    from rethink_gen.solvers.learners import L2Boosting

    if _is_best_first(learner):
        return _smoothers_of_leaves
    if is_forest(learner) and not learner.bootstrap:
        found = _smoothers_of_trees
    elif isinstance(learner, L2Boosting):
        found = _smoothers_of_boosting
    else:
        raise ComponentError(
            f"effective parameters of {type(learner).__name__} are not known, but those of decision_tree, extra_trees, "
            "l2_boosting, random_forest(bootstrap=false)"
        )
    needed = 12 * len(splits[0]) * sum(map(len, splits))  # two sums of float32 and what is added to them
    if needed > (free := memory.free_of_host()):
        sizes = f"{memory.gigabytes(needed)}; {memory.gigabytes(free)} are free"
        raise ComponentError(f"effective parameters need {sizes}: set a smaller train_size or test_size")
    return found


def _smoothers_of_leaves(fitted: Any, splits: Sequence[np.ndarray], wanted: Sequence[int]) -> dict[int, list[float]]:
    size = fitted.tree_.n_node_samples
    return {
        number: [float(size[0] * np.mean(1 / size[leaf])) for leaf in leaves]
        for number, leaves in _reached(fitted, splits, wanted)
    }


def _smoothers_of_trees(fitted: Any, splits: Sequence[np.ndarray], wanted: Sequence[int]) -> dict[int, list[float]]:
    totals = [np.zeros((len(x), len(splits[0])), np.float32) for x in splits]
    found = {}
    for number, tree in enumerate(fitted.estimators_, 1):
        means = _means(tree, splits[0])
        for total, x in zip(totals, splits, strict=True):
            total += means[tree.apply(x)].toarray()
        if number in wanted:
            found[number] = [_norm(total) / number**2 for total in totals]
    return found


def _smoothers_of_boosting(fitted: Any, splits: Sequence[np.ndarray], wanted: Sequence[int]) -> dict[int, list[float]]:
    classes, n = len(fitted.classes_), len(splits[0])
    found = {number: [0.0 for _ in splits] for number in wanted}

    def add(number: int, smoothers: list[np.ndarray], scale: float) -> None:
        shares = [scale**2 * _norm(each) / classes for each in smoothers]
        found[number] = [so_far + share for so_far, share in zip(found[number], shares, strict=True)]

    for k in range(classes):
        totals = [np.zeros((len(x), n), np.float32) for x in splits]
        for member, ensemble in enumerate(fitted.ensembles_):
            smoothers = [np.zeros((len(x), n), np.float32) for x in splits]
            for number, tree in enumerate(ensemble[k].estimators_.flat, 1):
                _add_round(smoothers, tree, splits, fitted.rate)
                if not member and number in found:
                    add(number, smoothers, 1)
            for total, smoother in zip(totals, smoothers, strict=True):
                total += smoother
            if member:
                add(fitted.rounds + member, totals, 1 / (member + 1))
    return found


def _add_round(smoothers: list[np.ndarray], tree: Any, splits: Sequence[np.ndarray], rate: float) -> None:
    """Adds a tree of boosting to smoothers float32[m, n] of the splits, in place."""
    means = rate * _means(tree, splits[0])
    weights = means.toarray() - means @ smoothers[0]
    for smoother, x in zip(smoothers, splits, strict=True):
        smoother += weights[tree.apply(x)]


def _means(tree: Any, x: np.ndarray) -> Any:
    """The means over the training examples x in each leaf of a tree: a sparse matrix float32[nodes, n]."""
    from scipy.sparse import csr_matrix

    leaf = tree.apply(x)
    weights = (1 / np.bincount(leaf)[leaf]).astype(np.float32)
    return csr_matrix((weights, (leaf, np.arange(len(x)))), (tree.tree_.node_count, len(x)))


def _norm(smoother: np.ndarray) -> float:
    """n/m times the sum of all squares of a smoother [m, n]."""
    return float(np.vdot(smoother, smoother) * smoother.shape[1] / len(smoother))


def _count_stages(fitted: Any) -> int:
    if _is_best_first(fitted):
        return int(fitted.get_n_leaves())
    if hasattr(fitted, "ensembles_"):
        return fitted.rounds + len(fitted.ensembles_) - 1
    if hasattr(fitted, "n_iter_") and _is_boosted(fitted):
        return int(fitted.n_iter_)
    return len(fitted.estimators_) if _is_boosted(fitted) or is_forest(fitted) else 1


def _whole(fitted: Any, splits: Sequence[np.ndarray], wanted: Sequence[int]) -> Iterator[Stage]:
    outputs: Callable[[np.ndarray], np.ndarray] = getattr(fitted, "predict_proba", None) or fitted.predict
    yield Stage(1, [outputs(x) for x in splits], capacity(fitted))


def _trees(fitted: Any, splits: Sequence[np.ndarray], wanted: Sequence[int]) -> Iterator[Stage]:
    """A forest after each tree: the mean of the trees' probabilities, as scikit-learn has it."""
    totals: list[Any] = [0.0 for _ in splits]
    leaves = 0
    for number, tree in enumerate(fitted.estimators_, 1):
        totals = [total + tree.predict_proba(x) for total, x in zip(totals, splits, strict=True)]
        leaves += int(tree.get_n_leaves())
        if number in wanted:
            yield Stage(number, [total / number for total in totals], {"leaves": leaves})


def _rounds(fitted: Any, splits: Sequence[np.ndarray], wanted: Sequence[int]) -> Iterator[Stage]:
    """Boosting after each round."""
    leaves = np.cumsum(_leaves_by_stage(fitted))
    for number, *outputs in zip(count(1), *(fitted.staged_predict_proba(x) for x in splits), strict=False):
        if number in wanted:
            yield Stage(number, outputs, {"leaves": int(leaves[number - 1])} if len(leaves) else {})


def _leaves(fitted: Any, splits: Sequence[np.ndarray], wanted: Sequence[int]) -> Iterator[Stage]:
    """A tree with each number of leaves."""
    values = fitted.tree_.value[:, 0, :]
    values = values / values.sum(1, keepdims=True)
    for number, leaves in _reached(fitted, splits, wanted):
        yield Stage(number, [values[leaf] for leaf in leaves], {"leaves": number})


def _reached(
    fitted: Any, splits: Sequence[np.ndarray], wanted: Sequence[int]
) -> Iterator[tuple[int, list[np.ndarray]]]:
    """A number of leaves, and of each split the nodes that inputs reach in the tree with so many."""
    paths = [fitted.decision_path(x) for x in splits]
    for path in paths:
        path.sort_indices()  # a child has a larger number than its parent
    for number in wanted:
        reached = []
        for path in paths:
            depth = np.add.reduceat(path.indices < 2 * number - 1, path.indptr[:-1], dtype=np.int64)
            reached.append(path.indices[path.indptr[:-1] + depth - 1])
        yield number, reached


def capacity(fitted: Any) -> dict[str, float]:
    """What a learner without stages consists of, where it can be counted."""
    if hasattr(fitted, "get_n_leaves"):
        return {"leaves": int(fitted.get_n_leaves())}
    if hasattr(fitted, "support_"):
        return {"support_vectors": len(fitted.support_)}
    if hasattr(fitted, "n_samples_fit_"):
        return {"stored_examples": int(fitted.n_samples_fit_)}
    if hasattr(fitted, "coef_"):
        return {"weights": int(np.size(fitted.coef_) + np.size(fitted.intercept_))}
    return {}


def _leaves_by_stage(fitted: Any) -> list[int]:
    """The leaves that each stage of boosting adds; empty where they cannot be counted."""
    if hasattr(fitted, "ensembles_"):
        first, *others = fitted.ensembles_
        rounds = [[tree for each in first for tree in each.estimators_[i]] for i in range(fitted.rounds)]
        members = [[tree for each in ensemble for tree in each.estimators_.flat] for ensemble in others]
        return [sum(map(_count, trees)) for trees in (*rounds, *members)]
    if hasattr(fitted, "leaves_by_round"):
        return fitted.leaves_by_round()
    trees = getattr(fitted, "_predictors", None)  # of boosting by histograms
    if trees is None:
        trees = [np.ravel(each) for each in getattr(fitted, "estimators_", [])]
    return [sum(map(_count, of_round)) for of_round in trees]


def _count(tree: Any) -> int:
    """The leaves of one tree."""
    return int(tree.get_n_leaf_nodes() if hasattr(tree, "get_n_leaf_nodes") else tree.get_n_leaves())


def _is_boosted(fitted: Any) -> bool:
    """Whether a learner has stages, and says how many."""
    counted = any(hasattr(fitted, name) for name in ("n_iter_", "estimators_", "ensembles_"))
    return counted and callable(getattr(fitted, "staged_predict_proba", None))


def is_forest(fitted: Any) -> bool:
    """Whether a learner is a mean over trees, as scikit-learn's forests are."""
    from sklearn.ensemble._forest import ForestClassifier

    return isinstance(fitted, ForestClassifier)


def _is_best_first(fitted: Any) -> bool:
    """Whether a learner is a single tree whose number of leaves is limited, and which so grows best-first."""
    from sklearn.tree import DecisionTreeClassifier

    return isinstance(fitted, DecisionTreeClassifier) and fitted.max_leaf_nodes is not None
