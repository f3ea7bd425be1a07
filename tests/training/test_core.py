"""One run: its steps against the same mathematics in NumPy and float64, its randomness, and what its metrics count."""

import hashlib
from dataclasses import replace
from functools import cache, partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rethink_gen.data import augmentations
from rethink_gen.data.randomness import root_key, stream
from rethink_gen.errors import UsageError
from rethink_gen.models.mlp import MLP
from rethink_gen.training import core
from rethink_gen.training.core import _optimizer, epoch_order
from rethink_gen.training.program import Data, Hparams, Program, State

N, BATCH, CLASSES = 13, 4, 3  # three steps an epoch; one example is left over
NUMBERS = {"learning_rate": 0.1, "learning_rate_decay": 0.5, "momentum": 0.9, "weight_decay": 0.02}
PROGRAM = Program(MLP(CLASSES, hidden=(7,)), augmentations=(), crop_size=4, whitening=True, batch_size=BATCH)

initialize = jax.jit(core.init, static_argnums=0)
train_step = jax.jit(core.train_step, static_argnums=0)
train_steps: Any = jax.jit(core.train_steps, static_argnums=0)
evaluate = jax.jit(core.evaluate, static_argnums=(0, 4))
ordered = jax.jit(epoch_order, static_argnums=(0, 3, 4))


def order_of(hparams, epoch, size, batch_size):
    return ordered(PROGRAM, hparams, epoch, size, batch_size)


def hparams_of(seed=0, **numbers: float) -> Hparams:
    return Hparams(root_key(seed), **{name: jnp.float32(value) for name, value in {**NUMBERS, **numbers}.items()})


@cache
def data() -> Any:
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (N, 5, 6, 2)), rng.integers(0, CLASSES, N)
    other = np.where(rng.random(N) < 0.4, (labels + 1) % CLASSES, labels)
    arrays: Any = images.astype(np.uint8), labels.astype(np.int32), other.astype(np.int32)
    return Data(*arrays)


@cache
def start(seed=0) -> State:
    return initialize(PROGRAM, hparams_of(seed), data().images)


def train(program: Program, hparams: Hparams, steps: int, some_data: Any = None) -> list[State]:
    """The states after 0, 1, … steps."""
    some_data = some_data or data()
    states = [start() if program.loss == PROGRAM.loss else initialize(program, hparams, some_data.images)]
    while len(states) <= steps:
        epoch = (len(states) - 1) // (len(some_data.labels) // program.batch_size)
        order = order_of(hparams, epoch, len(some_data.labels), program.batch_size)
        states.append(train_step(program, hparams, some_data, order, states[-1]))
    return states


# The same in NumPy and float64, the gradient by hand.


def whitened(images):
    x = images[:, :4, 1:5] / 255.0  # the middle 4 × 4 of 5 × 6; where one row is over, the last goes
    return ((x - x.mean((1, 2, 3), keepdims=True)) / x.std((1, 2, 3), keepdims=True)).reshape(len(x), -1)


class Forward(NamedTuple):
    hidden: Any
    logits: Any
    probabilities: Any
    losses: Any


def forward(w, x, labels):
    hidden = np.maximum(x @ w["W1"] + w["b1"], 0)
    logits = hidden @ w["W2"] + w["b2"]
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    return Forward(hidden, logits, probabilities, -np.log(probabilities[np.arange(len(labels)), labels]))


def gradient(w, x, labels):
    out = forward(w, x, labels)
    d_logits = (out.probabilities - np.eye(CLASSES)[labels]) / len(labels)
    d_hidden = d_logits @ w["W2"].T * (out.hidden > 0)
    return {"W1": x.T @ d_hidden, "b1": d_hidden.sum(0), "W2": out.hidden.T @ d_logits, "b2": d_logits.sum(0)}


def weights(state):
    layers = [("1", state.params["Dense_0"]), ("2", state.params["Dense_1"])]
    pairs = [(f"{ours}{i}", layer[theirs]) for i, layer in layers for ours, theirs in (("W", "kernel"), ("b", "bias"))]
    return {name: np.asarray(leaf, np.float64) for name, leaf in pairs}


