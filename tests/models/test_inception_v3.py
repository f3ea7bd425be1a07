"""Inception V3: its size, its shapes, where it starts, and how its statistics and its auxiliary head take part."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rethink_gen.errors import UsageError
from rethink_gen.models import create, inception_v3
from rethink_gen.models.inception_v3 import _SMALLEST, InceptionV3, _truncated_normal

KEY = jax.random.key(0, impl="threefry2x32")


def variables_of(model: Any, size: int = 299) -> Any:
    """The shapes of a model's variables; nothing is computed."""
    return jax.eval_shape(model.init, KEY, jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32))


def count(tree):
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def test_there_are_as_many_parameters_as_in_tf_slim():
    """Keras, which has the same layers, reports 23,817,352 trainable parameters and 34,432 means and variances."""
    without = variables_of(InceptionV3(1000, auxiliary_weight=0))
    assert count(without["params"]) == 23_817_352
    assert count(without["batch_stats"]) == 34_432 + 1  # and the number of steps
    head = (128 * 768 + 128) + (768 * 5 * 5 * 128 + 768) + (1000 * 768 + 1000)
    assert count(variables_of(create.create("inception_v3", 1000))["params"]) == 23_817_352 + head == 27_143_152


def test_the_classes_are_counted_in_the_last_layers_alone():
    sizes = [count(variables_of(InceptionV3(classes))["params"]) for classes in (1000, 10)]
    assert sizes[0] - sizes[1] == 990 * (2048 + 1 + 768 + 1)


def test_a_parameter_is_a_kernel_or_an_offset():
    params = variables_of(InceptionV3(1000, auxiliary_weight=0))["params"]
    names = {path[-1].key for path, _ in jax.tree.leaves_with_path(params)}
    assert names == {"kernel", "bias"}
    assert [name for name in params if {"kernel", "bias"} <= params[name].keys()] == ["Dense_0"]


def bare_convolution(x, channels, size=1, stride=1, padding="SAME", stddev=0.1):
    window = (size, size) if isinstance(size, int) else size
    kernel = jnp.zeros((*window, x.shape[-1], channels))
    axes = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(x, kernel, (stride, stride), padding, dimension_numbers=axes)


def test_images_shrink_as_szegedy_et_al_say():
    """Table 1 of their paper: 35×35, 17×17 and 8×8; the channels of each module are those of TF-slim."""

    def shapes(x):
        found = [x := inception_v3._stem(bare_convolution, x)]
        found += [x := inception_v3._mixed_35x35(bare_convolution, x, pooled) for pooled in (32, 64, 64)]
        found += [x := inception_v3._downsample_to_17x17(bare_convolution, x)]
        found += [x := inception_v3._mixed_17x17(bare_convolution, x, 160)]
        found += [x := inception_v3._downsample_to_8x8(bare_convolution, x)]
        return [*found, inception_v3._mixed_8x8(bare_convolution, x)]

    found = jax.eval_shape(shapes, jax.ShapeDtypeStruct((1, 299, 299, 3), jnp.float32))
    expected = [(35, 192), (35, 256), (35, 288), (35, 288), (17, 768), (17, 768), (8, 1280), (8, 2048)]
    assert [(x.shape[1], x.shape[3]) for x in found] == expected


@pytest.mark.parametrize("size", [_SMALLEST, 299])
def test_logits_are_for_each_class_and_in_training_there_is_a_second_set(size):
    model: Any = InceptionV3(7, dropout=0.5)
    images = jax.ShapeDtypeStruct((2, size, size, 3), jnp.float32)
    variables = {name: tree for name, tree in variables_of(model, size).items() if name != "auxiliary"}
    options = {"train": True, "mutable": ["batch_stats", "auxiliary"], "rngs": {"dropout": KEY}}
    assert jax.eval_shape(model.apply, variables, images).shape == (2, 7)
    logits, updates = jax.eval_shape(lambda *arguments: model.apply(*arguments, **options), variables, images)
    assert logits.shape == (2, 7)
    assert [leaf.shape for leaf in jax.tree.leaves(updates["auxiliary"])] == [(2, 7)]


def test_images_that_are_too_small_are_refused_in_one_line():
    with pytest.raises(UsageError, match="at least 107×107 pixels, not 106×200"):
        jax.eval_shape(InceptionV3(7).init, KEY, jax.ShapeDtypeStruct((1, 106, 200, 3), jnp.float32))


def test_kernels_are_drawn_as_by_jax():
    shape = (3, 3, 5, 8)
    expected = nn.initializers.truncated_normal(0.1)(KEY, shape, jnp.float32)
    assert np.array_equal(_truncated_normal(0.1)(KEY, shape), expected)


def test_the_statistics_follow_at_once_and_slower_with_time():
    """After the first three batches they weigh 9/10, 9/11 and 9/12 of the newest; from step 29,990 on, 0.0003.

    Only the first convolution is computed: the compiler leaves out what the statistics behind it do not depend on.
    """
    model: Any = InceptionV3(3)
    rng = np.random.default_rng(0)
    images = rng.random((3, 2, _SMALLEST, _SMALLEST, 3)).astype(np.float32)
    kernel = rng.normal(0, 0.1, (3, 3, 3, 32)).astype(np.float32)
    shapes = variables_of(model, _SMALLEST)

    @jax.jit
    def update(mean, steps, images):
        variables = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape), {k: shapes[k] for k in ("params", "batch_stats")})
        variables["params"]["Conv_0"]["kernel"] = jnp.asarray(kernel)
        variables["batch_stats"] |= {"steps": steps}
        variables["batch_stats"]["BatchNorm_0"]["mean"] = mean
        options: Any = {"train": True, "mutable": ["batch_stats"], "rngs": {"dropout": KEY}}
        found = model.apply(variables, images, **options)[1]["batch_stats"]
        return found["BatchNorm_0"]["mean"], found["steps"]

    windows = np.lib.stride_tricks.sliding_window_view(2 * images - 1, (3, 3), axis=(2, 3))[:, :, ::2, ::2]
    means = np.einsum("nbijcyx,yxco->nbijo", windows, kernel).mean((1, 2, 3))
    mean, steps, expected = jnp.zeros(32), jnp.float32(0), np.zeros(32)
    for step in range(3):
        mean, steps = update(mean, steps, images[step])
        weight = 9 / (10 + step)
        expected = (1 - weight) * expected + weight * means[step]
        assert float(steps) == step + 1
        np.testing.assert_allclose(mean, expected, atol=1e-5)  # float32 means over 5,618 values
    late, _ = update(jnp.zeros(32), jnp.float32(50_000), images[0])
    np.testing.assert_allclose(late, 0.0003 * means[0], atol=1e-6)
