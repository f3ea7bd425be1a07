"""Label noise: what each corruption makes of labels, how often, and the laws that all of them keep.

Chance is tested on fixed seeds, with limits that a right implementation passes on 99.999 % of seeds: 4.42 standard
errors, or p > 1e-5.
"""

import itertools
from dataclasses import replace
from functools import partial

import jax
import numpy as np
import pytest
from conftest import needs_real_data
from human_labels import REAL_FILES, needs_human_labels, synthetic_labels, write_files
from scipy import stats

from rethink_gen import digests, registry
from rethink_gen.data import cifar10n, corruptions, datasets, label_noise, pipeline, randomness, transitions
from rethink_gen.data.dataset import Dataset, Split
from rethink_gen.data.label_noise import _changed_train_labels, true_train_labels
from rethink_gen.errors import DataError, UsageError
from rethink_gen.runs import Run

NAMES = ("uniform_wrong", "pair_flip", "asymmetric", "class_conditional", "human", "extra_noisy_copies")
LABEL_NOISE = {name: getattr(label_noise, name) for name in NAMES}

SEEDS = range(5)
SIGMAS, P_VALUE = 4.42, 1e-5
N = 50_000
LEVELS = (0.2, 0.4, 0.6, 0.8, 1.0)


def corrupt_key(seed):
    """The key that a run of this seed corrupts with."""
    return randomness.stream(randomness.root_key(seed), "corrupt")


def dataset_of(n=N, num_classes=10, name="synthetic"):
    """n training images of one pixel, classes in turn; and 10 test images."""
    images = (np.arange(n) % 256).astype(np.uint8).reshape(n, 1, 1, 1)
    labels = np.arange(n, dtype=np.int32) % num_classes
    for array in (images, labels):
        array.setflags(write=False)  # as `load` hands them out
    return Dataset(name, Split(images, labels), Split(images[:10], labels[:10]), num_classes, "")


def transitions_of(dataset):
    """int[K, K]: how many training labels of true class i are j."""
    k = dataset.num_classes
    pairs = true_train_labels(dataset).astype(int) * k + dataset.train.labels
    return np.bincount(pairs, minlength=k * k).reshape(k, k)


def within(count, n, p):
    """Whether a count is binomial(n, p), as far as chance allows."""
    return abs(count - n * p) <= SIGMAS * np.sqrt(n * p * (1 - p))


@pytest.fixture
def cases(tmp_path, monkeypatch):
    """Name → (corruption with options that it needs, a data set it takes); files are synthetic."""
    matrix = np.full((10, 10), 0.04) + 0.6 * np.eye(10)
    np.save(tmp_path / "matrix.npy", matrix)
    write_files(tmp_path, synthetic_labels())
    monkeypatch.setenv("RETHINK_GEN_CIFAR10N", str(tmp_path))
    monkeypatch.setattr(cifar10n, "PUBLISHED", cifar10n._content_sha256(synthetic_labels()))
    plain = {name: (corruption, dataset_of()) for name, corruption in LABEL_NOISE.items()}
    return plain | {
        "asymmetric of mnist": (partial(label_noise.asymmetric, map="mnist"), dataset_of()),
        "class_conditional": (partial(label_noise.class_conditional, matrix=tmp_path / "matrix.npy"), dataset_of()),
        "human": (label_noise.human, dataset_of(name="cifar10")),
        "three extra copies": (partial(label_noise.extra_noisy_copies, alpha=3), dataset_of()),
    }


# Laws that hold for every corruption of labels.

every_case = pytest.mark.parametrize("name", [*LABEL_NOISE, "asymmetric of mnist", "three extra copies"])


@every_case
def test_at_level_0_no_label_is_wrong(cases, name):
    corruption, clean = cases[name]
    corrupted = corruption(corrupt_key(0), clean, 0.0)
    assert not _changed_train_labels(corrupted).any()
    times = len(corrupted.train.labels) // N
    assert np.array_equal(corrupted.train.labels, np.tile(clean.train.labels, times))


