"""Theorem 1: the network fits any labels with 2n + d weights; its system is Lemma 1's; what ties and depth do."""

from dataclasses import replace
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import needs_real_data
from scipy.linalg import solve_triangular

from rethink_gen.data import datasets, pipeline
from rethink_gen.data.dataset import Dataset, Split
from rethink_gen.errors import DataError
from rethink_gen.runs import ExpressivityRun
from rethink_gen.solvers import theorem1
from rethink_gen.solvers.theorem1 import ReluInterpolator, _apply, _forward, _project_apart, interpolate, solve

KEY = jax.random.key(0)
EPS = np.finfo(np.float64).eps
quiet = lambda *_: None


def points_of(n, d, seed=0):
    """n points in R^d and real labels of both signs."""
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, d)), 100 * rng.standard_normal(n)


def network_of(points, labels, depth=2):
    """The network that fits the points, its parameters, and the points in order."""
    found = _project_apart(KEY, points, labels, quiet)
    offsets, weights = interpolate(found.projections, found.labels)
    return ReluInterpolator(len(weights), depth), {"a": found.direction, "b": offsets, "w": weights}, found


def system_of(params, found):
    """Lemma 1's A_ij = max(x_i - b_j, 0), whole."""
    return np.maximum(found.projections[:, None] - params["b"], 0)


def dataset_of(images, labels, num_classes=10):
    split = Split(images, np.asarray(labels, np.int32))
    return Dataset("synthetic", split, split, num_classes, "")


@pytest.mark.parametrize(
    ("n", "d", "depth"),
    [(1, 1, 2), (1, 4, 3), (2, 5, 2), (7, 1, 3), (30, 3, 2), (30, 3, 20), (200, 50, 2), (200, 50, 6)],
)
def test_any_real_labels_are_fitted_exactly(n, d, depth):
    points, labels = points_of(n, d)
    network, params, found = network_of(points, labels, depth)
    outputs = _forward(network, params, points, 50, quiet)
    terms = system_of(params, found) @ np.abs(params["w"])
    assert np.abs(outputs - labels).max() <= 16 * EPS * terms.max()  # rounding errors of a sum of such terms


@pytest.mark.parametrize("depth", [2, 3, 10])
@pytest.mark.parametrize(("n", "d"), [(1, 1), (10, 3), (37, 192)])
def test_there_are_exactly_2n_plus_d_weights_and_n_over_k_units_a_layer(n, d, depth):
    network = ReluInterpolator(n, depth)
    variables = jax.eval_shape(network.init, KEY, jax.ShapeDtypeStruct((4, d), jnp.float32))
    assert sum(leaf.size for leaf in jax.tree.leaves(variables)) == 2 * n + d
    assert network.width <= n / (depth - 1) + 4
    assert sum(map(len, network.layers)) == n


def test_the_system_is_that_of_lemma_1():
    """Lower triangular, with eigenvalues x_i - b_i > 0; its solution, by another route, is the network's weights."""
    points, labels = points_of(40, 5)
    _, params, found = network_of(points, labels)
    system = system_of(params, found)
    interleaved = np.stack([params["b"], found.projections], axis=1).ravel()
    assert (np.diff(interleaved) > 0).all()
    assert (np.triu(system, 1) == 0).all()
    assert np.allclose(sorted(np.linalg.eigvals(system).real), sorted(found.projections - params["b"]), rtol=1e-9)
    weights = solve_triangular(system, found.labels, lower=True)
    assert np.allclose(weights, params["w"], rtol=1e-6)  # two orders of elimination of a system of condition 1e9


def test_a_deep_network_is_the_same_function_away_from_the_sample_too():
    points, labels = points_of(50, 4)
    elsewhere = 3 * points_of(300, 4, seed=1)[0]
    _, params, _ = network_of(points, labels)
    by_formula = np.maximum((elsewhere @ params["a"])[:, None] - params["b"], 0) @ params["w"]
    for depth in (2, 3, 7):
        outputs = _forward(ReluInterpolator(50, depth), params, elsewhere, 70, quiet)
        assert np.allclose(outputs, by_formula, rtol=1e-9, atol=1e-9 * np.abs(by_formula).max())


def test_a_change_of_slope_dies_out_from_point_to_point():
    """One label of 1 among zeros: from an offset at a quarter of the way, slopes shrink by a factor of 3 a point."""
    x, y = np.arange(20.0), np.zeros(20)
    y[3] = 1.0
    slopes = np.cumsum(interpolate(x, y)[1])
    assert np.allclose(slopes[5:], slopes[4] / (-3.0) ** np.arange(1, 16))


def test_points_that_almost_tie_are_fitted_to_the_digits_that_are_left():
    x = np.array([0.0, 1.0, 1.0 + 1e-9, 2.0, 3.0])
    y = np.array([0.0, 9.0, 0.0, 9.0, 0.0])
    offsets, weights = interpolate(x, y)
    terms = np.maximum(x[:, None] - offsets, 0) * weights
    assert np.abs(terms.sum(1) - y).max() <= 16 * EPS * np.abs(terms).sum(1).max()
    assert np.abs(terms.sum(1) - y).max() < 1e-4  # slopes of 1e10, over distances of 1, in 16 digits