def by_hand(steps, *, learning_rate, learning_rate_decay, momentum, weight_decay):
    """The weights after each step, and the losses and hits on the minibatch before it."""
    w = weights(start())
    v = {name: np.zeros_like(leaf) for name, leaf in w.items()}
    x, labels = whitened(data().images), data().labels
    history, batches = [], []
    for step in range(steps):
        epoch, row = divmod(step, N // BATCH)
        batch = np.asarray(order_of(hparams_of(), epoch, N, BATCH))[row]
        out = forward(w, x[batch], labels[batch])
        batches.append((batch, out.losses, out.logits.argmax(1) == labels[batch]))
        for name, slope in gradient(w, x[batch], labels[batch]).items():
            v[name] = momentum * v[name] + slope + (weight_decay * w[name] if name.startswith("W") else 0)
        w = {name: w[name] - learning_rate * learning_rate_decay**epoch * v[name] for name in w}
        history.append(w)
    return history, batches


@pytest.mark.parametrize(
    "numbers",
    [{}, {"momentum": 0.0}, {"weight_decay": 0.0}, {"learning_rate_decay": 1.0}],
    ids=["all", "without momentum", "without weight decay", "without learning rate decay"],
)
def test_steps_are_those_of_sgd_written_by_hand(numbers):
    """Two epochs of three steps: momentum goes on, the learning rate falls once, biases are not decayed."""
    states = train(PROGRAM, hparams_of(**numbers), 6)[1:]
    history, _ = by_hand(6, **{**NUMBERS, **numbers})
    for state, expected in zip(states, history, strict=True):
        found = weights(state)
        for name in expected:
            np.testing.assert_allclose(found[name], expected[name], atol=2e-6)  # float32 against float64, six steps
    assert not np.allclose(weights(states[-1])["W1"], weights(start())["W1"], atol=1e-3)


def test_weight_decay_is_of_kernels_not_of_biases_or_offsets():
    params = {"kernel": jnp.ones((2, 3)), "convolution": jnp.ones((3, 3, 1, 2)), "bias": jnp.ones(3)}
    sgd = _optimizer(PROGRAM, hparams_of(weight_decay=0.5), 0.1)
    updates, _ = sgd.update(jax.tree.map(jnp.zeros_like, params), sgd.init(params), params)
    assert {name: float(leaf.mean()) for name, leaf in updates.items()} == pytest.approx(
        {"kernel": -0.05, "convolution": -0.05, "bias": 0}
    )


def test_many_steps_in_one_call_are_as_many_steps():
    hparams = hparams_of()
    order = order_of(hparams, 0, N, BATCH)
    one_by_one = train(PROGRAM, hparams, 3)
    for count in (0, 1, 2, 3):
        together = train_steps(PROGRAM, hparams, data(), order, start(), count)
        jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-6, atol=1e-7), together, one_by_one[count])
    first = train_steps(PROGRAM, hparams, data(), order, start(), 2)
    again = train_steps(PROGRAM, hparams, data(), order, first, 1)
    jax.tree.map(np.testing.assert_array_equal, again, together)
    assert train_steps._cache_size() == 1, "one compilation serves any number of steps"


# Metrics.


