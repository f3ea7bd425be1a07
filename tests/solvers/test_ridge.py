"""Ridge regression on features: each penalty by another route, on both sides of the interpolation threshold."""

from dataclasses import replace

import numpy as np
import pytest

from rethink_gen import memory
from rethink_gen.data import datasets, pipeline
from rethink_gen.data.dataset import Dataset, Split
from rethink_gen.errors import UsageError
from rethink_gen.runs import KernelRun, RidgeRun
from rethink_gen.solvers import features, kernels, ridge
from rethink_gen.solvers.features import fourier

SMALL = RidgeRun(dataset="digits", train_size=60, test_size=40)
quiet = lambda *_: None


def all_features(run, images):
    count = int(run.features.partition("count=")[2].rstrip(")"))
    made = fourier(run, images, count=count)
    return np.concatenate([made.block(images, i) for i in range(len(made.widths))], 1).astype(float)


@pytest.mark.parametrize("count", [20, 60, 150])
def test_each_penalty_is_the_solution_of_an_extended_least_squares_problem(count, monkeypatch):
    """min ‖Zw - Y‖² + λ‖w‖² is least squares with √λ I below Z. 150 features come in two blocks."""
    monkeypatch.setattr(features, "WAVES_OF_A_BLOCK", 100)
    run = replace(SMALL, features=f"fourier(count={count})")
    dataset, _ = pipeline.load(run)
    curves, facts = ridge.solve(run, dataset, quiet)
    z, test = (all_features(run, split.images) for split in (dataset.train, dataset.test))
    y = np.eye(10)[dataset.train.labels]
    for i, penalty in enumerate(curves["penalty"]):
        extended = np.concatenate([z, np.sqrt(penalty) * np.eye(count)])
        w = np.linalg.lstsq(extended, np.concatenate([y, np.zeros((count, 10))]), rcond=None)[0]
        assert curves["weight_norm"][i] == pytest.approx(np.linalg.norm(w), rel=1e-4)
        assert curves["train_loss"][i] == pytest.approx(np.square(z @ w - y).sum(1).mean(), rel=1e-4, abs=1e-9)
        assert curves["test_accuracy"][i] == ((test @ w).argmax(1) == dataset.test.labels).mean()
    assert facts["num_features"] == count
    assert curves["penalty"][-1] == 0
    assert (curves["train_loss"][-1] < 1e-9) == (count >= 60), "from N = n on, every label is fitted"


@pytest.mark.parametrize("count", [20, 60, 1500])
def test_each_number_of_components_is_least_squares_on_projected_features(count):
    """The other route: a singular value decomposition of Z, and `lstsq` on Z projected to its first k right vectors. An
    effective parameter is read off a smoother that `pinv` gives, and of training inputs it is a component.
    """
    run = replace(SMALL, features=f"fourier(count={count})", path="components")
    dataset, _ = pipeline.load(run)
    curves, facts = ridge.solve(run, dataset, quiet)
    z, test = (all_features(run, split.images) for split in (dataset.train, dataset.test))
    y = np.eye(10)[dataset.train.labels]
    right = np.linalg.svd(z, full_matrices=False)[2]
    assert (curves["components"][-1], facts["num_features"]) == (min(60, count), count)
    for i, k in enumerate(map(int, curves["components"])):
        projected, shown = z @ right[:k].T, test @ right[:k].T
        w = np.linalg.lstsq(projected, y, rcond=None)[0]
        smoother = shown @ np.linalg.pinv(projected)
        assert curves["weight_norm"][i] == pytest.approx(np.linalg.norm(w), rel=1e-4)
        assert curves["test_accuracy"][i] == ((shown @ w).argmax(1) == dataset.test.labels).mean()
        assert curves["test_effective_parameters"][i] == pytest.approx(60 / 40 * np.square(smoother).sum(), rel=1e-4)
        assert curves["train_effective_parameters"][i] == pytest.approx(k, rel=1e-6)
    least_norm, _ = ridge.solve(replace(run, path="penalties"), dataset, quiet)
    assert curves["test_loss"][-1] == pytest.approx(least_norm["test_loss"][-1], rel=1e-5)


def test_a_path_that_is_unknown_is_refused():
    with pytest.raises(UsageError, match="no path named 'component'; did you mean 'components'"):
        RidgeRun(path="component")


def test_many_features_are_near_the_gaussian_kernel():
    run = replace(SMALL, features="fourier(count=20000)")
    dataset, _ = pipeline.load(run)
    ours, _ = ridge.solve(run, dataset, quiet)
    kernel = KernelRun(dataset="digits", train_size=60, test_size=40, gamma=0.02, weight_decay=1.0)
    theirs, _ = kernels.solve(kernel, dataset, quiet)
    assert ours["test_loss"][1] == pytest.approx(theirs["test_loss"][0], rel=0.02)


def test_a_larger_count_begins_with_the_features_of_a_smaller():
    images = datasets.load("digits").train.images[:5]
    small, large = (fourier(SMALL, images, count=count) for count in (10, 2000))
    scaled = np.sqrt(2000 / 10) * np.asarray(large.block(images, 0))[:, :10]
    np.testing.assert_allclose(small.block(images, 0), scaled, rtol=1e-4, atol=1e-6)


def test_equal_images_have_the_solution_of_least_norm():
    """ZZᵀ is then singular: of two equal images with different labels, the outputs are the mean of their targets."""
    images = np.repeat(datasets.load("digits").train.images[:3], 2, axis=0)
    labels = np.array([0, 1, 2, 2, 3, 3], np.int32)
    dataset = Dataset("twins", Split(images, labels), Split(images, labels), 4, "")
    curves, facts = ridge.solve(RidgeRun(dataset="digits", features="fourier(count=50)"), dataset, quiet)
    assert facts["least_norm_by"] == "eigenvalues"
    assert curves["train_loss"][-1] == pytest.approx(2 * 0.5 / 6)


@pytest.mark.parametrize("twin", [3, 9, 10])
def test_two_equal_images_among_many_have_the_solution_of_least_norm(twin):
    """Cholesky took the rounding of a pivot of zero for a pivot: weights had the norm 1e8, and labels the loss 4."""
    dataset, _ = pipeline.load(RidgeRun(dataset="digits", train_size=100, test_size=10))
    images, labels = dataset.train.images.copy(), dataset.train.labels.copy()
    images[99], labels[99] = images[twin], (labels[twin] + 1) % 10
    dataset = replace(dataset, train=Split(images, labels))
    curves, facts = ridge.solve(RidgeRun(dataset="digits", features="fourier(count=400)", seed=twin), dataset, quiet)
    assert facts["least_norm_by"] == "eigenvalues"
    assert curves["train_loss"][-1] == pytest.approx(2 * 0.5 / 100)
    assert curves["weight_norm"][-1] < 1000


def test_a_problem_that_does_not_fit_is_refused(monkeypatch):
    monkeypatch.setattr(memory, "free", lambda: 1000)
    dataset, _ = pipeline.load(SMALL)
    with pytest.raises(UsageError, match=r"60 images with 1000 features need .* set a smaller train_size"):
        ridge.solve(SMALL, dataset, quiet)


def test_features_that_need_a_kernel_run_say_so():
    dataset, _ = pipeline.load(SMALL)
    with pytest.raises(UsageError, match="features of a KernelRun"):
        ridge.solve(replace(SMALL, features="random_convolutions"), dataset, quiet)