@every_case
def test_images_and_the_test_split_stay(cases, name):
    corruption, clean = cases[name]
    for level in (0.3, 1.0):
        corrupted = corruption(corrupt_key(0), clean, level)
        assert corrupted.test is clean.test
        assert np.array_equal(corrupted.train.images[:N], clean.train.images)
        assert np.array_equal(clean.train.labels, np.arange(N) % 10)
        for field in ("name", "num_classes", "checksum"):
            assert getattr(corrupted, field) == getattr(clean, field)


@every_case
def test_labels_are_int32_and_in_range(cases, name):
    corruption, clean = cases[name]
    for level in (0.0, 0.3, 1.0):
        labels = corruption(corrupt_key(0), clean, level).train.labels
        assert labels.dtype == np.int32
        assert labels.min() >= 0
        assert labels.max() < 10


@every_case
def test_true_labels_are_kept(cases, name):
    corruption, clean = cases[name]
    corrupted = corruption(corrupt_key(0), clean, 0.7)
    assert len(true_train_labels(corrupted)) == len(corrupted.train.labels) == len(corrupted.train.images)
    assert np.array_equal(true_train_labels(corrupted), np.arange(len(corrupted.train.labels)) % 10)
    assert np.array_equal(_changed_train_labels(corrupted), corrupted.train.labels != true_train_labels(corrupted))
    assert _changed_train_labels(corrupted).any()


@every_case
def test_true_labels_survive_a_second_corruption(cases, name):
    corruption, clean = cases[name]
    once = corruption(corrupt_key(0), clean, 0.5)
    twice = label_noise.pair_flip(corrupt_key(1), once, 0.5)
    assert np.array_equal(true_train_labels(twice), true_train_labels(once))


@every_case
def test_labels_that_are_hit_are_hit_at_higher_levels_too_and_in_the_same_way(cases, name):
    corruption, clean = cases[name]
    corrupted = [corruption(corrupt_key(0), clean, level) for level in LEVELS]
    changed = [_changed_train_labels(each) for each in corrupted]
    assert not any((lower & ~higher).any() for lower, higher in itertools.pairwise(changed))
    for each, wrong in zip(corrupted, changed, strict=True):
        assert np.array_equal(each.train.labels[wrong], corrupted[-1].train.labels[wrong])


@every_case
def test_a_corruption_is_a_function_of_its_key(cases, name):
    corruption, clean = cases[name]
    one, same, other = (corruption(corrupt_key(seed), clean, 0.5).train.labels for seed in (0, 0, 1))
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)


@every_case
def test_64_bit_mode_changes_no_draw(cases, name):
    corruption, clean = cases[name]
    expected = corruption(corrupt_key(0), clean, 0.5).train.labels
    with jax.enable_x64(True):
        labels = corruption(corrupt_key(0), clean, 0.5).train.labels
    assert labels.dtype == expected.dtype
    assert np.array_equal(labels, expected)


@pytest.mark.parametrize("name", ["uniform_wrong", "pair_flip"])
def test_hits_are_those_of_random_labels(name):
    """For corruptions that make every label wrong that they hit; the draws have the other half of the key."""
    for seed in SEEDS:
        corrupted = LABEL_NOISE[name](corrupt_key(seed), dataset_of(), 0.3)
        hit = corruptions._hits(jax.random.split(corrupt_key(seed))[0], N, 0.3)
        assert np.array_equal(_changed_train_labels(corrupted), hit)
        assert np.array_equal(corruptions.drawn_labels(corrupt_key(seed), N, 10, 0.3) >= 0, hit)


