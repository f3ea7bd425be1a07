"""The networks: the paper's parameter counts, how they start, and that each layer computes its formula."""

import functools
import hashlib
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.errors import InvalidRngError
from scipy import stats

from rethink_gen import registry
from rethink_gen.errors import UsageError
from rethink_gen.models import initializers, mlp
from rethink_gen.models.create import create
from rethink_gen.models.inception import ConvModule

KEY = jax.random.key(0)
# Deep families with few layers, so that their shapes are quick to follow.
SHALLOW = {
    "vgg": "vgg(convolutions=1+1,hidden_units=8)",
    "resnet": "resnet(blocks=1+1)",
    "resnet_18": "resnet_18(blocks=1+1)",
    "wide_resnet": "wide_resnet(blocks=1+1)",
    "densenet": "densenet(depth=10,bottleneck=true)",
    "mobilenet_v2": "mobilenet_v2(depth=0.1)",
    "efficientnet": "efficientnet(depth=0.1)",
    "shufflenet_v2": "shufflenet_v2(blocks=1+1)",
    "idlenet": "idlenet(depth=0.5)",
    "xception": "xception(depth=1)",
    "mixer": "mixer(depth=1)",
    "vit": "vit(depth=1)",
    "convnext": "convnext(blocks=1+1)",
}
_DEEP = {registry.COMPONENTS["model"][name].target for name in SHALLOW}
every_model = pytest.mark.parametrize(
    "name",
    [
        SHALLOW.get(name, name)
        for name, component in registry.COMPONENTS["model"].items()
        if name != "inception_v3"  # has its own tests
        and (name in SHALLOW or component.target not in _DEEP)  # their presets differ in depth and width alone
    ],
)


def variables_of(model: nn.Module, *shape: int) -> Any:
    """The shapes of a model's variables for images of a shape; nothing is computed."""
    return jax.eval_shape(model.init, KEY, jax.ShapeDtypeStruct((1, *shape), jnp.float32))


def shapes_of(model: nn.Module, variables: Any, *shape: int, **options: Any) -> Any:
    """The shapes of what a model with these variables returns for two images of a shape."""
    apply = lambda variables, images: model.apply(variables, images, **options)
    return jax.eval_shape(apply, variables, jax.ShapeDtypeStruct((2, *shape), jnp.float32))


def count(tree):
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("mlp_1x512", 1_209_866),
        ("mlp_3x512", 1_735_178),
        ("small_alexnet", 1_387_786),
        ("small_inception", 1_649_402),
        ("small_inception_without_batch_norm", 1_649_402),
        ("softmax_regression", 2352 * 10 + 10),  # the paper's Table 1 does not have it
    ],
)
def test_networks_have_as_many_parameters_as_table_1_says(name, parameters):
    assert count(variables_of(create(name, 10), 28, 28, 3)["params"]) == parameters


def test_the_counts_are_those_of_the_layers():
    dense = lambda n, m: n * m + m
    conv = lambda size, n, m: size * size * n * m + m
    assert count(variables_of(create("mlp_1x512", 3), 8, 8, 1)["params"]) == dense(64, 512) + dense(512, 3)
    f1 = dense(784, 512) + 4 * dense(512, 512) + dense(512, 10) + 5 * 2 * 512  # each norm has a scale and an offset
    assert count(variables_of(create("keskar_f1", 10), 28, 28, 1)["params"]) == f1 == 1_462_794
    alexnet = conv(5, 1, 64) + conv(5, 64, 64) + dense(2 * 2 * 64, 384) + dense(384, 192) + dense(192, 3)
    assert count(variables_of(create("small_alexnet", 3), 8, 8, 1)["params"]) == alexnet


@every_model
@pytest.mark.parametrize(("shape", "num_classes"), [((32, 48, 3), 100), ((1, 1, 4), 2)])
def test_networks_take_images_of_any_size_and_any_number_of_classes(name, shape, num_classes):
    model, images = create(name, num_classes), jax.ShapeDtypeStruct((2, *shape), jnp.float32)
    logits, _ = jax.eval_shape(model.init_with_output, KEY, images)  # followed once, not for its variables first
    assert (logits.shape, logits.dtype) == ((2, num_classes), jnp.float32)


def test_a_model_that_is_not_known_is_answered_with_the_nearest():
    with pytest.raises(UsageError, match="no model named 'small_inseption'; did you mean 'small_inception'"):
        create("small_inseption", 10)


