"""A linear student of a linear teacher: its solutions, its error, and the theory, each by another route."""

import numpy as np
import pytest

from rethink_gen.errors import UsageError
from rethink_gen.execution import scheduler
from rethink_gen.runs import TeacherRun
from rethink_gen.solvers import teacher

RNG = np.random.default_rng(0)


@pytest.mark.parametrize(("n", "p"), [(7, 4), (4, 7)])
def test_a_path_is_the_solution_of_each_penalty(n, p):
    x, y = RNG.standard_normal((n, p)), RNG.standard_normal(n)
    strong, none = teacher._ridge_path(x, y, [0.3, 0.0])
    assert np.allclose(strong, np.linalg.solve(x.T @ x + 0.3 * np.eye(p), x.T @ y))
    assert np.allclose(none, np.linalg.pinv(x) @ y)


def test_the_transform_is_the_mean_over_the_eigenvalues_of_a_large_matrix():
    x = RNG.standard_normal((1200, 600))
    eigenvalues = np.linalg.eigvalsh(x.T @ x / 1200)
    m, slope = teacher._marchenko_pastur(0.5, 0.2)
    assert m == pytest.approx((1 / (eigenvalues + 0.2)).mean(), rel=0.01)
    assert slope == pytest.approx((1 / (eigenvalues + 0.2) ** 2).mean(), rel=0.01)


@pytest.mark.parametrize(("n", "p"), [(50, 20), (20, 50), (40, 40)])
def test_the_best_penalty_is_the_best(n, p):
    at = [teacher.predicted_risk(n, p, 60, 0.5, penalty) for penalty in (0.8, 1.0, 1.25)]
    assert at[1] < min(at[0], at[2])


@pytest.mark.parametrize(("n", "p"), [(400, 100), (100, 400)])
def test_a_small_penalty_leads_to_least_norm(n, p):
    """In the limit of large sizes; the exact formula of least norm has n - p - 1 for n - p."""
    ridge, exact = (teacher.predicted_risk(n, p, 400, 0.5, penalty) for penalty in (1e-6, 0.0))
    assert ridge == pytest.approx(exact, rel=0.01)


def test_theory_is_infinite_at_the_peak_alone():
    risks = [teacher.predicted_risk(n, 10, 10, 0.5, 0.0) for n in range(7, 14)]
    assert np.isfinite(risks).tolist() == [True, True, False, False, False, True, True]


def test_measured_errors_are_those_of_theory():
    run = TeacherRun(train_size=30, dimension=60, num_features=20, draws=400)
    curves, _ = teacher.solve(run, None, lambda *_: None)
    off = np.subtract(curves["excess_risk"], curves["predicted_risk"])
    assert (np.abs(off) <= 4 * np.array(curves["excess_risk_sem"]) + 0.02).all()  # 20 and 30 are not quite infinite
    assert curves["relative_penalty"][-1] == 0.0


def test_a_teacher_run_goes_through_the_door_of_all_runs():
    run = TeacherRun(train_size=5, dimension=8, draws=3)
    [first], [again] = scheduler.execute([run]), scheduler.execute([run])
    assert first.curves == again.curves
    assert first.curves["train_loss"][-1] < 1e-20
    assert (first.provenance["num_train"], first.provenance["num_test"]) == (5, 0)
    assert "data_sha256" not in first.provenance


@pytest.mark.parametrize(
    "wrong", [{"dataset": "mnist"}, {"corruption": "random_labels"}, {"test_size": 9}, {"train_size": None}]
)
def test_what_a_teacher_run_has_no_use_for_is_refused(wrong):
    with pytest.raises(UsageError, match="a teacher run"):
        TeacherRun(dimension=8, **wrong)