@pytest.mark.parametrize("level", [0.2, 0.5, 0.9])
def test_each_class_is_hit_as_often_as_the_level_says(level):
    for seed in SEEDS:
        changed = _changed_train_labels(label_noise.uniform_wrong(corrupt_key(seed), dataset_of(), level))
        assert within(changed.sum(), N, level)
        assert all(within(changed[c::10].sum(), N // 10, level) for c in range(10))


# What labels become.


def test_symmetric_noise_never_draws_the_true_class_and_the_others_alike():
    for seed in SEEDS:
        counts = transitions_of(label_noise.uniform_wrong(corrupt_key(seed), dataset_of(), 1.0))
        assert (np.diag(counts) == 0).all()
        wrong = counts[~np.eye(10, dtype=bool)]  # 90 cells of 50,000 / 90 each
        assert stats.chisquare(wrong.reshape(10, 9), axis=1).pvalue.min() > P_VALUE
        assert stats.chisquare(wrong).pvalue > P_VALUE


def test_pair_flips_go_to_the_next_class_and_from_the_last_to_the_first():
    counts = transitions_of(label_noise.pair_flip(corrupt_key(0), dataset_of(), 0.45))
    assert {(i, j) for i, j in np.argwhere(counts)} == {(c, d % 10) for c in range(10) for d in (c, c + 1)}
    assert all(within(counts[c, (c + 1) % 10], N // 10, 0.45) for c in range(10))


@pytest.mark.parametrize(
    ("flips", "expected"),
    [("cifar10", [0, 1, 0, 5, 7, 3, 6, 7, 8, 1]), ("mnist", [0, 1, 7, 8, 4, 6, 5, 1, 8, 9])],
)
def test_asymmetric_noise_maps_the_customary_classes(flips, expected):
    """CIFAR-10: airplane automobile bird cat deer dog frog horse ship truck, from 0."""
    clean = replace(dataset_of(10), name=flips)
    for seed in SEEDS:
        labels = label_noise.asymmetric(corrupt_key(seed), clean, 1.0, map=flips).train.labels
        assert labels.tolist() == expected
    half = label_noise.asymmetric(corrupt_key(0), replace(dataset_of(), name=flips), 0.4, map=flips)
    assert within(_changed_train_labels(half).sum(), N // 2, 0.4)  # five of the ten classes flip


@needs_real_data("cifar10")
def test_asymmetric_noise_of_cifar10_names_the_classes_by_their_numbers_in_tfds(real_data):
    names = (real_data / "cifar10" / "3.0.2" / "label.labels.txt").read_text().split()
    flips = {names[one]: names[other] for one, other in label_noise.FLIPS["cifar10"].items()}
    expected = {"truck": "automobile", "bird": "airplane", "deer": "horse", "cat": "dog", "dog": "cat"}
    assert flips == expected


def test_asymmetric_noise_refuses_data_without_its_classes_and_says_what_to_do():
    refused = partial(pytest.raises, UsageError)
    with refused(match=r"maps 10 classes; synthetic has 3: .* class_conditional\(matrix=FILE\)"):
        label_noise.asymmetric(corrupt_key(0), dataset_of(30, 3), 0.4)
    with refused(match="map=cifar10 does not fit mnist: use map=mnist"):
        label_noise.asymmetric(corrupt_key(0), dataset_of(30, name="mnist"), 0.4)
    with refused(match="no map of classes named 'cifar'; did you mean 'cifar10'"):
        label_noise.asymmetric(corrupt_key(0), dataset_of(30), 0.4, map="cifar")


@pytest.mark.parametrize("level", [0.3, 1.0])
def test_class_conditional_noise_has_the_transitions_of_its_matrix(tmp_path, level):
    """Of class i a share `level * matrix[i, j]` becomes j ≠ i, and the rest stays."""
    counts = np.array([[3, 1, 0, 0], [0, 0, 2, 2], [1, 1, 1, 1], [0, 0, 0, 9]])
    np.savetxt(tmp_path / "counts.csv", counts, delimiter=",", fmt="%d")
    expected = level * counts / counts.sum(1, keepdims=True) + (1 - level) * np.eye(4)
    clean = dataset_of(num_classes=4)
    for seed in SEEDS:
        seen = transitions_of(
            label_noise.class_conditional(corrupt_key(seed), clean, level, matrix=tmp_path / "counts.csv")
        )
        for i, j in np.ndindex(4, 4):
            assert within(seen[i, j], N // 4, expected[i, j])


def test_a_matrix_that_permutes_classes_leaves_nothing_to_chance(tmp_path):
    np.save(tmp_path / "shift.npy", np.roll(np.eye(10), 1, axis=1))  # row c has its 1 in column c + 1
    conditional = partial(label_noise.class_conditional, matrix=tmp_path / "shift.npy")
    for level in (0.3, 1.0):
        flipped = label_noise.pair_flip(corrupt_key(0), dataset_of(), level).train.labels
        assert np.array_equal(conditional(corrupt_key(0), dataset_of(), level).train.labels, flipped)


def test_a_named_matrix_is_in_run_ids_and_no_file_counts():
    run = Run(corruption="class_conditional(matrix=cifar10n_worst)")
    assert run.corruption == "class_conditional_cifar10n"
    assert digests.files_of(run) == digests.of_run(run) == {}
    noisy = registry.resolve("corruption", run.corruption)(corrupt_key(0), dataset_of(), 1.0)
    assert within(_changed_train_labels(noisy).sum(), N, 0.40208)


@needs_real_data("cifar10")
@needs_human_labels
def test_the_named_matrix_counts_the_labels_that_people_gave(monkeypatch):
    monkeypatch.setenv("RETHINK_GEN_CIFAR10N", str(REAL_FILES))
    labels = cifar10n._read_human_labels()
    pairs = np.bincount(10 * labels["clean"] + labels["worst"], minlength=100)
    assert pairs.reshape(10, 10).tolist() == [list(row) for row in transitions.COUNTS["cifar10n_worst"]]


def test_class_conditional_noise_needs_a_matrix_of_the_right_size(tmp_path):
    with pytest.raises(UsageError, match="needs matrix=FILE"):
        label_noise.class_conditional(corrupt_key(0), dataset_of(30), 1.0)
    np.save(tmp_path / "small.npy", np.eye(3))
    with pytest.raises(UsageError, match=r"small\.npy: is 3 × 3, and 10 classes need 10 × 10"):
        label_noise.class_conditional(corrupt_key(0), dataset_of(30), 1.0, matrix=tmp_path / "small.npy")


@pytest.mark.parametrize("num_classes", [2, 3])
def test_few_classes_are_enough(tmp_path, num_classes):
    np.save(tmp_path / "half.npy", np.full((num_classes, num_classes), 1 / num_classes))
    clean = dataset_of(num_classes=num_classes)
    noise = {**LABEL_NOISE, "class_conditional": partial(label_noise.class_conditional, matrix=tmp_path / "half.npy")}
    wrong = {"uniform_wrong": 1.0, "pair_flip": 1.0, "class_conditional": 1 - 1 / num_classes}
    for name, share in wrong.items():
        corrupted = noise[name](corrupt_key(0), clean, 1.0)
        assert within(_changed_train_labels(corrupted).sum(), N, share)
        assert set(corrupted.train.labels.tolist()) == set(range(num_classes))


def test_with_two_classes_symmetric_noise_and_pair_flips_are_one():
    two = dataset_of(num_classes=2)
    wrong, flipped = (LABEL_NOISE[name](corrupt_key(0), two, 0.3) for name in ("uniform_wrong", "pair_flip"))
    assert np.array_equal(wrong.train.labels, flipped.train.labels)


def test_symmetric_noise_needs_another_class():
    with pytest.raises(UsageError, match="at least 2 classes; synthetic has 1"):
        label_noise.uniform_wrong(corrupt_key(0), dataset_of(30, 1), 0.5)


# Human labels.


def test_human_labels_at_level_1_are_those_of_the_set_whatever_the_key(cases):
    _, clean = cases["human"]
    for set_name, seed in itertools.product(cifar10n.SETS, (0, 1)):
        labels = label_noise.human(corrupt_key(seed), clean, 1.0, set=set_name).train.labels
        assert np.array_equal(labels, synthetic_labels()[set_name])


def test_human_labels_of_a_run_that_passes_over_images_are_those_of_its_own_images(cases, monkeypatch):
    """They were counted from the first image of all, so that the files were refused, and the training before a run."""
    whole = dataset_of(name="cifar10")
    monkeypatch.setattr(datasets, "load", lambda name: whole)
    run = Run(dataset="cifar10", corruption="human", train_skip=123, train_size=400)
    corrupted, clean = pipeline.load(run)
    assert np.array_equal(clean.train.labels, whole.train.labels[123:523])
    assert np.array_equal(corrupted.train.labels, synthetic_labels()["worst"][123:523])
    before = Run(dataset="cifar10", train_size=400, pretrain_epochs=1, pretrain_corruption="human").pretraining
    assert np.array_equal(pipeline.load(before)[0].train.labels, synthetic_labels()["worst"][400:800])


def test_human_labels_are_for_images_of_cifar10_in_their_order_alone(cases):
    part = dataset_of(700, name="cifar10")
    assert np.array_equal(label_noise.human(corrupt_key(0), part, 1.0).train.labels, synthetic_labels()["worst"][:700])
    with pytest.raises(UsageError, match="for cifar10 only, not for synthetic"):
        label_noise.human(corrupt_key(0), dataset_of(700), 1.0)
    other = replace(part, train=part.train._replace(labels=part.train.labels[::-1]))
    for wrong in (other, replace(part, skipped=1), replace(part, skipped=N - 10)):
        with pytest.raises(DataError, match="not those of CIFAR-10N"):
            label_noise.human(corrupt_key(0), wrong, 1.0)


@needs_human_labels
@needs_real_data("cifar10")
@pytest.mark.parametrize(
    ("set_name", "wrong"),
    [("aggregate", 4505), ("random1", 8617), ("random2", 9061), ("random3", 8820), ("worst", 20104)],
)
def test_human_labels_of_cifar10_are_wrong_as_often_as_published(real_data, monkeypatch, set_name, wrong):
    """At level 1, exactly; at level 0.5, half of them as far as chance allows."""
    monkeypatch.setenv("RETHINK_GEN_CIFAR10N", str(REAL_FILES))
    clean = datasets.load("cifar10")
    changed = lambda level: _changed_train_labels(label_noise.human(corrupt_key(0), clean, level, set=set_name)).sum()
    assert changed(1.0) == wrong
    assert within(changed(0.5), wrong, 0.5)


# Extra copies.


def test_extra_copies_repeat_every_image_with_its_true_label_known():
    clean = dataset_of(600)
    corrupted = label_noise.extra_noisy_copies(corrupt_key(0), clean, 1.0, alpha=4)
    assert np.array_equal(corrupted.train.images, np.tile(clean.train.images, (5, 1, 1, 1)))
    assert np.array_equal(corrupted.train.labels[:600], clean.train.labels)
    assert np.array_equal(true_train_labels(corrupted), np.tile(clean.train.labels, 5))
    assert not _changed_train_labels(corrupted)[:600].any()


def test_copy_j_has_the_random_labels_of_its_own_key():
    clean = dataset_of(600)
    for level in (0.4, 1.0):
        corrupted = label_noise.extra_noisy_copies(corrupt_key(0), clean, level, alpha=3)
        for j in (1, 2, 3):
            expected = corruptions.random_labels(jax.random.fold_in(corrupt_key(0), j), clean, level)
            assert np.array_equal(corrupted.train.labels[j * 600 : (j + 1) * 600], expected.train.labels)


def test_more_copies_begin_with_the_fewer():
    fewer, more = (label_noise.extra_noisy_copies(corrupt_key(0), dataset_of(600), 0.8, alpha=a) for a in (2, 5))
    assert np.array_equal(more.train.labels[:1800], fewer.train.labels)
    assert np.array_equal(more.train.images[:1800], fewer.train.images)


@pytest.mark.parametrize(("alpha", "level"), [(1, 1.0), (1, 0.5), (10, 1.0)])
def test_nine_tenths_of_the_labels_drawn_for_copies_are_wrong(alpha, level):
    corrupted = label_noise.extra_noisy_copies(corrupt_key(0), dataset_of(5000), level, alpha=alpha)
    assert within(_changed_train_labels(corrupted).sum(), 5000 * alpha, 0.9 * level)


def test_no_copies_are_the_identity():
    for level in (0.0, 1.0):
        same = label_noise.extra_noisy_copies(corrupt_key(0), dataset_of(600), level, alpha=0)
        assert np.array_equal(same.train.images, dataset_of(600).train.images)
        assert np.array_equal(same.train.labels, dataset_of(600).train.labels)


@pytest.mark.parametrize("alpha", [-1, 1.5, 2.0, True, "3", None])
def test_alpha_is_a_number_of_copies(alpha):
    with pytest.raises(UsageError, match="alpha must be a whole number, 0 or more"):
        label_noise.extra_noisy_copies(corrupt_key(0), dataset_of(30), 1.0, alpha=alpha)