def test_batch_norm_has_an_offset_and_no_scale():
    """One parameter per channel, which the bias is without batch norm: so the count is the same with and without it."""
    names = lambda tree: [jax.tree_util.keystr(path) for path, _ in jax.tree.leaves_with_path(tree)]
    with_norm = variables_of(create("small_inception", 10), 28, 28, 3)
    without = variables_of(create("small_inception_without_batch_norm", 10), 28, 28, 3)
    assert not any("scale" in name for name in names(with_norm))
    assert sum("BatchNorm" in name for name in names(with_norm["params"])) == 1 + 8 * 2 + 2  # Figure 3
    assert not any("BatchNorm" in name for name in names(without))
    assert "batch_stats" not in without
    shapes = lambda tree: sorted(leaf.shape for leaf in jax.tree.leaves(tree["params"]))
    assert shapes(with_norm) == shapes(without)


@pytest.mark.parametrize("momentum", [0.9, 0.99])
def test_batch_norm_normalizes_by_the_batch_and_remembers_a_share_of_it(momentum):
    kernel, offset = np.array([[1.0, 2.0, 0.5, -1.0], [0.0, 1.0, -0.5, 3.0]]), np.array([0.0, 0.0, 5.0, -5.0])
    x = np.random.default_rng(0).normal(3, 2, (16, 5, 5, 2)).astype(np.float32)
    params = {"Conv_0": {"kernel": kernel[None, None]}, "BatchNorm_0": {"bias": offset}}
    start = {"BatchNorm_0": {"mean": np.zeros(4), "var": np.ones(4)}}
    module: Any = ConvModule(channels=4, size=1, batch_norm_momentum=momentum)
    trained = jax.jit(lambda before: module.apply({**before, "params": params}, x, train=True, mutable=["batch_stats"]))
    y, updates = trained({"batch_stats": start})

    z = x.astype(np.float64) @ kernel
    mean, var = z.mean((0, 1, 2)), z.var((0, 1, 2))
    expected = np.maximum((z - mean) / np.sqrt(var + 1e-3) + offset, 0)
    np.testing.assert_allclose(y, expected, atol=1e-5)
    np.testing.assert_allclose(updates["batch_stats"]["BatchNorm_0"]["mean"], (1 - momentum) * mean, rtol=1e-4)
    np.testing.assert_allclose(updates["batch_stats"]["BatchNorm_0"]["var"], momentum + (1 - momentum) * var, rtol=1e-4)

    learnt = {"BatchNorm_0": {"mean": mean, "var": var}}
    evaluated = jax.jit(lambda: module.apply({"params": params, "batch_stats": learnt}, x, train=False))()
    np.testing.assert_allclose(evaluated, expected, atol=1e-5)


@every_model
def test_dropout_draws_in_training_only_and_only_where_there_is_some(name):
    sure, unsure = (create(name, 10, dropout=rate) for rate in (0.0, 0.5))
    variables = variables_of(unsure, 8, 8, 1)
    assert shapes_of(sure, variables, 8, 8, 1, train=True, mutable=["batch_stats"])[0].shape == (2, 10)
    assert shapes_of(unsure, variables, 8, 8, 1, train=False).shape == (2, 10)
    with pytest.raises(InvalidRngError):
        shapes_of(unsure, variables, 8, 8, 1, train=True, mutable=["batch_stats"])


def test_dropout_acts_on_the_units_before_the_last_layer():
    """With the identity as its last layer, the network shows these units: each is 0, or 1/(1 - rate) times itself."""
    model: Any = mlp.MLP(num_classes=8, dropout=0.25, hidden=(8,))
    params = {
        "Dense_0": {"kernel": np.ones((4, 8)), "bias": np.arange(8.0)},
        "Dense_1": {"kernel": np.eye(8), "bias": np.zeros(8)},
    }
    x, units = np.ones((500, 2, 2, 1)), np.tile(4 + np.arange(8.0), (500, 1))
    assert np.array_equal(jax.jit(lambda: model.apply({"params": params}, x))(), units)
    y = np.array(jax.jit(lambda: model.apply({"params": params}, x, train=True, rngs={"dropout": KEY}))())
    kept = y != 0
    np.testing.assert_allclose(y[kept], units[kept] / 0.75, rtol=1e-6)
    assert abs(kept.sum() - 4000 * 0.75) < 4.42 * np.sqrt(4000 * 0.75 * 0.25)


def test_the_mlp_normalizes_each_unit_over_the_batch_before_its_relu():
    """With the identity as both layers, the logits are max(0, (x - mean) / √(variance + 1e-5)), by hand."""
    model: Any = mlp.MLP(num_classes=2, hidden=(2,), batch_norm=True)
    identity = {"kernel": np.eye(2), "bias": np.zeros(2)}
    params = {
        "Dense_0": identity,
        "Dense_1": identity,
        "BatchNorm_0": {"scale": np.ones(2), "bias": np.zeros(2)},
    }
    stats = {"BatchNorm_0": {"mean": np.zeros(2), "var": np.ones(2)}}
    x = np.array([[1.0, 5.0], [3.0, 5.0], [8.0, 8.0]]).reshape(3, 1, 1, 2)
    variables = {"params": params, "batch_stats": stats}
    logits, _ = model.apply(variables, x, train=True, mutable=["batch_stats"])
    expected = np.maximum(0, [[-3, -1], [-1, -1], [4, 2]] / np.sqrt(np.array([26, 6]) / 3 + 1e-5))
    np.testing.assert_allclose(logits, expected, rtol=1e-5)


