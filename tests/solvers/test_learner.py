"""Learners without gradients: their curves against separate fits of scikit-learn, and what a learner must be."""

import sys
import threading
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from fits import SMALL, arrays, quiet, solve
from sklearn import ensemble, linear_model, neighbors, svm, tree
from threadpoolctl import threadpool_limits

import rethink_gen as rg
from rethink_gen import memory, registry
from rethink_gen.data import pipeline
from rethink_gen.data.dataset import Dataset, Split
from rethink_gen.errors import ComponentError, Interrupted, UsageError
from rethink_gen.execution import processes, scheduler
from rethink_gen.results.failing import Failure
from rethink_gen.runs import LearnerRun
from rethink_gen.solvers import learner, learners, stages


@pytest.fixture
def own(monkeypatch):
    """What a test registers is gone after it."""
    monkeypatch.setitem(registry.COMPONENTS, "learner", dict(registry.COMPONENTS["learner"]))


def scores(estimator):
    """Train and test accuracy of one fit of scikit-learn."""
    train, test = arrays()
    with threadpool_limits(1):
        estimator.fit(*train)
        return estimator.score(*train), estimator.score(*test)


def at(curves, stage):
    """Train and test accuracy of a stage."""
    i = curves["epoch"].index(stage)
    return curves["train_accuracy"][i], curves["test_accuracy"][i]


@pytest.mark.parametrize(
    ("text", "build"),
    [
        ("random_forest(trees=9)", lambda trees: ensemble.RandomForestClassifier(trees, random_state=0)),
        (
            "random_forest(bootstrap=false,trees=9)",
            lambda trees: ensemble.RandomForestClassifier(trees, bootstrap=False, random_state=0),
        ),
        ("extra_trees(trees=9)", lambda trees: ensemble.ExtraTreesClassifier(trees, random_state=0)),
        (
            "adaboost(depth=3,rounds=9)",
            lambda rounds: ensemble.AdaBoostClassifier(
                tree.DecisionTreeClassifier(max_depth=3), n_estimators=rounds, random_state=0
            ),
        ),
        (
            "gradient_boosting(rounds=9)",
            lambda rounds: ensemble.HistGradientBoostingClassifier(
                max_iter=rounds, early_stopping=False, random_state=0
            ),
        ),
        (
            "decision_tree(features=sqrt,leaves=9)",
            lambda leaves: tree.DecisionTreeClassifier(max_leaf_nodes=leaves, max_features="sqrt", random_state=0),
        ),
    ],
)
def test_each_stage_is_a_fit_of_that_many_trees_rounds_or_leaves(text, build):
    curves = solve(text)
    for stage in (2, 5, 9):
        assert at(curves, stage) == scores(build(stage))
    assert curves["epoch"][-1] == 9


def test_each_stage_of_lightgbm_is_a_fit_of_that_many_rounds():
    lightgbm = pytest.importorskip(
        "lightgbm", reason="LightGBM is not installed: pip install lightgbm", exc_type=Exception
    )
    curves = solve("lightgbm(leaves=4,rounds=5)")
    for rounds in (1, 3, 5):
        fitted = lightgbm.LGBMClassifier(n_estimators=rounds, num_leaves=4, random_state=0, n_jobs=1, verbose=-1)
        assert at(curves, rounds) == scores(fitted)
        leaves = fitted.booster_.trees_to_dataframe()["left_child"].isna().sum()
        assert curves["leaves"][rounds - 1] == leaves


def test_the_trees_of_lightgbm_are_asked_once_and_not_again_in_each_later_round():
    """So that the time of all stages does not grow with the square of the rounds."""
    pytest.importorskip("lightgbm", reason="LightGBM is not installed: pip install lightgbm", exc_type=Exception)
    (x, y), _ = arrays()
    for labels in (y, y % 2):
        fitted, asked = learners.lightgbm(0, rounds=4, leaves=4).fit(x, labels), []
        whole = [fitted.predict_proba(x, num_iteration=number) for number in range(1, 5)]
        predict = fitted.predict_proba
        fitted.predict_proba = lambda *a, predict=predict, asked=asked, **k: asked.append(k) or predict(*a, **k)
        np.testing.assert_allclose(list(fitted.staged_predict_proba(x)), whole, rtol=1e-6)
        assert sum(each["num_iteration"] for each in asked) == 4


def test_lightgbm_that_is_missing_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "lightgbm", None)
    with pytest.raises(UsageError, match="learner lightgbm needs LightGBM: pip install lightgbm"):
        solve("lightgbm")


@pytest.mark.parametrize(
    ("text", "estimator", "parts"),
    [
        ("nearest_neighbors(neighbors=3)", neighbors.KNeighborsClassifier(3), ("stored_examples", 120)),
        ("svm(C=10)", svm.SVC(C=10), ("support_vectors", None)),
        ("logistic_regression", linear_model.LogisticRegression(max_iter=2000), ("weights", 65 * 10)),
    ],
)
def test_a_learner_without_stages_has_one_row(text, estimator, parts):
    curves = solve(text)
    assert curves["epoch"] == [1]
    assert at(curves, 1) == scores(estimator)
    name, count = parts
    assert curves[name] == [count or len(estimator.support_)]


