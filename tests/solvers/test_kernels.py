"""Kernel machines, beside SciPy in float64 and closed forms; their features are in test_features.py."""

import os
import subprocess
import sys
from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
from scipy.spatial.distance import cdist

from rethink_gen.data import datasets
from rethink_gen.data.dataset import Dataset, Split
from rethink_gen.errors import Interrupted, UsageError
from rethink_gen.execution import scheduler
from rethink_gen.runs import KernelRun
from rethink_gen.solvers import kernels, linear_algebra
from rethink_gen.solvers.features import Features
from rethink_gen.solvers.linear_algebra import Matrix, Meter

DIGITS = KernelRun(dataset="digits", gamma=0.2)
QUIET = Meter(lambda step, steps, metrics: None, 1.0)
quiet = lambda step, steps, metrics: None


@pytest.fixture(scope="module")
def digits() -> Dataset:
    whole = datasets.load("digits")
    cut = lambda split, n: Split(split.images[:n], split.labels[:n])
    return replace(whole, train=cut(whole.train, 160), test=cut(whole.test, 80))  # parts of one size: compiled once


def reference(run: KernelRun, dataset: Dataset) -> dict[str, float]:
    """What `solve` measures, by SciPy in float64."""
    x, z = (split.images.reshape(len(split.images), -1) / 255.0 for split in (dataset.train, dataset.test))
    k = {
        "gaussian": lambda a, b: np.exp(-run.gamma * cdist(a, b, "sqeuclidean")),
        "laplacian": lambda a, b: np.exp(-run.gamma * cdist(a, b)),
        "linear": lambda a, b: a @ b.T,
    }[run.kernel]
    y = np.eye(dataset.num_classes)[dataset.train.labels]
    ridge = k(x, x) + run.weight_decay * np.eye(len(x))
    alpha, signed = np.linalg.solve(ridge, y), np.linalg.solve(ridge, 2 * y - 1)
    outputs, test_outputs = k(x, x) @ alpha, k(z, x) @ alpha
    return {
        "train_loss": ((outputs - y) ** 2).sum(1).mean(),
        "train_accuracy": (outputs.argmax(1) == dataset.train.labels).mean(),
        "test_loss": ((test_outputs - np.eye(dataset.num_classes)[dataset.test.labels]) ** 2).sum(1).mean(),
        "test_accuracy": (test_outputs.argmax(1) == dataset.test.labels).mean(),
        "l2_norm": np.sqrt(np.trace(alpha.T @ k(x, x) @ alpha)),
        "signed_norm": np.sqrt(np.trace(signed.T @ k(x, x) @ signed)),
        "coefficient_norm": np.mean([np.linalg.norm(alpha[:, k]) for k in range(alpha.shape[1])]),
        "total_coefficient_norm": np.linalg.norm(alpha),
    }


@pytest.mark.parametrize("solver", linear_algebra.SOLVERS)
@pytest.mark.parametrize(
    ("kernel", "weight_decay"), [("gaussian", 0.0), ("gaussian", 0.1), ("laplacian", 0.0), ("linear", 0.5)]
)
def test_solutions_are_those_of_float64(digits, solver, kernel, weight_decay):
    run = replace(DIGITS, solver=solver, kernel=kernel, weight_decay=weight_decay)
    curves, facts = kernels.solve(run, digits, quiet)
    found = {name: values[0] for name, values in curves.items()}
    assert facts["solver"] == solver
    assert found.pop("residual") < 2 * linear_algebra._TOLERANCE
    assert found.pop("epoch") == 0
    assert found == pytest.approx(reference(run, digits), rel=2e-3, abs=1e-6)


@pytest.mark.parametrize("gamma", [0.2, 0.001])
def test_in_float64_all_numbers_are_those_of_scipy(digits, gamma):
    """Also where float32 is off by 1 % and more; features of eight-bit values over 255 are float32."""
    run = replace(DIGITS, gamma=gamma, precision="float64")
    curves, facts = kernels.solve(run, digits, quiet)
    found = {name: values[0] for name, values in curves.items()}
    assert facts["precision"] == "float64"
    assert found.pop("residual") < 1e-8
    assert found.pop("epoch") == 0
    assert found == pytest.approx(reference(run, digits), rel=1e-3 if gamma < 0.01 else 1e-5, abs=1e-12)


def test_float64_solves_a_kernel_that_float32_says_is_singular(digits):
    wide = replace(DIGITS, gamma=1e-5)
    with pytest.raises(np.linalg.LinAlgError, match=r"singular in float32: .*; set precision=float64, "):
        kernels.solve(wide, digits, quiet)
    curves, _ = kernels.solve(replace(wide, precision="float64"), digits, quiet)
    assert curves["train_accuracy"] == [1.0]
    assert curves["residual"][0] < 1e-4


