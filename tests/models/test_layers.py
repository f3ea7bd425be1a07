"""Layers with a gradient by hand: against flax, the formula and jax's own gradient of it, in float64."""

from collections.abc import Callable, Iterator
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rethink_gen.data import randomness
from rethink_gen.errors import UsageError
from rethink_gen.models import create, inception_v3
from rethink_gen.models.layers import (
    BatchNorm,
    GhostBatchNorm,
    _batch_norm_relu,
    local_response_normalization,
    max_pool,
)
from rethink_gen.training import compilation, core
from rethink_gen.training.program import Data, Hparams, Program

SHAPES = [(2, 28, 28, 3), (3, 5, 4, 2), (1, 3, 7, 2)]


@pytest.fixture
def float64() -> Iterator[None]:
    with jax.enable_x64(True):
        yield


def slopes(function: Callable[..., jax.Array], *inputs: Any) -> tuple[Any, ...]:
    """What a function returns, and the gradient of a random projection of that with respect to each input."""
    y = jax.eval_shape(function, *jax.tree.map(jnp.asarray, inputs))
    direction = jnp.asarray(np.random.default_rng(1).normal(size=y.shape), y.dtype)

    @jax.jit
    def both(direction: jax.Array, *inputs: jax.Array) -> tuple[Any, ...]:
        y, back = jax.vjp(function, *inputs)
        return y, *back(direction)

    return both(direction, *inputs)


def normal(*shape: int, scale: float = 1.0) -> np.ndarray:
    return np.random.default_rng(0).normal(0, scale, shape)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(
    ("padding", "shape"),
    [*[(padding, shape) for padding in ("SAME", "VALID") for shape in SHAPES], ("SAME", (1, 1, 2, 2))],
)
@pytest.mark.parametrize("ties", [False, True])
def test_max_pool_is_flaxs_and_so_is_its_gradient(padding, shape, ties):
    """Also where a window has its largest value twice: the first of them gets the gradient."""
    x = np.round(normal(*shape)) if ties else normal(*shape)
    expected = slopes(lambda x: nn.max_pool(x, (3, 3), (2, 2), padding), x)
    for found, wanted in zip(slopes(lambda x: max_pool(x, padding), x), expected, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-14)


class Stem(nn.Module):
    """The beginning of Inception V3."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        def conv(x: jax.Array, channels: int, size: int = 1, stride: int = 1, padding: str = "SAME") -> jax.Array:
            x = nn.Conv(channels, (size, size), stride, padding, use_bias=False)(x)
            return BatchNorm(0.9, 1e-3)(x, train=True)

        return inception_v3._stem(conv, x)


@pytest.mark.long
def test_gradient_goes_to_the_largest_value_also_where_xla_computes_it_twice(monkeypatch):
    """Which of a window's values equals the largest cannot be asked: recomputed, none may. 40 % of it went astray."""
    stem, images = Stem(), jnp.asarray(np.random.default_rng(0).random((4, 75, 75, 3)), jnp.float32)
    variables = stem.init(jax.random.key(0), images)

    def gradient(params: Any) -> Any:
        apply = lambda params: stem.apply({**variables, "params": params}, images, mutable=["batch_stats"])[0]
        return slopes(apply, params)[1]

    found = gradient(variables["params"])
    monkeypatch.setattr(inception_v3, "_max_pool", lambda x: nn.max_pool(x, (3, 3), (2, 2), "VALID"))
    expected = gradient(variables["params"])
    difference = optax.tree.norm(optax.tree.sub(found, expected)) / optax.tree.norm(expected)
    assert difference < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("model", ["small_alexnet", "small_inception"])
def test_a_step_is_that_of_flaxs_max_pool(model, monkeypatch):
    """The whole program as it is trained, on the device that is here: what XLA computes twice depends on both."""
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (64, 28, 28, 3), np.uint8), rng.integers(0, 10, 64).astype(np.int32)
    data = Data(jnp.asarray(images), jnp.asarray(labels), jnp.asarray(labels))
    program = Program(create.create(model, 10), (), crop_size=28, whitening=True, batch_size=64)
    hparams = Hparams(randomness.root_key(0), *map(jnp.float32, (1.0, 1.0, 0.0, 0.0)))

    def weights_after_a_step() -> Any:
        jax.clear_caches()
        compilation.jit.cache_clear()
        state = core.init(program, hparams, data.images)
        before = jax.tree.map(np.array, state.params)
        step = compilation.jit(core.train_step, convolves=True)
        after = step(program, hparams, data, jnp.arange(64)[None], state)
        return optax.tree.sub(after.params, before)

    found = weights_after_a_step()
    monkeypatch.setattr(create, "max_pool", lambda x: nn.max_pool(x, (3, 3), (2, 2), "SAME"))
    expected = weights_after_a_step()
    assert optax.tree.norm(optax.tree.sub(found, expected)) < 1e-4 * optax.tree.norm(expected)


