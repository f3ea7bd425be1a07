"""The families of networks: published parameter counts, the blocks that they share, and what they refuse.

test_torch_twins.py compares whole networks with PyTorch's, where that is installed.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from rethink_gen.errors import UsageError
from rethink_gen.models.create import create
from rethink_gen.models.families import blocks, shufflenet, vit

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)


def shapes_of(name: str, num_classes: int = 10, side: int = 32) -> Any:
    """The shapes of a model's variables; nothing is computed."""
    images = jax.ShapeDtypeStruct((1, side, side, 3), jnp.float32)
    return jax.eval_shape(create(name, num_classes).init, KEY, images)


def count(name: str, num_classes: int = 10, side: int = 32) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(shapes_of(name, num_classes, side)["params"]))


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("lenet", 62_006),  # PyTorch's tutorial on CIFAR-10
        ("mcnn", 1_558_026 - (64 + 128 + 256 + 512)),  # the code of Nakkiran et al., without the biases
        ("vgg_11", 9_231_114 - (64 + 128 + 2 * 256 + 4 * 512)),  # torchvision's features, without the biases
        ("resnet_20", 269_722),  # He et al. 2016, Table 6: 0.27 million
        ("resnet_32", 464_154),  # 0.46 million
        ("resnet_44", 658_586),  # 0.66 million
        ("resnet_18", 11_173_962),
        ("preact_resnet_18", 11_173_962 - 3 * 2 * 256 - 2 * 128),  # one batch norm less for each of three projections
        ("wide_resnet", 369_498),  # the log of the first author's demo
        ("wide_resnet(width=160)", 36_479_194),  # Zagoruyko and Komodakis 2016, Table 4: 36.5 million
        ("densenet", 1_019_722),  # Huang et al. 2017, Table 2: 1.0 million
    ],
)
def test_networks_for_cifar_have_the_published_number_of_parameters(name, parameters):
    assert count(name) == parameters


@pytest.mark.parametrize(
    ("name", "side", "parameters"),
    [
        ("mobilenet_v2", 32, 3_504_872),
        ("efficientnet", 32, 5_288_548),
        ("efficientnet(depth=1.1)", 32, 7_794_184),  # B1
        ("shufflenet_v2", 32, 2_278_604),
        ("shufflenet_v2(width=48)", 32, 1_366_792),
        ("xception", 32, 22_855_952),
        ("mixer(patch=16,width=512)", 224, 18_528_264),
        ("vit(patch=16)", 224, 5_717_416),
        ("convnext(blocks=3+3+9+3,patch=4,width=96)", 32, 28_589_128),
    ],
)
def test_networks_for_imagenet_have_as_many_parameters_as_those_of_torchvision_and_timm(name, side, parameters):
    """With strides for small images, which do not change the count."""
    assert count(name, 1000, side) == parameters


def test_keskars_c1_has_the_parameters_of_its_layers():
    convolutions = 25 * 64 * (3 + 64)
    dense = 8 * 8 * 64 * 384 + 384 * 192 + (192 + 1) * 10
    norms = 2 * (64 + 64 + 384 + 192)
    assert count("keskar_c1") == convolutions + dense + norms == 1_757_130


def test_keskars_c2_is_vgg_16_with_a_hidden_layer():
    hidden = 512 * 512 + 2 * 512
    assert count("keskar_c2") == count("vgg_16") + hidden


