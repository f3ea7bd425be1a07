"""The randomizations of Section 2: what each does to labels and pixels, and how often.

What holds for every corruption stands in test_corruption_laws.py.

Chance is tested on fixed seeds, with limits that a right implementation passes on 99.999 % of seeds: 4.42 standard
deviations, or p > 1e-5. So another platform, or another stream, passes too.
"""

import hashlib
from dataclasses import replace

import jax
import numpy as np
import pytest
from samples import (
    P_VALUE,
    PIXELS,
    SEEDS,
    SIGMAS,
    corrupt_key,
    dataset_of,
    differs,
    independent,
    labels_only,
    small,
    telltale,
    uneven,
)
from scipy import stats

from rethink_gen import registry
from rethink_gen.data import corruptions, randomness
from rethink_gen.errors import UsageError

SHUFFLED = ["shuffled_pixels", "shuffled_pixels_channels_apart"]
RANDOM = ["random_pixels", "random_pixels_channels_apart"]
GAUSSIAN = {"gaussian": (0, 1, 2, 3), "gaussian_per_channel": (0, 1, 2), "gaussian_per_pixel": (0,)}


# Labels.


@pytest.mark.parametrize("level", [0.2, 0.5, 1.0])
def test_nine_tenths_of_the_labels_that_are_drawn_are_wrong(level):
    """n·p draws, of which 1/K are right by chance: 9,000 ± 380, 22,500 ± 492 and 45,000 ± 297 of 50,000 are wrong."""
    labels = labels_only().train.labels
    n, p = len(labels), 0.9 * level
    for seed in SEEDS:
        wrong = np.sum(corruptions.random_labels(corrupt_key(seed), labels_only(), level).train.labels != labels)
        assert abs(wrong - n * p) < SIGMAS * np.sqrt(n * p * (1 - p))


def test_drawn_labels_are_uniform_and_independent_of_the_class():
    for seed in SEEDS:
        drawn = corruptions.random_labels(corrupt_key(seed), labels_only(), 1.0).train.labels
        assert stats.chisquare(np.bincount(drawn, minlength=10)).pvalue > P_VALUE
        table = np.bincount(labels_only().train.labels * 10 + drawn, minlength=100).reshape(10, 10)
        assert independent(table)