def test_a_run_in_float64_leaves_the_next_one_in_float32(digits):
    alone = kernels.solve(DIGITS, digits, quiet)[0]
    kernels.solve(replace(DIGITS, precision="float64"), digits, quiet)
    assert kernels.solve(DIGITS, digits, quiet)[0] == alone
    assert jnp.ones(1).dtype == jnp.float32


def test_iterations_in_float64_have_the_limit_of_the_solution(digits):
    run = replace(DIGITS, kernel="linear", weight_decay=10.0, precision="float64")
    curves, _ = kernels.solve(replace(run, iterations=100), digits, quiet)
    solved, _ = kernels.solve(run, digits, quiet)
    assert curves["l2_norm"][-1] == pytest.approx(solved["l2_norm"][0], rel=1e-9)


def test_four_norms_of_two_orthogonal_examples():
    """With K = I, α is Y: one-hot √2, ±1 labels √4; each of two classes has ‖α_k‖ = 1, together √2."""
    alpha = np.eye(2)
    assert kernels._function_norm(alpha, alpha) == pytest.approx(np.sqrt(2))
    assert kernels._function_norm(kernels._signed(alpha), kernels._signed(alpha)) == pytest.approx(2)
    split = Split(np.zeros((2, 1, 1, 1)), np.arange(2))
    row = kernels._row(DIGITS, 0, alpha, alpha, alpha, alpha, Dataset("two", split, split, num_classes=2, checksum=""))
    names = ("l2_norm", "signed_norm", "coefficient_norm", "total_coefficient_norm")
    assert [row[name] for name in names] == pytest.approx([np.sqrt(2), 2, 1, np.sqrt(2)])


def test_labels_of_plus_and_minus_one_predict_the_same_classes(digits):
    """With 2Y - 1 for Y every output of an image is 2 f_k minus the same sum. So such labels need no run."""
    x, z = (split.images.reshape(len(split.images), -1) / 255.0 for split in (digits.train, digits.test))
    k = lambda a: np.exp(-DIGITS.gamma * cdist(a, x, "sqeuclidean"))
    y = np.eye(10)[digits.train.labels]
    outputs, signed = (k(z) @ np.linalg.solve(k(x), targets) for targets in (y, 2 * y - 1))
    np.testing.assert_allclose(signed, kernels._signed(outputs), atol=1e-8)
    assert (signed.argmax(1) == outputs.argmax(1)).all()


@pytest.mark.parametrize("solver", linear_algebra.SOLVERS)
def test_any_labels_are_fitted(digits, solver):
    labels = np.random.default_rng(0).integers(0, 10, len(digits.train.labels)).astype(np.int32)
    random = replace(digits, train=digits.train._replace(labels=labels))
    curves, _ = kernels.solve(replace(DIGITS, solver=solver), random, quiet)
    assert curves["train_accuracy"] == [1.0]


def test_three_iterations_are_the_best_of_their_krylov_space(digits):
    """Of all α in the span of y, Ky and K²y, that with the least error in the norm of K: (QᵀKQ) c = Qᵀy, in float64."""
    labels = np.random.default_rng(0).integers(0, 10, len(digits.train.labels)).astype(np.int32)
    random = replace(digits, train=digits.train._replace(labels=labels))
    curves, facts = kernels.solve(replace(DIGITS, iterations=3), random, quiet)
    x = random.train.images.reshape(len(labels), -1) / 255.0
    k, alpha = np.exp(-DIGITS.gamma * cdist(x, x, "sqeuclidean")), []
    for y in np.eye(10)[labels].T:
        q = np.linalg.qr(np.stack([y, k @ y, k @ k @ y], 1))[0]
        alpha.append(q @ np.linalg.solve(q.T @ k @ q, q.T @ y))
    outputs = k @ np.array(alpha).T
    assert curves["epoch"] == [1, 2, 3]
    assert curves["train_loss"][-1] == pytest.approx(((outputs - np.eye(10)[labels]) ** 2).sum(1).mean(), rel=1e-4)
    assert curves["train_accuracy"][-1] == (outputs.argmax(1) == labels).mean()
    assert facts["solver"] == "plain_conjugate_gradients"


def test_iterations_stop_where_all_labels_are_fitted_and_their_rows_are_a_tenth_apart(digits):
    """In exact arithmetic the squared distance to the solution in the norm of the kernel falls with every step."""
    curves, _ = kernels.solve(replace(DIGITS, kernel="gaussian", iterations=200), digits, quiet)
    assert curves["epoch"][:3] == [1, 2, 3]
    assert curves["train_accuracy"][-1] == 1.0
    assert max(curves["train_accuracy"][:-1]) < 1.0
    assert np.all(np.diff(curves["l2_norm"]) > 0)