@pytest.mark.parametrize(("side", "size", "stride"), [(8, 3, 2), (7, 5, 2), (2, 7, 1)])
def test_depthwise_convolution_is_xlas_grouped_convolution_and_so_are_its_gradients(side, size, stride):
    x, kernel = RNG.normal(size=(2, side, side, 3)), RNG.normal(size=(size, size, 3))
    weights = RNG.normal(size=(2, -(-side // stride), -(-side // stride), 3))
    padding = [(size // 2, size // 2)] * 2

    def grouped(x, kernel):
        axes = ("NHWC", "HWIO", "NHWC")
        options: Any = {"dimension_numbers": axes, "feature_group_count": 3}
        return lax.conv_general_dilated(x, kernel[:, :, None], [stride] * 2, padding, **options)

    with jax.enable_x64(True):
        ours = lambda x, kernel: (blocks._shifted_sum(x, kernel, stride) * weights).sum()
        theirs = lambda x, kernel: (grouped(x, kernel) * weights).sum()
        for found, expected in zip(
            jax.jit(jax.value_and_grad(ours, (0, 1)))(x, kernel)[1],
            jax.jit(jax.value_and_grad(theirs, (0, 1)))(x, kernel)[1],
            strict=True,
        ):
            np.testing.assert_allclose(found, expected, atol=1e-12)
        np.testing.assert_allclose(blocks._shifted_sum(x, kernel, stride), grouped(x, kernel), atol=1e-12)


@pytest.mark.parametrize("stride", [1, 2])
def test_a_1x1_convolution_is_a_product_at_each_pixel(stride):
    x, kernel = RNG.normal(size=(2, 5, 5, 3)).astype(np.float32), RNG.normal(size=(1, 1, 3, 4)).astype(np.float32)
    found = blocks.Conv(4, 1, stride).apply({"params": {"kernel": kernel}}, x)
    np.testing.assert_allclose(found, np.einsum("bhwc,cd->bhwd", x[:, ::stride, ::stride], kernel[0, 0]), atol=1e-5)


def test_pools_take_windows_of_2x2_and_what_is_there_of_the_last_ones():
    x = np.arange(9.0).reshape(1, 3, 3, 1) - 9
    assert blocks.max_pool(x)[0, ..., 0].tolist() == [[-5, -4], [-2, -1]]
    y = np.arange(16.0).reshape(1, 4, 4, 1)
    assert blocks.mean_pool(y)[0, ..., 0].tolist() == [[2.5, 4.5], [10.5, 12.5]]


def test_patches_are_rows_of_squares():
    x = np.arange(16).reshape(1, 4, 4, 1)
    assert blocks.patches(x, 2)[0].tolist() == [[0, 1, 4, 5], [2, 3, 6, 7], [8, 9, 12, 13], [10, 11, 14, 15]]
    assert blocks.patches(x[:, :3, :3], 2)[0, -1].tolist() == [10, 0, 0, 0]


def test_a_channel_shuffle_interleaves_the_halves():
    assert shufflenet.channel_shuffle(np.arange(6)[None])[0].tolist() == [0, 3, 1, 4, 2, 5]


def test_fused_attention_is_softmax_of_scaled_products():
    x, heads, width = RNG.normal(size=(2, 5, 12)), 3, 4
    layer: Any = vit.Attention(heads)
    shapes = jax.eval_shape(layer.init, KEY, x.astype(np.float32))["params"]
    params = jax.tree.map(lambda leaf: RNG.normal(size=leaf.shape), shapes)
    found = jax.jit(layer.apply)({"params": params}, x.astype(np.float32))

    first, last = params["Dense_0"], params["Dense_1"]
    q, k, v = np.moveaxis((x @ first["kernel"] + first["bias"]).reshape(2, 5, 3, heads, width), 2, 0)
    scores = np.exp(np.einsum("bqhd,bkhd->bhqk", q, k) / np.sqrt(width))
    mixed = np.einsum("bhqk,bkhd->bqhd", scores / scores.sum(-1, keepdims=True), v).reshape(x.shape)
    np.testing.assert_allclose(found, mixed @ last["kernel"] + last["bias"], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("densenet(depth=39)", r"depth must be 3 n \+ 4, such as 40, got 39"),
        ("densenet(bottleneck=true,depth=13)", r"depth must be 6 n \+ 4"),
        ("vit(width=64)", "heads must divide the width of 64, got 3"),
        ("shufflenet_v2(width=47)", "width must be even, got 47"),
    ],
)
def test_options_that_give_no_network_are_refused_in_one_line(name, words):
    with pytest.raises(UsageError, match=words):
        shapes_of(name)