def test_running_sums_are_over_the_minibatches_of_the_epoch_under_way():
    """Each loss is that before the step; the sums begin anew with each epoch."""
    states = train(PROGRAM, hparams_of(), 6)[1:]
    _, batches = by_hand(6, **NUMBERS)
    for step, state in enumerate(states):
        seen = batches[3 * (step // 3) : step + 1]
        index, losses, hits = map(np.concatenate, zip(*seen, strict=True))
        changed = data().changed[index]
        expected = (len(index), losses.sum(), hits.sum(), changed.sum(), (hits & changed).sum())
        np.testing.assert_allclose(state.running[:5], expected, rtol=1e-5)
        assert int(state.step) == step + 1


@pytest.mark.parametrize("size", [5, 13, 20])
def test_evaluation_counts_every_example_once(size):
    """Thirteen in chunks of 5, 5 and 3; of 13; and of 20, more than there are."""
    state = train(PROGRAM, hparams_of(), 4)[-1]
    out = forward(weights(state), whitened(data().images), data().labels)
    right, changed = out.logits.argmax(1) == data().labels, data().changed
    as_other = (out.logits.argmax(1) == data().other).sum()
    assert 0 < right.sum() < N
    assert 0 < (right & changed).sum() < changed.sum()
    chunks = [evaluate(PROGRAM, state, data(), first, size)[:6] for first in range(0, N, size)]
    expected = (N, out.losses.sum(), right.sum(), changed.sum(), (right & changed).sum(), as_other)
    np.testing.assert_allclose(np.sum(chunks, axis=0), expected, rtol=1e-5)
    assert [int(chunk[0]) for chunk in chunks] == [len(range(N)[first : first + size]) for first in range(0, N, size)]


def test_evaluation_neither_augments_nor_drops_out():
    with_all = Program(MLP(CLASSES, dropout=0.5, hidden=(7,)), ("random_crop", "flip", "rotation"), 4, True, BATCH)
    plain, augmented = (evaluate(program, start(), data(), 0, N) for program in (PROGRAM, with_all))
    jax.tree.map(np.testing.assert_array_equal, plain, augmented)


def test_weight_norm_is_over_all_parameters():
    expected = np.sqrt(sum((leaf**2).sum() for leaf in weights(start()).values()))
    assert float(core.weight_norm(start())) == pytest.approx(expected, rel=1e-6)


def test_layer_norms_are_of_kernels_alone():
    kernels = [np.linalg.norm(leaf) for leaf in weights(start()).values() if leaf.ndim == 2]
    assert sorted(map(float, core.layer_norms(start()))) == pytest.approx(sorted(kernels), rel=1e-6)


# Order and chance.


def test_an_epoch_shuffles_the_examples_and_drops_the_rest():
    orders = [np.asarray(order_of(hparams_of(seed), epoch, N, BATCH)) for seed in (0, 1) for epoch in range(4)]
    for order in orders:
        assert order.shape == (N // BATCH, BATCH)
        assert len(np.unique(order)) == order.size
        assert order.min() >= 0
        assert order.max() < N
    assert len({order.tobytes() for order in orders}) == len(orders), "another order for each epoch and each seed"
    assert np.array_equal(orders[2], order_of(hparams_of(0), 2, N, BATCH))
    assert set(np.concatenate(orders[:4]).flat) == set(range(N)), "the one that is dropped is another each time"


def test_the_order_depends_on_the_seed_alone():
    other = hparams_of(learning_rate=0.01, learning_rate_decay=1.0, momentum=0.0, weight_decay=0.0)
    assert np.array_equal(order_of(other, 1, N, BATCH), order_of(hparams_of(), 1, N, BATCH))


GOLDEN_ORDERS = {
    0: "dfe600e7a42445a8bfd9b04d7cd89e2be9b5eae04ae2d1b1929a54b91aa65698",
    1: "ed4f421ae3bf43d096ef152699052d657772e216c62f22722e8afd9fad86dda4",
    2: "7b58b59a9b6a6c8e66f9979badf503b80717fd1c9a3f1920682897a6045575ef",
}


@pytest.mark.parametrize("seed", GOLDEN_ORDERS)
def test_orders_stay(seed):
    orders = [np.asarray(order_of(hparams_of(seed), epoch, 1000, 128)) for epoch in range(3)]
    found = hashlib.sha256(np.stack(orders).astype("<i4").tobytes()).hexdigest()
    assert found == GOLDEN_ORDERS[seed], (
        "the order of examples has changed; update this only in a commit that runs every experiment again"
    )


def test_the_start_depends_on_the_seed_and_not_on_the_images():
    other_data = initialize(PROGRAM, hparams_of(), 255 - data().images)
    jax.tree.map(np.testing.assert_array_equal, other_data, start())
    assert not np.array_equal(start(seed=1).params["Dense_0"]["kernel"], start().params["Dense_0"]["kernel"])


@pytest.mark.parametrize("chance", ["none", "random_crop", "dropout"])
def test_chance_is_drawn_anew_for_each_step(chance):
    """On eight equal examples, at a learning rate of 0, only what is drawn tells one step from another."""
    eight = jax.tree.map(lambda leaf: np.repeat(leaf[:1], 8, 0), data())
    augmentations = ("random_crop",) if chance == "random_crop" else ()
    program = Program(MLP(CLASSES, dropout=0.5 * (chance == "dropout"), hidden=(7,)), augmentations, 4, True, 8)
    losses = [float(state.running.loss) for state in train(program, hparams_of(learning_rate=0.0), 4, eight)[1:]]
    assert len(set(losses)) == (1 if chance == "none" else 4), "each step is an epoch of its own here"
    again = [float(state.running.loss) for state in train(program, hparams_of(learning_rate=0.0), 4, eight)[1:]]
    assert again == losses


def test_streams_are_apart():
    keys = [
        stream(root_key(seed), name) for seed in range(5) for name in ("init", "order", "augment", "corrupt", "flip")
    ]
    assert len({jax.random.key_data(key).tobytes() for key in keys}) == 25
    assert jax.random.key_impl(root_key(0)) == "threefry2x32"


# What the network sees.


def test_inputs_are_cropped_scaled_and_whitened():
    found = core.inputs(PROGRAM, jnp.asarray(data().images))
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found.reshape(N, -1), whitened(data().images), atol=1e-5)
    raw = Program(PROGRAM.model, (), 4, whitening=False, batch_size=BATCH)
    np.testing.assert_allclose(core.inputs(raw, jnp.asarray(data().images)), data().images[:, :4, 1:5] / 255, rtol=1e-6)


def test_an_augmentation_that_is_not_known_is_answered_with_the_nearest():
    program = Program(PROGRAM.model, ("flip", "rotate"), 4, True, BATCH)
    with pytest.raises(UsageError, match="no augmentation named 'rotate'; did you mean 'rotation'"):
        core.inputs(program, jnp.asarray(data().images), root_key(0))


# What ImageNet needs.


def test_label_smoothing_shares_a_part_of_each_target_among_all_classes():
    """The first step's gradient by hand, with targets 0.7 · one-hot + 0.3 / 3; the losses counted are plain."""
    smooth = replace(PROGRAM, label_smoothing=0.3)
    plain, smoothed = (train(program, hparams_of(weight_decay=0.0), 1)[1] for program in (PROGRAM, smooth))
    np.testing.assert_allclose(plain.running[:5], smoothed.running[:5], rtol=1e-6)  # two programs: sums may differ
    batch = np.asarray(order_of(hparams_of(), 0, N, BATCH))[0]
    x, w = whitened(data().images)[batch], weights(start())
    out = forward(w, x, data().labels[batch])
    targets = 0.7 * np.eye(CLASSES)[data().labels[batch]] + 0.3 / CLASSES
    d_logits = (out.probabilities - targets) / BATCH
    np.testing.assert_allclose(weights(smoothed)["W2"], w["W2"] - 0.1 * out.hidden.T @ d_logits, atol=1e-6)
    np.testing.assert_allclose(weights(smoothed)["b2"], w["b2"] - 0.1 * d_logits.sum(0), atol=1e-6)


def test_a_mixed_batch_is_trained_on_as_its_images_and_targets_say():
    """The first step's gradient by hand, with what mixup makes of the batch; evaluation does not mix."""
    program = replace(PROGRAM, augmentations=("mixup(alpha=2)",), label_smoothing=0.3)
    after = train(program, hparams_of(weight_decay=0.0), 1)[1]
    batch = np.asarray(order_of(hparams_of(), 0, N, BATCH))[0]
    key = stream(jax.random.fold_in(stream(root_key(0), "augment"), 0), "mixup(alpha=2)")
    smoothed = 0.7 * np.eye(CLASSES, dtype=np.float32)[data().labels[batch]] + np.float32(0.3 / CLASSES)
    images, targets = augmentations.mixup(
        key, core.inputs(PROGRAM, jnp.asarray(data().images[batch])), smoothed, alpha=2.0
    )
    assert np.ptp(np.sort(targets, axis=1)[:, -1]) > 0.01, "no batch of this size is left as it is"
    w = weights(start())
    out = forward(w, np.asarray(images).reshape(BATCH, -1), data().labels[batch])
    d_logits = (out.probabilities - np.asarray(targets)) / BATCH
    np.testing.assert_allclose(weights(after)["W2"], w["W2"] - 0.1 * out.hidden.T @ d_logits, atol=1e-6)
    plain = evaluate(PROGRAM, after, data(), 0, N)
    jax.tree.map(np.testing.assert_array_equal, evaluate(program, after, data(), 0, N), plain)


def test_a_loss_of_a_batch_is_reported_as_cross_entropy_and_still_trained_on():
    """small_loss chose among whole windows, with copies of the last example in them: losses and records were wrong."""
    program = replace(PROGRAM, loss="small_loss(keep=0.5)")
    state = train(program, hparams_of(weight_decay=0.0), 1)[-1]
    for size in (5, 13, 20):
        parts = [evaluate(program, state, data(), first, size).loss for first in range(0, N, size)]
        expected = [evaluate(PROGRAM, state, data(), first, size).loss for first in range(0, N, size)]
        np.testing.assert_array_equal(parts, expected)
    batch = np.asarray(order_of(hparams_of(), 0, N, BATCH))[0]
    w = weights(start())
    out = forward(w, whitened(data().images[batch]), data().labels[batch])
    kept = np.argsort(out.losses)[:2]
    d_logits = (out.probabilities - np.eye(CLASSES)[data().labels[batch]])[kept] / len(kept)
    np.testing.assert_allclose(weights(state)["W2"], w["W2"] - 0.1 * out.hidden[kept].T @ d_logits, atol=1e-6)


def test_a_loss_remembers_each_example_for_itself():
    """At a learning rate of 0 the network says the same each time: after c sights it remembers 1 − 0.7^c of that."""
    program = replace(PROGRAM, loss="early_learning(weight=0)")
    state = train(program, hparams_of(learning_rate=0.0), 6)[-1]
    orders = [np.asarray(order_of(hparams_of(), epoch, N, BATCH)).ravel() for epoch in (0, 1)]
    seen = np.bincount(np.concatenate(orders), minlength=N)
    assert set(seen) == {1, 2}
    p = forward(weights(start()), whitened(data().images), data().labels).probabilities
    np.testing.assert_allclose(state.memory, (1 - 0.7**seen)[:, None] * p, atol=1e-4)  # p is clipped at 1e-4
    moved = train(program, hparams_of(), 6)[-1]
    plain = train(PROGRAM, hparams_of(), 6)[-1]
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-7), moved.params, plain.params)