def initial(name, *path):
    """A leaf of a model's initial parameters for 8×8×3 images; jit leaves out what it does not depend on."""
    init = lambda: create(name, 10).init(KEY, jnp.zeros((1, 8, 8, 3)))["params"]
    leaf = jax.jit(lambda: functools.reduce(lambda tree, key: tree[key], path, init()))
    return np.asarray(leaf(), np.float64)


@pytest.mark.parametrize(
    ("name", "layer", "incoming"),
    [
        ("mlp_1x512", ["Dense_1"], 512),
        ("small_alexnet", ["Conv_1"], 5 * 5 * 64),
        ("small_inception", ["ConvModule_0", "Conv_0"], 3 * 3 * 3),
    ],
)
def test_kernels_start_as_he_et_al(name, layer, incoming):
    """Normal with variance 2 / (values that come in), within 4.42 standard deviations of a sample's moments."""
    kernel = initial(name, *layer, "kernel")
    assert abs(kernel.var() * incoming / 2 - 1) < 4.42 * np.sqrt(2 / kernel.size)
    assert abs(kernel.mean()) < 4.42 * np.sqrt(2 / incoming / kernel.size)


def test_biases_start_at_zero():
    assert not initial("mlp_1x512", "Dense_0", "bias").any()


@pytest.mark.parametrize(("name", "layer"), [("small_alexnet", "Dense_2"), ("small_inception", "Dense_0")])
def test_networks_that_convolve_start_with_small_logits(name, layer):
    """A normal distribution of deviation 1/192, cut off at two deviations."""
    kernel = initial(name, layer, "kernel") * 192
    assert np.abs(kernel).max() <= 2
    assert abs(kernel.std() / stats.truncnorm(-2, 2).std() - 1) < 4.42 * np.sqrt(1 / 2 / kernel.size)


@pytest.mark.parametrize("shape", [(7,), (1, 1), (3, 3, 5, 16), (5, 5, 64, 64)])
def test_he_initialization_is_flaxs_up_to_the_rounding_of_the_scale(shape):
    """flax 0.12.8 with jax 0.10.2 gives the same bits; 0.12.12 with 0.12.0 rounds the scale otherwise."""
    shape = (1, *shape)
    key = jax.random.key(3, impl="threefry2x32")
    expected = nn.initializers.variance_scaling(2.0, "fan_in", "normal")(key, shape)
    np.testing.assert_array_max_ulp(np.asarray(initializers._he_normal(key, shape)), np.asarray(expected), maxulp=2)


@pytest.mark.parametrize(("shape", "digest"), [((3, 3, 5, 16), "a2d0cef6"), ((5, 5, 64, 64), "4ed984c3")])
def test_he_initialization_has_the_same_bits_with_every_version(shape, digest):
    """Measured with jax 0.10.2 on Python 3.11 and jax 0.12.0.1 on Python 3.13."""
    drawn = np.asarray(initializers._he_normal(jax.random.key(3, impl="threefry2x32"), shape))
    assert hashlib.sha256(drawn.tobytes()).hexdigest()[:8] == digest


def test_a_hidden_layer_of_squares_is_quadratic():
    """Of one pixel x, and weights 3 and 0.5: f(x) = 0.5 (3x)²."""
    network = create("mlp(hidden=1,activation=square)", 1)
    params = {"Dense_0": {"kernel": jnp.array([[3.0]])}, "Dense_1": {"kernel": jnp.array([[0.5]])}}
    params = {name: {**layer, "bias": jnp.zeros(1)} for name, layer in params.items()}
    outputs = network.apply({"params": params}, jnp.array([1.0, -2.0]).reshape(2, 1, 1, 1))
    assert np.asarray(outputs).ravel().tolist() == [4.5, 18.0]


def test_an_activation_that_is_not_known_is_answered_with_the_nearest():
    with pytest.raises(UsageError, match="did you mean 'square'"):
        create("mlp(activation=squares)", 10).init(jax.random.key(0), jnp.zeros((1, 2, 2, 1)))


def test_truncated_first_weights_end_at_two_standard_deviations():
    """Before the truncation, as in TensorFlow: those that are left have 0.88 of it."""
    drawn = np.asarray(initializers.initializer("truncated0.04")(jax.random.key(0), (100, 100)))
    assert np.abs(drawn).max() <= 0.08
    assert drawn.std() == pytest.approx(stats.truncnorm.std(-2, 2) * 0.04, rel=0.03)