def test_iterations_have_a_solver_of_their_own_and_need_no_inverse(digits):
    with pytest.raises(UsageError, match="leave the solver as it is"):
        kernels.solve(replace(DIGITS, solver="cholesky", iterations=3), digits, quiet)
    curves, _ = kernels.solve(replace(DIGITS, kernel="linear", iterations=2), digits, quiet)
    assert curves["epoch"] == [1, 2]


def test_a_step_of_plain_conjugate_gradients_is_the_best_along_the_gradient():
    """α₁ = y (y·y / y·Ky) for one class, by hand for a 2×2 matrix; two steps solve it."""
    a, y = jnp.array([[2.0, 1.0], [1.0, 3.0]]), jnp.array([[1.0], [0.0]])
    steps = linear_algebra.conjugate_gradients(a, y)
    assert np.allclose(next(steps)[0], [[0.5], [0.0]])
    assert np.allclose(next(steps)[0], [[0.6], [-0.2]])


def test_the_linear_kernel_gives_the_least_weights(digits):
    rng = np.random.default_rng(0)
    noise = [rng.integers(0, 256, (n, 8, 8, 3)).astype(np.uint8) for n in (160, 80)]  # 192 features
    train, test = Split(noise[0], digits.train.labels), Split(noise[1], digits.test.labels)
    curves, _ = kernels.solve(replace(DIGITS, kernel="linear"), replace(digits, train=train, test=test), quiet)
    x, z = (images.reshape(len(images), -1) / 255.0 for images in noise)
    weights = np.linalg.pinv(x) @ np.eye(10)[train.labels]
    assert curves["l2_norm"][0] == pytest.approx(np.linalg.norm(weights), rel=1e-3)
    assert curves["test_accuracy"][0] == ((z @ weights).argmax(1) == test.labels).mean()


@pytest.mark.parametrize("columns", [1, 3, 6])
def test_the_factor_is_that_of_lapack(columns):
    rng = np.random.default_rng(0)
    sizes, ends = [5, 5, 5, 5, 5, 2], np.cumsum([0, 5, 5, 5, 5, 5, 2])
    root = rng.normal(size=(27, 40))
    whole = (root @ root.T / 40).astype(np.float32)
    cut = lambda a, i, j: a[ends[i] : ends[i + 1], ends[j] : ends[j + 1]]
    factor = linear_algebra._cholesky(Matrix(lambda i, j: jnp.asarray(cut(whole, i, j)), sizes, 0.0), columns, QUIET)
    expected = scipy.linalg.cholesky(whole.astype(np.float64), lower=True)
    assert set(factor) == {(i, j) for j in range(columns) for i in range(j, 6)}
    for (i, j), tile in factor.items():
        np.testing.assert_allclose(np.asarray(tile), cut(expected, i, j), atol=1e-5)