class TwoHeads(nn.Module):
    """Two linear maps of the pixels; the second is an auxiliary head."""

    num_classes: int = CLASSES
    auxiliary_weight: float = 0.4

    @nn.compact
    def __call__(self, x, *, train=False):
        x = x.reshape(len(x), -1)
        logits, auxiliary = nn.Dense(CLASSES, name="first")(x), nn.Dense(CLASSES, name="second")(x)
        if train:
            self.sow("auxiliary", "logits", auxiliary)
        return logits


def test_the_loss_of_an_auxiliary_head_counts_with_its_weight():
    program = replace(PROGRAM, model=TwoHeads(), label_smoothing=0.3)
    before = initialize(program, hparams_of(), data().images)
    order = order_of(hparams_of(), 0, N, BATCH)
    after = train_step(program, hparams_of(weight_decay=0.0), data(), order, before)
    batch = np.asarray(order)[0]
    x = whitened(data().images)[batch]
    targets = 0.7 * np.eye(CLASSES)[data().labels[batch]] + 0.3 / CLASSES
    for name, weight in (("first", 1.0), ("second", 0.4)):
        kernel = np.asarray(before.params[name]["kernel"], np.float64)
        exponentials = np.exp(x @ kernel)
        slope = weight * x.T @ (exponentials / exponentials.sum(1, keepdims=True) - targets) / BATCH
        np.testing.assert_allclose(after.params[name]["kernel"], kernel - 0.1 * slope, atol=2e-6)