def test_stacking_is_that_of_scikit_learn():
    made = solve("stacking(folds=2,trees=3)")
    assert at(made, 1) == scores(learners.stacking(0, folds=2, trees=3))


def test_leaves_are_those_of_separate_fits():
    (x, y), _ = arrays()
    forest = ensemble.RandomForestClassifier(3, random_state=0).fit(x, y)
    assert solve("random_forest(trees=3)")["leaves"][-1] == sum(each.get_n_leaves() for each in forest.estimators_)
    assert solve("decision_tree(leaves=7)")["leaves"] == [1, 2, 3, 4, 5, 6, 7]
    assert solve("adaboost(rounds=4)")["leaves"] == [2, 4, 6, 8], "a stump has two leaves"


def test_squared_loss_of_a_leaf_is_that_of_its_shares():
    """One leaf: of labels 0, 0, 0, 1 the shares are 3/4 and 1/4; ‖p - y‖² is 2/16 three times and 18/16 once."""
    split = Split(np.arange(4, dtype=np.float32).reshape(4, 1, 1, 1), np.array([0, 0, 0, 1], np.int32))
    curves = solve("decision_tree(leaves=2)", dataset=Dataset("four", split, split, 2, "", split.labels))
    assert curves["train_loss"] == [pytest.approx((3 * 2 + 18) / 16 / 4), 0]
    assert curves["train_accuracy"] == [0.75, 1]


def test_l2_boosting_is_one_regression_for_each_class_and_then_a_mean():
    (x, y), (test, labels) = arrays()
    ours = learners.L2Boosting(rounds=4, rate=0.5, leaves=4, members=2, random_state=0).fit(x, y)
    *first, last = ours.staged_predict_proba(test)
    for i, each in enumerate(ours.ensembles_[0]):  # the sum of its trees, by hand
        seed = each.random_state
        alone = ensemble.GradientBoostingRegressor(
            n_estimators=4, learning_rate=0.5, max_leaf_nodes=4, max_depth=None, max_features="sqrt", init="zero",
            random_state=seed,
        ).fit(x, y == i)  # fmt: skip
        np.testing.assert_allclose(first[-1][:, i], alone.predict(test))
        np.testing.assert_allclose(first[0][:, i], 0.5 * alone.estimators_[0, 0].predict(test))
    assert len(first) == 4
    second = np.stack([each.predict(test) for each in ours.ensembles_[1]], axis=1)
    np.testing.assert_allclose(last, (first[-1] + second) / 2)
    np.testing.assert_allclose(ours.predict_proba(test), last)
    curves = solve("l2_boosting(leaves=4,members=2,rate=0.5,rounds=4)")
    assert curves["test_accuracy"][-1] == (ours.predict(test) == labels).mean()
    assert np.diff([0, *curves["leaves"]]).tolist() == [40, 40, 40, 40, 160]


def test_long_axes_are_measured_at_forty_stages_and_every_ensemble():
    numbers = stages.measured(learners.L2Boosting(rounds=1, members=2).fit(*arrays()[0]))
    assert numbers == [1, 2]
    many = SimpleNamespace(rounds=200, ensembles_=[None] * 20, staged_predict_proba=print)
    assert stages.measured(many)[-20:] == [200, *range(201, 220)]
    assert len(stages.measured(many)) <= 40 + 19


def test_classes_without_an_example_are_never_predicted_and_count_in_the_loss():
    images = np.arange(3, dtype=np.float32).reshape(3, 1, 1, 1)
    train, test = Split(images[:2], np.array([0, 2], np.int32)), Split(images, np.array([0, 1, 2], np.int32))
    curves = solve("random_forest(bootstrap=false,trees=1)", dataset=Dataset("gap", train, test, 3, "", train.labels))
    assert curves["train_accuracy"] == [1]
    assert curves["test_accuracy"] == [2 / 3]
    assert curves["test_loss"] == [pytest.approx(2 / 3)], "the wrong one has ‖p - y‖² = 2"


def test_a_run_is_the_same_again_and_another_with_another_seed():
    text = "random_forest(trees=5)"
    again = [{**solve(text, run), "seconds_fit": None} for run in (SMALL, SMALL, replace(SMALL, seed=1))]
    assert again[0] == again[1]
    assert again[0] != again[2]


def test_threads_do_not_change_numbers():
    for text in ("random_forest(trees=5)", "gradient_boosting(rounds=3)"):
        one, two = ({**solve(text, replace(SMALL, threads=n)), "seconds_fit": None} for n in (1, 2))
        assert one == two


def test_a_learner_run_goes_through_the_door_of_all_runs():
    run = replace(SMALL, learner="random_forest(trees=2)", seed=1)
    [result] = scheduler.execute([run])
    assert result.id.startswith("random_forest-random_labels-corruption_level=0.5-seed=1-")
    assert result.provenance["num_train"] == 120
    assert result.curves["epoch"] == [1, 2]