def test_projections_of_8_bit_images_are_exact():
    """In integers: 2²⁴ a and the pixels are whole numbers."""
    dataset = datasets.load("digits")
    found = _project_apart(KEY, dataset.train.images[:20], np.arange(20.0), quiet)
    a = [int(value * theorem1._RESOLUTION) for value in found.direction]
    pixels = dataset.train.images[:20].reshape(20, -1).tolist()
    exact = [Fraction(sum(x * y for x, y in zip(a, z, strict=True)), 2**24) for z in pixels]
    assert [Fraction(x) for x in found.projections] == sorted(exact)


def test_identical_images_with_one_label_are_one_point():
    images = np.random.default_rng(0).integers(0, 256, (5, 2, 2, 1), dtype=np.uint8)
    doubled = dataset_of(images[[0, 1, 2, 3, 4, 1, 1]], [3, 1, 4, 1, 5, 1, 1])
    curves, facts = solve(ExpressivityRun(), doubled, quiet)
    assert facts["num_points"] == 5
    assert curves["num_weights"] == [2 * 5 + 4]
    assert curves["train_accuracy"] == [1.0]


def test_identical_images_with_two_labels_are_refused_by_number():
    images = np.random.default_rng(0).integers(0, 256, (5, 2, 2, 1), dtype=np.uint8)
    with pytest.raises(DataError, match="images 1 and 5 are identical, but have labels 1 and 2: no function fits both"):
        solve(ExpressivityRun(), dataset_of(images[[0, 1, 2, 3, 4, 1]], [3, 1, 4, 1, 5, 2]), quiet)


@pytest.mark.parametrize("d", [64, 784, 3072])
def test_identical_images_of_float_pixels_tie_wherever_they_stand(d):
    """A product of a matrix may sum its last rows in another order: these three had different projections."""
    points, _ = points_of(7, d)
    points[[2, 5, 6]] = points[0]
    assert len(_project_apart(KEY, points, np.zeros(7), quiet).projections) == 4
    with pytest.raises(DataError, match="are identical, but have labels"):
        _project_apart(KEY, points, np.arange(7.0), quiet)


def test_where_a_direction_does_not_tell_two_images_apart_another_is_drawn():
    first = _project_apart(KEY, np.eye(2), np.zeros(2), quiet).direction
    tied = np.diag(first[::-1])  # both project to the product of the two coordinates
    found = _project_apart(KEY, tied, np.zeros(2), quiet)
    assert not np.array_equal(found.direction, first)
    assert len(found.projections) == 2


def test_images_that_no_direction_tells_apart_are_refused():
    with pytest.raises(DataError, match="none of 10 random directions separates the 2 training images"):
        _project_apart(KEY, np.array([[1.0, 1e-30], [1.0, 2e-30]]), np.zeros(2), quiet)


@pytest.mark.parametrize("depth", [2, 5])
def test_a_run_fits_random_labels_and_says_how_well(depth):
    run = ExpressivityRun(dataset="digits", train_size=200, test_size=50, depth=depth)
    ticks = []
    curves, facts = solve(run, pipeline.load(run)[0], lambda *progress: ticks.append(progress))
    row = {name: values[0] for name, values in curves.items()}
    assert (row["epoch"], row["train_accuracy"], row["num_weights"]) == (0, 1.0, 2 * 200 + 64)
    assert row["scaled_residual"] <= 16
    assert row["max_residual"] == pytest.approx(row["scaled_residual"] * EPS * row["cancellation"] * 9)  # labels: 0..9
    assert 0 < row["smallest_eigenvalue"] <= 1
    assert facts["num_features"] == 64
    assert all(0 <= step <= steps for step, steps, _ in ticks)


def test_other_work_in_the_same_process_stays_in_float32():
    points, labels = points_of(5, 3)
    network, params, _ = network_of(points, labels)
    _forward(network, params, points, 5, quiet)
    assert jnp.zeros(1).dtype == jnp.float32
    assert _apply(network, jax.tree.map(jnp.float32, params), jnp.asarray(points, jnp.float32)).dtype == jnp.float32


def test_a_seed_decides_the_direction():
    images = datasets.load("digits").train.images[:10]
    run = ExpressivityRun(dataset="digits")
    of = lambda seed: solve(replace(run, seed=seed), dataset_of(images, range(10)), quiet)[0]["cancellation"]
    assert of(0) == of(0) != of(1)


@needs_real_data("cifar10")
def test_random_labels_of_real_images_are_fitted(real_data):
    run = ExpressivityRun(train_size=5000, test_size=100)
    curves, _ = solve(run, pipeline.load(run)[0], quiet)
    assert curves["train_accuracy"] == [1.0]
    assert curves["num_weights"] == [2 * 5000 + 3072]
    assert curves["max_residual"][0] < 1e-4
