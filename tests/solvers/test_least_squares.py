"""SGD on least squares: its steps, the solutions it may find, and that it finds the one its start predicts."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rethink_gen.data import pipeline
from rethink_gen.data.dataset import Dataset, Split
from rethink_gen.errors import UsageError
from rethink_gen.runs import LeastSquaresRun
from rethink_gen.solvers import least_squares
from rethink_gen.solvers.least_squares import _all_solutions, _Problem, _shown_epochs, _State, _train_epochs, solve

KEY = jax.random.key(0)
quiet = lambda *_: None


def problem_of(n=4, d=7, num_classes=3, step_size=0.05, momentum=0.0):
    """Gaussian examples and targets, and where a descent starts, all float32."""
    rng = np.random.default_rng(0)
    x, y, w = (rng.standard_normal(shape).astype(np.float32) for shape in ((n, d), (n, num_classes), (num_classes, d)))
    return _Problem(jnp.asarray(x), jnp.asarray(y), KEY, jnp.float32(step_size), jnp.float32(momentum)), w


def descend(problem, w, epochs, batch_size):
    state = _State(jnp.int32(0), jnp.asarray(w), jnp.zeros_like(w))
    return np.asarray(_train_epochs(batch_size, problem, state, epochs).w)


def dataset_of(n=12, size=6):
    """Images of noise: well-conditioned, so that SGD converges within a few hundred epochs."""
    images = np.random.default_rng(0).integers(0, 256, (2 * n, size, size, 1), dtype=np.uint8)
    labels = np.arange(2 * n, dtype=np.int32) % 3
    return Dataset("synthetic", Split(images[:n], labels[:n]), Split(images[n:], labels[n:]), 3, "")


def test_the_solution_of_least_norm_is_the_pseudo_inverses():
    problem, w = problem_of()
    x, y = np.asarray(problem.x, np.float64), np.asarray(problem.y, np.float64)
    solutions = _all_solutions(x, y)
    pinv = np.linalg.pinv(x)
    assert np.allclose(solutions.least, (pinv @ y).T)
    assert np.allclose(solutions.outside(w), w - w @ pinv @ x)
    assert np.allclose(x @ solutions.outside(w).T, 0)
    assert solutions.condition == pytest.approx(np.linalg.cond(x @ x.T))


@pytest.mark.parametrize(("batch_size", "momentum"), [(1, 0.0), (2, 0.9), (3, 0.5)])
def test_steps_are_those_of_sgd_one_after_the_other(batch_size, momentum):
    """Three epochs by hand, in the same order; of four examples, batches of three leave out the last."""
    problem, w = problem_of(momentum=momentum)
    found = descend(problem, w, 3, batch_size)
    velocity = np.zeros_like(w)
    for epoch in range(3):
        order = np.asarray(jax.random.permutation(jax.random.fold_in(KEY, epoch), 4))
        for batch in order[: 4 - 4 % batch_size].reshape(-1, batch_size):
            gradients = [np.outer(w @ problem.x[i] - problem.y[i], problem.x[i]) for i in batch]
            velocity = momentum * velocity + np.mean(gradients, axis=0)
            w = w - 0.05 * velocity
    assert np.allclose(found, w, atol=1e-5)


def test_whole_batches_follow_the_closed_form_of_gradient_descent():
    """W_k - W = (W₀ - W) (I - η XᵀX / n)ᵏ, for any solution W."""
    problem, w = problem_of(step_size=0.1)
    x = np.asarray(problem.x, np.float64)
    least = (np.linalg.pinv(x) @ np.asarray(problem.y)).T
    contraction = np.linalg.matrix_power(np.eye(7) - 0.1 * x.T @ x / 4, 50)
    assert np.allclose(descend(problem, w, 50, 4), least + (w - least) @ contraction, atol=1e-5)


@pytest.mark.parametrize(("batch_size", "momentum"), [(1, 0.0), (4, 0.9)])
def test_from_zero_sgd_finds_the_solution_of_least_norm(batch_size, momentum):
    run = LeastSquaresRun(batch_size=batch_size, momentum=momentum, epochs=400)
    curves, _ = solve(run, dataset_of(), quiet)
    x = least_squares._features(dataset_of().train)
    least = np.linalg.norm(np.linalg.pinv(x) @ np.eye(3)[dataset_of().train.labels])
    assert curves["minimum_norm"][-1] == pytest.approx(least)
    assert curves["weight_norm"][0] == 0
    assert curves["distance"][0] == 1
    assert curves["distance"][-1] < 1e-4
    assert curves["weight_norm"][-1] == pytest.approx(least, rel=1e-4)
    assert curves["train_loss"][0] == 0.5  # of one-hot rows and outputs of zero
    assert (curves["train_loss"][-1], curves["train_accuracy"][-1]) == (pytest.approx(0, abs=1e-8), 1.0)


@pytest.mark.parametrize("scale", [0.01, 1.0])
def test_from_elsewhere_it_ends_as_far_away_as_arithmetic_says(scale):
    """The examples span 12 of 36 dimensions; what a start of 36 × 3 normal weights has in the others stays."""
    curves, _ = solve(LeastSquaresRun(initial_scale=scale, epochs=400), dataset_of(), quiet)
    predicted = curves["predicted_distance"][-1]
    assert predicted * curves["minimum_norm"][-1] == pytest.approx(scale * np.sqrt(24 * 3), rel=0.3)
    assert curves["distance"][0] > curves["distance"][-1] == pytest.approx(predicted, rel=1e-4)
    assert curves["null_space_norm"] == pytest.approx(curves["predicted_distance"], rel=1e-4)
    assert curves["distance_to_limit"][-1] < 1e-4 * max(1, predicted)
    norm = np.hypot(1, predicted) * curves["minimum_norm"][-1]  # the two parts are orthogonal
    assert curves["weight_norm"][-1] == pytest.approx(norm, rel=1e-4)
    assert curves["train_accuracy"][-1] == 1


def test_a_run_reports_its_progress_and_ends_at_its_last_epoch():
    run = LeastSquaresRun(dataset="digits", train_size=20, test_size=30, epochs=2500)
    ticks = []
    curves, facts = solve(run, pipeline.load(run)[0], lambda *progress: ticks.append(progress))
    assert curves["epoch"] == _shown_epochs(2500)
    assert curves["step"][-1] == 20 * 2500
    assert all(later[0] - earlier[0] <= 1000 for earlier, later in itertools.pairwise(ticks))
    assert ticks[-1][:2] == (2500, 2500)
    assert "distance" in ticks[-1][2]
    assert facts["step_size"] == pytest.approx(1 / 64, rel=1e-3)  # whitened: 64 pixels of variance 1


def test_epochs_are_shown_from_the_first_to_the_last():
    assert _shown_epochs(1) == [0, 1]
    assert _shown_epochs(10)[:6] == [0, 1, 2, 3, 4, 5]
    for epochs in (2, 10, 99, 3000):
        shown = _shown_epochs(epochs)
        assert (shown[0], shown[-1]) == (0, epochs)
        assert (np.diff(shown) > 0).all()
    assert len(_shown_epochs(10_000)) < 50


def test_more_examples_than_features_are_refused_and_so_are_identical_ones():
    with pytest.raises(UsageError, match=r"37 training images of 36 values .* train_size below 36"):
        solve(LeastSquaresRun(), dataset_of(n=37), quiet)
    dataset = dataset_of()
    dataset.train.images[1] = dataset.train.images[0]
    with pytest.raises(UsageError, match="smaller train_size"):
        solve(LeastSquaresRun(), dataset, quiet)


def test_a_learning_rate_that_diverges_is_named():
    assert solve(LeastSquaresRun(learning_rate=1.9, epochs=5), dataset_of(), quiet)
    with pytest.raises(UsageError, match=r"learning_rate, 30; below 2 without momentum"):
        solve(LeastSquaresRun(learning_rate=30, epochs=100), dataset_of(), quiet)