def response(x: jax.Array) -> jax.Array:
    """Channel by channel, as Krizhevsky et al. write it, with the constants of TensorFlow's tutorial."""
    channels = range(x.shape[-1])
    sums = [jnp.square(x[..., max(0, c - 4) : c + 5]).sum(-1) for c in channels]
    return x / (1 + 0.001 / 9 * jnp.stack(sums, -1)) ** 0.75


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("channels", [1, 5, 13])
def test_local_response_normalization_is_its_formula_and_so_is_its_gradient(channels):
    x = normal(2, 3, 2, channels, scale=60)
    expected = slopes(response, x)
    for found, wanted in zip(slopes(local_response_normalization, x), expected, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-12, atol=1e-14)
    assert np.abs(expected[0]).max() < 0.9 * np.abs(x).max(), "the inputs are large enough to be normalized at all"


OFFSET, EPSILON = normal(12), 1e-3


def normalized(x: jax.Array, offset: Any = OFFSET) -> jax.Array:
    return _batch_norm_relu(x, jnp.asarray(offset, x.dtype), EPSILON)[0]


def normalized_by_formula(x: jax.Array, offset: jax.Array) -> jax.Array:
    pixels = (0, 1, 2)
    return nn.relu((x - x.mean(pixels)) / jnp.sqrt(x.var(pixels) + EPSILON) + offset)


@pytest.mark.usefixtures("float64")
def test_batch_norm_is_its_formula_and_so_is_its_gradient():
    x = 2 + normal(5, 6, 7, 12, scale=3)
    expected = slopes(normalized_by_formula, x, OFFSET)
    for found, wanted in zip(slopes(normalized, x, OFFSET), expected, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_batch_norm_has_the_variables_and_the_values_of_flaxs(dtype):
    """Parameters and statistics by name, shape and value: what was trained with one goes on with the other."""
    x = jnp.asarray(2 + normal(5, 6, 7, 12, scale=3), dtype)

    class Flax(nn.Module):
        @nn.compact
        def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
            return nn.relu(nn.BatchNorm(not train, momentum=0.9, epsilon=EPSILON, use_scale=False)(x))

    class Ours(nn.Module):
        @nn.compact
        def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
            return BatchNorm(0.9, EPSILON)(x, train=train)

    @jax.jit
    def all_of(x: jax.Array) -> Any:
        results = []
        for module in (Flax(), Ours()):
            variables: Any = module.init(jax.random.key(0), x, train=True)
            params = {"BatchNorm_0": {"bias": jnp.asarray(OFFSET, dtype)}}
            y, updates = module.apply({**variables, "params": params}, x, train=True, mutable=["batch_stats"])
            results.append((variables, y, updates, module.apply({**updates, "params": params}, x, train=False)))
        return results

    flaxs, ours = all_of(x)
    tolerance = 2**-7 if dtype == jnp.bfloat16 else 1e-5
    same = lambda a, b: np.testing.assert_allclose(*(np.asarray(v, np.float32) for v in (a, b)), tolerance, tolerance)
    jax.tree.map(same, ours, flaxs)
    assert [leaf.dtype for leaf in jax.tree.leaves(ours)] == [leaf.dtype for leaf in jax.tree.leaves(flaxs)]


@pytest.mark.usefixtures("float64")
def test_layers_and_their_gradients_are_pytorchs():
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install -e '.[benchmark]'")
    x = normal(4, 9, 9, 12, scale=20)
    functional = torch.nn.functional
    pairs = (
        (lambda x: max_pool(x, "VALID"), lambda x: functional.max_pool2d(x, 3, 2)),
        (local_response_normalization, lambda x: functional.local_response_norm(x, 9, 0.001, 0.75, 1.0)),
        (
            normalized,
            lambda x: functional.batch_norm(
                x, None, None, bias=torch.tensor(OFFSET), weight=torch.ones(12).double(), training=True, eps=EPSILON
            ).relu(),
        ),
    )
    for ours, theirs in pairs:
        image = torch.tensor(x).permute(0, 3, 1, 2).requires_grad_()
        y = theirs(image)
        found = slopes(ours, x)
        y.backward(torch.tensor(np.random.default_rng(1).normal(size=found[0].shape)).permute(0, 3, 1, 2))
        for ours_is, theirs_is in zip(found, (y, image.grad), strict=True):
            np.testing.assert_allclose(ours_is, theirs_is.detach().permute(0, 2, 3, 1).numpy(), rtol=1e-9, atol=1e-11)


LAYERS = {
    "max_pool": max_pool,
    "local_response_normalization": local_response_normalization,
    "batch_norm_relu": normalized,
}
every_layer = pytest.mark.parametrize("layer", LAYERS.values(), ids=LAYERS)


@every_layer
def test_of_several_runs_at_once_a_layer_computes_what_it_does_of_each(layer):
    x = normal(3, 2, 6, 7, 12).astype(np.float32)
    one_by_one = lambda x: jnp.stack([layer(run) for run in x])
    for together, apart in zip(slopes(jax.vmap(layer), x), slopes(one_by_one, x), strict=True):
        np.testing.assert_allclose(together, apart, rtol=1e-6, atol=1e-7)  # float32 sums over 9 channels


@every_layer
def test_in_bfloat16_a_layer_and_its_gradient_stay_in_it_to_its_three_digits(layer):
    x = jnp.asarray(normal(2, 6, 7, 12, scale=30), jnp.bfloat16)
    for found, wanted in zip(slopes(layer, x), slopes(layer, x.astype(jnp.float32)), strict=True):
        assert found.dtype == jnp.bfloat16
        np.testing.assert_allclose(found.astype(jnp.float32), wanted, rtol=2**-6, atol=2**-6)


def in_training(layer: nn.Module, x: jax.Array, **options: Any) -> tuple[jax.Array, Any]:
    """What a batch norm with a drawn scale and offset returns while it trains, and its running statistics."""
    rng = np.random.default_rng(2)
    params = {name: jnp.asarray(rng.normal(size=x.shape[-1]), jnp.float32) for name in ("scale", "bias")}
    stats = {name: jnp.full(x.shape[-1], value, jnp.float32) for name, value in (("mean", 0.5), ("var", 2.0))}
    variables = {"params": params, "batch_stats": stats}
    y, new = layer.apply(variables, x, mutable=["batch_stats"], **options)
    return y, new["batch_stats"]


@pytest.mark.usefixtures("float64")
def test_ghost_batch_norm_normalizes_each_ghost_batch_by_itself_and_its_statistics_follow_them_in_turn():
    x = normal(6, 3, 2, 4)
    y, stats = in_training(GhostBatchNorm(2, momentum=0.9, epsilon=1e-3), jnp.asarray(x), train=True)
    rng = np.random.default_rng(2)
    scale, offset = (rng.normal(size=4).astype(np.float32) for _ in range(2))
    mean, variance = np.full(4, 0.5), np.full(4, 2.0)
    for i in range(0, 6, 2):
        ghost = x[i : i + 2]
        m, v = ghost.mean((0, 1, 2)), ghost.var((0, 1, 2))
        np.testing.assert_allclose(y[i : i + 2], (ghost - m) / np.sqrt(v + 1e-3) * scale + offset, rtol=1e-12)
        mean, variance = 0.9 * mean + 0.1 * m, 0.9 * variance + 0.1 * v
    np.testing.assert_allclose(stats["mean"], mean, rtol=1e-6)
    np.testing.assert_allclose(stats["var"], variance, rtol=1e-6)


@pytest.mark.parametrize("ghost_batch", [6, 8])
def test_one_ghost_batch_is_plain_batch_norm_and_so_is_its_gradient(ghost_batch):
    """A batch smaller than a ghost batch is one, too."""
    ghost = GhostBatchNorm(ghost_batch, momentum=0.9, epsilon=1e-5)
    plain = nn.BatchNorm(use_running_average=False, momentum=0.9, epsilon=1e-5)
    x = normal(6, 3, 3, 4).astype(np.float32)
    found = slopes(lambda x: in_training(ghost, x, train=True)[0], x)
    for each, wanted in zip(found, slopes(lambda x: in_training(plain, x)[0], x), strict=True):
        np.testing.assert_allclose(each, wanted, atol=2e-5)  # float32 sums over 54 values
    stats, wanted = in_training(ghost, jnp.asarray(x), train=True)[1], in_training(plain, jnp.asarray(x))[1]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), dict(stats), dict(wanted))