def test_top_5_counts_labels_among_the_five_likeliest():
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(40, 12)).astype(np.float32), rng.integers(0, 12, 40).astype(np.int32)
    batch = Data(*map(jnp.asarray, (np.zeros((40, 1, 1, 1)), labels, labels)))
    weight = (np.arange(40) < 30).astype(np.float32)
    sums = core._score(replace(PROGRAM, top5=True), jnp.asarray(logits), batch, weight)
    rank = (logits > logits[np.arange(40), labels][:, None]).sum(1)
    assert int(sums.correct_top5) == (rank < 5)[:30].sum()
    assert int(sums.correct) == (rank < 1)[:30].sum()
    assert core._score(PROGRAM, jnp.asarray(logits), batch).correct_top5 is None
    assert initialize(replace(PROGRAM, top5=True), hparams_of(), data().images).running.correct_top5 == 0


def test_in_bfloat16_only_activations_and_products_are():
    """To three digits the same run; weights, statistics, losses and the optimizer's state stay float32."""
    half = replace(PROGRAM, precision="bfloat16")
    found, expected = (train(program, hparams_of(), 6)[-1] for program in (half, PROGRAM))
    floats = [leaf.dtype for leaf in jax.tree.leaves(found) if jnp.issubdtype(leaf.dtype, jnp.floating)]
    assert set(floats) == {jnp.dtype("float32")}
    assert 1e-5 < abs(float(found.running.loss / expected.running.loss) - 1) < 0.02  # bfloat16 has 8 bits
    with pytest.raises(UsageError, match="no precision named 'bfloat32'; did you mean 'float32' or 'bfloat16'"):
        replace(PROGRAM, precision="bfloat32")