def test_two_devices_find_what_lapack_does():
    code = """
import jax, numpy as np
from rethink_gen.solvers import kernels
from rethink_gen.solvers import linear_algebra as tiles
from rethink_gen.solvers.features import Features
assert jax.local_device_count() == 2
meter = tiles.Meter(lambda step, steps, metrics: None, 1.0)
x = np.random.default_rng(0).normal(size=(16, 24)).astype(np.float32)
features = Features(lambda images, i: images[:, 8 * i : 8 * i + 8], (8, 8, 8))
inner, _ = kernels._streamed(features, [x[i : i + 4] for i in range(0, 16, 4)], 4, meter)
a = tiles.Matrix(lambda i, j: inner[i, j] + 0, [4] * 4, 2.0)
y = [tiles.put(i, np.eye(16, 3, dtype=np.float32)[4 * i : 4 * i + 4]) for i in range(4)]
for solve in tiles.SOLVERS.values():
    found = np.concatenate(solve(a, y, meter)[0])
    np.testing.assert_allclose(found, np.linalg.solve(x @ x.T, np.eye(16, 3)), rtol=0.01, atol=1e-3)
"""
    environment = {**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert not done.returncode, done.stderr


def test_the_plan_is_a_function_of_size_memory_and_solver():
    mnist, run = Features(lambda images, i: jnp.zeros(0), (784,)), KernelRun()
    at = lambda gigabytes, **changes: kernels._plan(
        replace(run, **changes), mnist, 60_000, 10_000, int(gigabytes * 1e9)
    )
    assert at(24).solver == "cholesky"
    assert 7.2e9 < at(24).bytes < 11e9  # 2n² bytes, and what else there is
    assert at(24, precision="float64").bytes == pytest.approx(2 * at(24).bytes, rel=1e-6)
    assert at(4).solver == "conjugate_gradients"
    assert at(24, solver="conjugate_gradients") == at(4)
    with pytest.raises(UsageError, match=r"60000 examples need \d+\.\d GB with cholesky; 4\.0 GB are free; .*auto"):
        at(4, solver="cholesky")
    with pytest.raises(UsageError, match="set train_size=") as caught:
        at(0.5)
    fits = int(str(caught.value).partition("train_size=")[2])
    assert kernels._plan(run, mnist, fits, 10_000, 500_000_000).bytes <= 500_000_000
    with pytest.raises(UsageError, match="set train_size="):
        kernels._plan(run, mnist, fits + 100, 10_000, 500_000_000)


def test_streamed_features_take_room_for_two_triangles():
    streamed = Features(lambda images, i: jnp.zeros(0), (1024,) * 125)
    run = KernelRun(features="random_convolutions")
    found = kernels._plan(run, streamed, 50_000, 10_000, 24 * 10**9)
    assert found.solver == "cholesky"
    assert 2 * 2 * 50_000**2 + 4 * 50_000 * 10_000 < found.bytes < 18e9


@pytest.mark.parametrize("solver", linear_algebra.SOLVERS)
def test_a_singular_kernel_is_an_error_that_says_so(digits, solver, monkeypatch):
    monkeypatch.setattr(linear_algebra, "_ITERATIONS", 50)
    with pytest.raises(np.linalg.LinAlgError, match="160 examples is singular in float32"):
        kernels.solve(replace(DIGITS, solver=solver, gamma=1e-7), digits, quiet)
    with pytest.raises(UsageError, match="160 examples with 64 features is singular: set a weight_decay"):
        kernels.solve(replace(DIGITS, solver=solver, kernel="linear"), digits, quiet)


@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_two_identical_images_are_named_whatever_rounding_makes_of_their_pivot(digits, precision):
    """Of 1,000 digits with one pair whose labels differ, Cholesky found a function of norm 1,000 and more."""
    images = digits.train.images.copy()
    images[159] = images[3]
    twins, run = replace(digits, train=Split(images, digits.train.labels)), replace(DIGITS, precision=precision)
    words = "160 examples is singular: training images 3 and 159 are identical; set a weight_decay, or leave one out"
    with pytest.raises(np.linalg.LinAlgError, match=words):
        kernels.solve(run, twins, quiet)
    assert kernels.solve(replace(run, weight_decay=0.1), twins, quiet)[0]["l2_norm"][0] < 20


def test_a_kernel_near_to_singular_is_solved_as_far_as_float32_goes(digits):
    """Its residual is the rounding of the sum that measures it; 16,000 filters were refused for one of 2 %."""
    near, sharp = (kernels.solve(replace(DIGITS, gamma=gamma), digits, quiet)[0] for gamma in (0.001, 0.01))
    assert near["residual"][0] > 0.01 > sharp["residual"][0]
    assert near["train_accuracy"] == [1.0]
    expected = reference(replace(DIGITS, gamma=0.001), digits)
    assert near["test_accuracy"][0] == pytest.approx(expected["test_accuracy"], abs=0.02)
    assert near["l2_norm"][0] == pytest.approx(expected["l2_norm"], rel=0.02)


def test_a_singular_kernel_does_not_stop_other_runs(digits):
    twice = KernelRun(dataset="digits", train_size=1500, gamma=1e-6)
    singular, solved = scheduler.execute([twice, replace(DIGITS, train_size=64)])
    assert singular.reason.startswith("LinAlgError: the kernel matrix of 1500 examples is singular in float32")
    assert solved.status == "finished"


@pytest.mark.parametrize("field", ["features", "kernel", "solver"])
def test_a_name_that_is_not_known_is_refused(digits, field):
    with pytest.raises(UsageError, match=f"no {field} named 'gausian'"):
        kernels.solve(replace(DIGITS, **{field: "gausian"}), digits, quiet)


def test_a_precision_that_no_solver_has_is_refused():
    with pytest.raises(UsageError, match="no precision named 'bfloat16'"):
        KernelRun(precision="bfloat16")


@pytest.mark.parametrize("solver", linear_algebra.SOLVERS)
def test_work_is_metered_and_can_be_stopped(digits, solver):
    shares = []
    kernels.solve(replace(DIGITS, solver=solver), digits, lambda step, steps, metrics: shares.append(step / steps))
    assert shares == sorted(shares)
    assert 0 <= shares[0] < shares[-1] <= 1

    def stop(step, steps, metrics):
        raise Interrupted("stopped")

    with pytest.raises(Interrupted):
        kernels.solve(replace(DIGITS, solver=solver), digits, stop)