def test_who_is_hit_depends_neither_on_class_nor_on_place_nor_on_another_seed():
    clean = labels_only()
    unseen = replace(clean, train=clean.train._replace(labels=np.full(50_000, 10, np.int32)))  # 10 is never drawn
    hit = [corruptions.random_labels(corrupt_key(seed), unseen, 0.5).train.labels != 10 for seed in SEEDS]
    for mask, other in zip(hit, [*hit[1:], hit[0]], strict=True):
        assert abs(mask.sum() - 25_000) < SIGMAS * np.sqrt(50_000 / 4)
        for group in (clean.train.labels, np.arange(50_000) // 1000, other.astype(int)):
            table = np.stack([np.bincount(group[mask]), np.bincount(group[~mask])])
            assert independent(table)


def test_labels_are_drawn_from_as_many_classes_as_there_are():
    dataset = replace(labels_only(), num_classes=3)
    drawn = corruptions.random_labels(corrupt_key(0), dataset, 1.0).train.labels
    assert stats.chisquare(np.bincount(drawn, minlength=3)).pvalue > P_VALUE
    assert set(drawn) == {0, 1, 2}


def test_random_signs_are_fair_independent_coin_flips_between_the_first_two_classes():
    for seed in SEEDS:
        signs = corruptions.random_signs(corrupt_key(seed), labels_only(), 1.0).train.labels
        assert set(signs) == {0, 1}
        assert abs(signs.sum() - 25_000) < SIGMAS * np.sqrt(50_000 / 4)
        table = np.bincount(labels_only().train.labels * 2 + signs, minlength=20).reshape(10, 2)
        assert independent(table)


def test_random_signs_need_two_classes():
    """Data of one class had labels 0 and 1."""
    with pytest.raises(UsageError, match=r"random_signs needs at least 2 classes; .* has 1"):
        corruptions.random_signs(corrupt_key(0), replace(small(), num_classes=1), 1.0)


def test_random_labels_leave_the_images_alone():
    assert corruptions.random_labels(corrupt_key(0), small(), 1.0).train.images is small().train.images


def test_corruption_has_its_own_stream_of_every_seed():
    """So labels depend on nothing but the seed: not on the model, its initialization, or the order of examples."""
    keys = {
        jax.random.key_data(randomness.stream(randomness.root_key(seed), name)).tobytes()
        for seed in SEEDS
        for name in ("corrupt", "init", "order", "augment")
    }
    assert len(keys) == 4 * len(SEEDS)
    mask = corruptions._hits(corrupt_key(0), 50_000, 0.5)
    for name in ("init", "order", "augment"):
        other = corruptions._hits(randomness.stream(randomness.root_key(0), name), 50_000, 0.5)
        table = np.bincount(2 * mask + other, minlength=4).reshape(2, 2)
        assert independent(table)


# Pixels.


def moves(name, dataset, **options):
    """For each image of both splits, int[positions]: which position of the clean image each value came from."""
    corrupted = registry.resolve("corruption", name)(corrupt_key(0), dataset, 1.0)
    found = np.concatenate([corrupted.train.images, corrupted.test.images]).astype(int)
    if name.endswith("apart"):
        return found.reshape(len(found), -1)
    assert (found // 3 == found[..., :1] // 3).all(), "the channels of a position stay together"
    assert (found % 3 == np.arange(3)).all(), "and in order"
    return found[..., 0].reshape(len(found), -1) // 3


@pytest.mark.parametrize("name", SHUFFLED + RANDOM)
def test_pixels_are_moved_and_none_is_lost(name):
    dataset = small()
    corrupted = registry.resolve("corruption", name)(corrupt_key(0), dataset, 1.0)
    rows = 24 * 3 if name.endswith("apart") else 24
    for split in ("train", "test"):
        before, after = (getattr(d, split).images.reshape(-1, rows, 72 // rows).tolist() for d in (dataset, corrupted))
        assert [sorted(pixels) for pixels in before] == [sorted(pixels) for pixels in after]
        assert before != after
    assert corrupted.train.images.dtype == np.uint8


@pytest.mark.parametrize("name", SHUFFLED)
def test_one_permutation_shuffles_every_image_of_both_splits(name):
    sources = moves(name, telltale())
    assert (sources == sources[0]).all()
    assert (sources[0] != np.arange(len(sources[0]))).any()
    clean, corrupted = small(), registry.resolve("corruption", name)(corrupt_key(0), small(), 1.0)
    inverse = np.argsort(sources[0])
    for split in ("train", "test"):
        was, now = getattr(clean, split).images, getattr(corrupted, split).images
        restored = now.reshape(len(now), len(inverse), -1)[:, inverse].reshape(now.shape)
        assert np.array_equal(restored, was)


@pytest.mark.parametrize("name", RANDOM)
def test_a_permutation_of_its_own_shuffles_each_image(name):
    sources = moves(name, telltale())
    assert len(np.unique(sources, axis=0)) == len(sources) == 60


@pytest.mark.parametrize("name", SHUFFLED + RANDOM)
def test_channels_move_together_or_apart(name):
    corrupted = registry.resolve("corruption", name)(corrupt_key(0), telltale(), 1.0).train.images
    assert (corrupted % 3 == np.arange(3)).all() != name.endswith("apart")


@pytest.mark.parametrize("name", ["shuffled_pixels", "random_pixels"])
def test_feature_vectors_have_no_pixels_that_change_places(name):
    """They are images of one pixel, so both corruptions left them as they were, without a word."""
    vectors = [split._replace(images=split.images.reshape(-1, 1, 1, 72)) for split in (small().train, small().test)]
    dataset = replace(small(), train=vectors[0], test=vectors[1])
    with pytest.raises(UsageError, match=f"holds feature vectors, .* name .*{name}_channels_apart"):
        registry.resolve("corruption", name)(corrupt_key(0), dataset, 1.0)
    apart = registry.resolve("corruption", f"{name}_channels_apart")(corrupt_key(0), dataset, 1.0)
    assert differs(apart.train, dataset.train).all()


def test_a_pixel_may_go_anywhere():
    sources = moves("random_pixels", telltale(2000))
    for position in (0, 13, 23):
        assert stats.chisquare(np.bincount(sources[:, position], minlength=24)).pvalue > P_VALUE


@pytest.mark.parametrize("name", RANDOM)
def test_the_permutation_of_an_image_does_not_depend_on_how_many_there_are(name):
    few, many = (registry.resolve("corruption", name)(corrupt_key(0), telltale(n), 1.0) for n in (30, 2000))
    for split in ("train", "test"):
        some, more = getattr(few, split).images, getattr(many, split).images
        assert np.array_equal(more[:30], some)
        assert len(np.unique(more.reshape(2000, -1), axis=0)) == 2000  # nor do they repeat after 1,000


@pytest.mark.parametrize("name", PIXELS)
def test_images_are_hit_at_the_rate_of_the_level_in_both_splits(name):
    n, p = 2000, 0.3
    corrupted = registry.resolve("corruption", name)(corrupt_key(0), uneven(), p)
    train, test = differs(corrupted.train, uneven().train), differs(corrupted.test, uneven().test)
    for hit in (train, test):
        assert abs(hit.sum() - n * p) < SIGMAS * np.sqrt(n * p * (1 - p))
    assert (train != test).any()


# Gaussian noise.


@pytest.mark.parametrize("name", [*GAUSSIAN, "gaussian_standard"])
def test_noise_has_the_moments_of_the_training_images(name):
    images = uneven().train.images.astype(np.float64)
    mean, std = (
        np.broadcast_to(f(images, axis=GAUSSIAN.get(name, 0), keepdims=True), (1, 6, 4, 3)) for f in (np.mean, np.std)
    )
    if name == "gaussian_standard":
        mean, std = np.zeros((1, 6, 4, 3)), np.full((1, 6, 4, 3), 255.0)
    corrupted = registry.resolve("corruption", name)(corrupt_key(0), uneven(), 1.0)
    for noise in (corrupted.train.images, corrupted.test.images):
        assert noise.dtype == np.float32
        standard = (noise.astype(np.float64) - mean) / std
        n = len(standard)
        for z, m in ((standard, n), (standard.reshape(-1, 3), 24 * n), (standard.reshape(-1), 72 * n)):
            assert np.abs(z.mean(0)).max() < SIGMAS / np.sqrt(m)  # of each value, channel, and all
            assert np.abs(z.var(0) - 1).max() < SIGMAS * np.sqrt(2 / m)
        assert stats.kstest(standard.reshape(-1), "norm").pvalue > P_VALUE
        assert len(np.unique(noise)) > 0.9 * noise.size  # not rounded


@pytest.mark.parametrize("name", [*GAUSSIAN, "gaussian_standard"])
def test_noise_is_drawn_anew_for_each_value_of_each_image(name):
    corrupted = registry.resolve("corruption", name)(corrupt_key(0), uneven(), 1.0)
    train, test = (
        np.array(stats.zscore(split.images.reshape(2000, 72))) for split in (corrupted.train, corrupted.test)
    )
    pairs = np.concatenate([(train.T @ train / 2000)[np.triu_indices(72, 1)], (train * test).mean(0)])
    assert np.abs(pairs).max() < 6 / np.sqrt(2000)  # 2,628 correlations: p < 1e-5 for the largest of them all


def test_noise_is_not_clipped():
    images = np.zeros((2000, 6, 4, 3), np.uint8)
    images[::2] = 2
    noise = corruptions.gaussian_pixels(corrupt_key(0), dataset_of(images, images.copy()), 1.0).train.images
    below = stats.norm.cdf(-1)  # mean 1, standard deviation 1
    assert abs(np.mean(noise < 0) - below) < SIGMAS * np.sqrt(below * (1 - below) / noise.size)


# Golden values.

MESSAGE = "what a key means has changed; update this only in a commit that runs every corrupted experiment again"


def sha(array):
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()


GOLDEN_LABELS = {
    (0, 0.2): "5f4fdc601dd1281325d8d9ab3f1f515939dafc63555abb6420d0a2085b4b50e2",
    (0, 0.5): "cd0fd962ca8632b9b472adf587bb9a5bee820440dcd5a041a6d0e6e3189a0b85",
    (0, 1.0): "f1d687cc72e3f795555d50780a4e848099d0aada464d43e965ea6b31a43d1a74",
    (1, 0.2): "03fd9af6567f5d560700c354af8be7676496751d94ffa97b06b842beb016e3b1",
    (1, 0.5): "2a9abeab5834807a748c90e19972ec95759fdb2a2eb36912243eb927188b9830",
    (1, 1.0): "c92b3ea5e967bb97165d8115a3962167b2442baef7a113a774c152a193a01d8c",
    (2, 0.2): "c77a96ea4952a1c33c81ede29c45f0c0cd967bdbe942afad44ccedb8d1b8454e",
    (2, 0.5): "cd98ec70f541eccb663e5c85aa8df23560732b585c0e62e76fad75aca8669841",
    (2, 1.0): "c614d7bb773e9b8bbfa6375db14f67e3a40e80424b82e52a5e2344bc55bf13a3",
}
GOLDEN_PERMUTATIONS = {
    (0, "shuffled_pixels"): "17c37ccd8b47f7787b4e790428b7a9dcde95a47715283ea10ec4bfb462d9bf6c",
    (0, "shuffled_pixels_channels_apart"): "1349c64863986b8d22158b14250933271fca28cfd63eff342fc2213b76a31b45",
    (0, "random_pixels"): "3eac48867eb6c3213c9e2bed66592787f99fce0820e21d19c01a66bc31209327",
    (0, "random_pixels_channels_apart"): "1eaf2d1696be3c490e0d8940a66f4c4ee2535a29d1d0f20da786a5f5e77afeb7",
    (1, "shuffled_pixels"): "98e7b0a84b95e974d14363b218f2b978f0da38ff0874dc6f386c454df5ec90d0",
    (1, "shuffled_pixels_channels_apart"): "6891ab47cc4202f5d785b03d3b6d7b5c718642777b6d2f8ff362526ec320c0a3",
    (1, "random_pixels"): "276a02ade17d744dcac2c486fd69c1fa55a3752e93128990258ba93449065fcd",
    (1, "random_pixels_channels_apart"): "b0c8a90dc29e6a0845a658a8e53583ed3138bb689818859a134914c3178ddeb9",
    (2, "shuffled_pixels"): "849e30a848e8b074308fe51e9ff3521da379e0e3564723e5a3978b2d08ad9074",
    (2, "shuffled_pixels_channels_apart"): "2ba4f210e437cc28fbfd986e2bbc0ca1214dffc430fc4740c495285985e4fa3c",
    (2, "random_pixels"): "394dbcfad9b7bcd9b7b802359486e7ff606cf79a527c989d847d5128b4fbf608",
    (2, "random_pixels_channels_apart"): "339616693ada2d923e0d10e1780b759c972a583c335cae9541322a6db149f032",
}


@pytest.mark.parametrize(("seed", "level"), GOLDEN_LABELS)
def test_random_labels_stay(seed, level):
    labels = corruptions.random_labels(corrupt_key(seed), labels_only(), level).train.labels
    assert sha(labels.astype("<i4")) == GOLDEN_LABELS[seed, level], MESSAGE


@pytest.mark.parametrize(("seed", "name"), GOLDEN_PERMUTATIONS)
def test_permutations_stay(seed, name):
    corrupted = registry.resolve("corruption", name)(corrupt_key(seed), telltale(), 0.5)
    images = np.concatenate([corrupted.train.images, corrupted.test.images])
    assert sha(images) == GOLDEN_PERMUTATIONS[seed, name], MESSAGE