@pytest.mark.parametrize("name", ["mlp(ghost_batch=4)", "mlp(batch_norm=true,ghost_batch=-4)"])
def test_a_ghost_batch_without_batch_norm_or_of_no_examples_is_refused(name):
    with pytest.raises(UsageError, match="ghost_batch"):
        create.create(name, num_classes=3).init(jax.random.key(0), jnp.zeros((1, 2, 2, 1)))


def test_a_batch_that_no_ghost_batches_fill_is_refused():
    with pytest.raises(UsageError, match="a batch of 6 examples cannot be cut into ghost batches of 4"):
        in_training(GhostBatchNorm(4, momentum=0.9, epsilon=1e-5), jnp.zeros((6, 2)), train=True)


@pytest.mark.parametrize(
    "name",
    [
        "mlp(hidden=8+8,batch_norm=true,ghost_batch=3)",
        "resnet(blocks=1+1,width=2,projection=true,ghost_batch=3)",
        "resnet(blocks=1+1,width=2,preactivation=true,ghost_batch=3)",
    ],
)
def test_a_network_sees_each_ghost_batch_as_a_batch_of_its_own(name):
    model = create.create(name, num_classes=3)
    x = jnp.asarray(normal(6, 8, 8, 1), jnp.float32)
    variables = model.init(jax.random.key(0), x[:1])

    @jax.jit
    def answer(x):
        return model.apply(variables, x, train=True, mutable=["batch_stats"])[0]

    np.testing.assert_allclose(answer(x), jnp.concatenate([answer(x[:3]), answer(x[3:])]), atol=1e-5)