def test_learners_share_the_cores_by_their_threads(monkeypatch):
    monkeypatch.delenv("NPROC", raising=False)
    monkeypatch.setattr(processes.machine, "count_cores", lambda: 8)
    monkeypatch.setattr(processes.machine, "accelerated", lambda: False)
    runs = rg.grid(SMALL, seed=range(20))
    assert processes.count(runs) == 8
    assert processes.count([replace(run, threads=3) for run in runs]) == 2
    assert processes.count(runs[:3]) == 3


def test_smoke_scale_has_few_trees_and_rounds():
    small = LearnerRun(learner="adaboost(depth=8,rounds=500)").shrunk
    assert (small.learner, small.dataset) == ("adaboost(depth=8,rounds=5)", "digits")
    assert LearnerRun(learner="random_forest(trees=3)").shrunk.learner == "random_forest(trees=3)"
    assert LearnerRun(learner="random_forest").shrunk.learner == "random_forest(trees=5)"
    assert LearnerRun(learner="svm(C=5)").shrunk.learner == "svm(C=5)"


def test_a_stop_is_answered_while_a_learner_works(own):
    """A signal is noted, and the progress raises: without a thread nothing would ask until the fit has ended."""
    begun, end = threading.Event(), threading.Event()

    class Slow:
        def fit(self, x, y):
            begun.set()
            end.wait(60)

        def predict(self, x):
            return np.zeros(len(x), int)

    @rg.register.learner
    def slow():
        return Slow()

    def stop(*_):
        if begun.is_set():
            raise Interrupted("stopped")

    run = replace(SMALL, learner="slow")
    with pytest.raises(Interrupted):
        learner.solve(run, pipeline.load(run)[0], stop)
    assert not end.is_set()
    end.set()


def test_seed_and_threads_reach_a_learner_that_names_neither(own):
    @rg.register.learner
    def bagged(*, count=3):
        return ensemble.BaggingClassifier(tree.DecisionTreeClassifier(), n_estimators=count)

    made = learner._create(replace(SMALL, learner="bagged(count=2)", seed=7, threads=2))
    assert (made.random_state, made.estimator.random_state, made.n_jobs) == (7, 7, 2)
    assert made.n_estimators == 2


@pytest.mark.parametrize(
    ("made", "line"),
    [
        (lambda: 3, "must return a classifier with fit and predict, not int"),
        (lambda: linear_model.LinearRegression(), "must predict a label of 0 to 9 for each image"),
        (lambda: 1 / 0, "learner 'wrong' failed: ZeroDivisionError: division by zero"),
    ],
)
def test_a_learner_that_is_no_classifier_is_named_and_others_go_on(own, made, line):
    registry.add("learner", "wrong", made)
    good = replace(SMALL, learner="nearest_neighbors")
    failed, done = sorted(
        scheduler.execute([replace(SMALL, learner="wrong"), good]), key=lambda each: not isinstance(each, Failure)
    )
    assert line in failed.reason
    assert done.run == good


def test_what_a_learner_warns_of_is_kept(own):
    @rg.register.learner
    def hasty():
        return linear_model.LogisticRegression(max_iter=1)

    run = replace(SMALL, learner="hasty")
    [told] = learner.solve(run, pipeline.load(run)[0], quiet)[1]["warnings"]
    assert told.startswith("lbfgs failed to converge after 1 iteration")


def test_corrupted_examples_have_three_fates():
    """A tree to the last leaf classifies each as given; its root, a single leaf, all as the most frequent label."""
    dataset = pipeline.load(SMALL)[0]
    curves = solve("decision_tree")
    assert curves["train_accuracy_corrupted"][-1] == curves["train_accuracy_untouched"][-1] == 1
    assert curves["train_recovered"][-1] == 0
    root = np.bincount(dataset.train.labels).argmax()
    assert curves["train_recovered"][0] == (dataset.true_labels[dataset.changed] == root).mean()
    assert curves["train_accuracy_untouched"][0] == (dataset.train.labels[~dataset.changed] == root).mean()
    assert solve("nearest_neighbors", replace(SMALL, corruption_level=0.0))["train_recovered"] == [None]


def test_sizes_that_a_learner_cannot_do_are_refused_in_a_line(monkeypatch):
    monkeypatch.setattr(learner, "_MOST_FOR_SVM", 100)
    with pytest.raises(ComponentError, match=r"'svm' would take hours on 120 images: set train_size=100"):
        solve("svm")
    monkeypatch.setattr(memory, "free_of_host", lambda: 10_000)
    with pytest.raises(ComponentError, match=r"'random_forest' needs .* GB; .* are free: set fewer trees or a smaller"):
        solve("random_forest")


def test_options_out_of_range_are_refused_before_anything_runs():
    with pytest.raises(UsageError, match=r"learner adaboost: depth must be in \[0.01, 10000\], got 0"):
        rg.run(replace(SMALL, learner="adaboost(depth=0)"))
    with pytest.raises(UsageError, match="no learner named 'forest'; did you mean 'random_forest'"):
        rg.run(replace(SMALL, learner="forest"))
    with pytest.raises(UsageError, match="no features of a split named 'half'"):
        solve("decision_tree(features=half)")
