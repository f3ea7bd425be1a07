"""Effective parameters of trees, forests and boosting, against the weights of their smoothers."""

from dataclasses import replace

import numpy as np
import pytest
from fits import SMALL, arrays, solve

from rethink_gen import memory
from rethink_gen.errors import ComponentError
from rethink_gen.solvers import learner, learners, stages


def smoother(fitted, x, inputs, *, boosted):
    """ŝ [m, n] by another route: one example has the label 1, the others 0, and all leaves get new means."""
    trees = list(np.ravel(fitted.estimators_))
    rate = fitted.learning_rate if boosted else 1 / len(trees)
    weights = np.zeros((len(inputs), len(x)))
    for i in range(len(x)):
        left, outputs = np.eye(len(x))[i], np.zeros(len(inputs))
        for each in trees:
            leaf = each.apply(x)
            mean = {node: left[leaf == node].mean() for node in set(leaf)}
            outputs += rate * np.array([mean[node] for node in each.apply(inputs)])
            left = left - rate * np.array([mean[node] for node in leaf]) if boosted else left
        weights[:, i] = outputs
    return weights


def effective(weights):
    return weights.shape[1] * np.square(weights).sum(1).mean()


def test_effective_parameters_of_one_tree_are_its_leaves_on_training_inputs():
    curves = solve("decision_tree(features=sqrt)", replace(SMALL, effective_parameters=True))
    np.testing.assert_allclose(curves["train_effective_parameters"], curves["leaves"])
    assert curves["test_effective_parameters"][0] == 1, "one leaf is the mean of all labels"
    assert "test_effective_parameters" not in solve("decision_tree(features=sqrt)")


def test_effective_parameters_of_a_forest_are_those_of_its_smoother():
    (x, y), (test, _) = [(inputs[:30].astype(np.float32), labels[:30]) for inputs, labels in arrays()]
    forest = learners.random_forest(0, trees=3, bootstrap=False, leaves=6).fit(x, y)
    found = stages.effective_parameters(forest, (x, test))
    weights = [smoother(forest, x, inputs, boosted=False) for inputs in (x, test)]
    np.testing.assert_allclose(weights[1] @ (y == 1), forest.predict_proba(test)[:, 1], atol=1e-6)
    np.testing.assert_allclose(found[3], [effective(each) for each in weights], rtol=1e-5)
    assert found[1][0] == pytest.approx(6), "one tree of six leaves"


def test_effective_parameters_of_boosting_are_those_of_its_smoothers():
    (x, y), (test, _) = [(inputs[:30].astype(np.float32), labels[:30] % 2) for inputs, labels in arrays()]
    boosted = learners.l2_boosting(0, rounds=3, rate=0.5, leaves=4, members=2).fit(x, y)
    found = stages.effective_parameters(boosted, (x, test))
    of_members = [
        [[smoother(each, x, inputs, boosted=True) for inputs in (x, test)] for each in classes]
        for classes in boosted.ensembles_
    ]
    first, both = of_members[0], np.mean(of_members, axis=0)
    np.testing.assert_allclose(first[1][1] @ (y == 1), boosted.ensembles_[0][1].predict(test), atol=1e-6)
    for number, by_class in ((3, first), (4, both)):
        expected = np.mean([[effective(weights) for weights in of_class] for of_class in by_class], axis=0)
        np.testing.assert_allclose(found[number], expected, rtol=1e-5)


def test_a_learner_that_is_no_smoother_has_no_effective_parameters():
    run = replace(SMALL, effective_parameters=True)
    for text in ("svm", "random_forest(trees=2)", "gradient_boosting(rounds=2)"):
        with pytest.raises(
            ComponentError, match=r"effective parameters of .* are not known, but those of decision_tree"
        ):
            solve(text, run)


def test_effective_parameters_that_are_not_known_are_refused_before_the_fit_and_not_after_it(monkeypatch):
    monkeypatch.setattr(learner, "_fit", lambda *_: pytest.fail("it was fitted in vain"))
    run = replace(SMALL, effective_parameters=True)
    with pytest.raises(ComponentError, match="effective parameters of RandomForestClassifier are not known"):
        solve("random_forest", run)
    monkeypatch.setattr(memory, "free_of_host", lambda: 0)
    for text in ("l2_boosting", "random_forest(bootstrap=false)"):
        with pytest.raises(ComponentError, match="effective parameters need"):
            solve(text, run)


def test_effective_parameters_that_do_not_fit_into_memory_are_refused(monkeypatch):
    """Of 120 training and 60 test images there are 12 · 120 · 180 bytes of weights."""
    forest = learners.random_forest(0, trees=1, bootstrap=False).fit(*arrays()[0])
    splits = [inputs.astype(np.float32) for inputs, _ in arrays()]
    monkeypatch.setattr(memory, "free_of_host", lambda: 12 * 120 * 180 - 1)
    with pytest.raises(ComponentError, match=r"effective parameters need 0.0 GB; .* set a smaller train_size"):
        stages.effective_parameters(forest, splits)
