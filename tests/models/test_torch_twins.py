"""Families of networks beside PyTorch's own: the same weights give the same logits and the same gradient, in float64.

They need torch, torchvision and timm, which are no extras of this package: without them they are skipped.
Weights are paired in the order in which the layers are called. Networks for ImageNet get strides of 1 in their first
layers, as ours have them.
"""

from typing import Any

import flax.linen as nn
import jax
import numpy as np
import pytest

from rethink_gen.models.create import create
from rethink_gen.models.families.blocks import Conv

torch: Any = pytest.importorskip("torch")
torchvision: Any = pytest.importorskip("torchvision")
timm: Any = pytest.importorskip("timm")
F: Any = torch.nn.functional
IMAGES = np.random.default_rng(0).normal(size=(4, 32, 32, 3))
LAYERS = (Conv, nn.Conv, nn.Dense, nn.BatchNorm, nn.LayerNorm)


def called_ours(model: nn.Module) -> tuple[list[tuple[str, ...]], Any]:
    """The paths of the layers of a model with weights, in the order of calls, and the shapes of its variables."""
    paths: list[tuple[str, ...]] = []

    def note(next_one, args, kwargs, context):
        if isinstance(context.module, LAYERS) and context.method_name == "__call__":
            paths.append(context.module.path)
        return next_one(*args, **kwargs)

    with nn.intercept_methods(note):
        images = jax.ShapeDtypeStruct(IMAGES.shape, np.float32)
        variables = jax.eval_shape(model.init, jax.random.key(0), images)
    return paths, variables


def called_theirs(twin: Any, images: Any) -> list[Any]:
    """The layers of a PyTorch network that have weights of their own, in the order of calls."""
    kinds = (torch.nn.Conv2d, torch.nn.Linear, torch.nn.modules.batchnorm._BatchNorm, torch.nn.LayerNorm)
    found: list[Any] = []
    hooks = [m.register_forward_hook(lambda m, *_: found.append(m)) for m in twin.modules() if isinstance(m, kinds)]
    with torch.no_grad():
        twin(images)
    for hook in hooks:
        hook.remove()
    return found


def ours_from(layer: Any, shapes: Any) -> dict[str, np.ndarray]:
    """The weights of a PyTorch layer in the axes of ours; a convolution may be a linear layer on patches here."""
    weight = layer.weight.detach().numpy()
    if layer.weight.ndim == 1:
        return {"scale": weight, "bias": layer.bias.detach().numpy()}
    kernel = weight.transpose(2, 3, 1, 0) if weight.ndim == 4 else weight.T
    tree = {"kernel": kernel.reshape(shapes["kernel"].shape)}
    return {**tree, "bias": layer.bias.detach().numpy()} if "bias" in shapes else tree


def variables_from(twin: Any, model: nn.Module, others: dict[tuple[str, ...], Any]) -> Any:
    """Our variables with random weights of a PyTorch network; the path of our first layer, and theirs."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, tensor in [*twin.named_parameters(), *twin.named_buffers()]:
            if tensor.is_floating_point():
                drawn = torch.randn(tensor.shape, generator=generator, dtype=torch.float64)
                scale = 0.1 if tensor.ndim < 2 else (2 / tensor[0].numel()) ** 0.5
                positive = name.endswith("running_var") or (tensor.ndim == 1 and name.endswith("weight"))
                tensor.copy_(1 + 0.1 * drawn.abs() if positive else scale * drawn)
        for layer in twin.modules():
            if isinstance(layer, torch.nn.Conv2d) and layer.bias is not None and getattr(twin, "without_bias", False):
                layer.bias.zero_()
    paths, shapes = called_ours(model)
    layers = called_theirs(twin, torch.from_numpy(IMAGES.transpose(0, 3, 1, 2)))
    assert len(paths) == len(layers)
    found: dict[str, Any] = {"params": {}}

    def put(collection: str, path: tuple[str, ...], leaf: Any) -> None:
        tree = found.setdefault(collection, {})
        for key in path[:-1]:
            tree = tree.setdefault(key, {})
        tree[path[-1]] = leaf

    def shapes_at(path: tuple[str, ...]) -> Any:
        tree = shapes["params"]
        for key in path:
            tree = tree[key]
        return tree

    for path, layer in zip(paths, layers, strict=True):
        for name, leaf in ours_from(layer, shapes_at(path)).items():
            put("params", (*path, name), leaf)
        if isinstance(layer, torch.nn.modules.batchnorm._BatchNorm):
            put("batch_stats", (*path, "mean"), layer.running_mean.numpy())
            put("batch_stats", (*path, "var"), layer.running_var.numpy())
    for path, tensor in others.items():
        put("params", path, tensor.detach().numpy().reshape(shapes_at(path).shape))
    assert jax.tree.map(np.shape, found) == jax.tree.map(lambda leaf: leaf.shape, dict(shapes))
    return found, paths[0], layers[0]


def agree(name: str, twin: Any, *, atol: float = 1e-9, others: Any = lambda twin: {}) -> None:
    """Logits in evaluation and in training, and the gradient of the first layer, are those of the twin."""
    twin = twin.double().eval()
    with jax.enable_x64(True):
        model: Any = create(name, 10)
        variables, path, layer = variables_from(twin, model, others(twin))
        images = torch.from_numpy(IMAGES.transpose(0, 3, 1, 2).copy())
        np.testing.assert_allclose(model.apply(variables, IMAGES), twin(images).detach(), atol=atol, rtol=0)

        twin.train()
        theirs = twin(images)
        torch.square(theirs).sum().backward()

        def loss(params: Any) -> Any:
            logits, _ = model.apply({**variables, "params": params}, IMAGES, train=True, mutable=["batch_stats"])
            return (logits**2).sum(), logits

        gradient, logits = jax.jit(jax.grad(loss, has_aux=True))(variables["params"])
        for key in path:
            gradient = gradient[key]
        np.testing.assert_allclose(logits, theirs.detach(), atol=atol, rtol=0)
        expected = layer.weight.grad.numpy()
        expected = expected.transpose(2, 3, 1, 0) if expected.ndim == 4 else expected.T
        scale = np.abs(expected).max()
        found = np.asarray(gradient["kernel"]).reshape(expected.shape)
        np.testing.assert_allclose(found / scale, expected / scale, atol=10 * atol, rtol=0)


def first_stride_1(layer: Any) -> None:
    layer.stride = (1, 1)


class PadChannels(torch.nn.Module):
    """Shortcut A of He et al. 2016."""

    def forward(self, x):
        return F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 0, x.shape[1]))


class PreActivated(torch.nn.Module):
    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.norms = torch.nn.ModuleList([torch.nn.BatchNorm2d(inputs), torch.nn.BatchNorm2d(outputs)])
        self.first = torch.nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.second = torch.nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.shortcut = None if inputs == outputs else torch.nn.Conv2d(inputs, outputs, 1, stride, bias=False)

    def forward(self, x):
        y = F.relu(self.norms[0](x))
        shortcut = self.shortcut(y) if self.shortcut else x
        return self.second(F.relu(self.norms[1](self.first(y)))) + shortcut


class MeanAndLinear(torch.nn.Module):
    def __init__(self, *layers):
        super().__init__()
        *body, self.last = layers
        self.body = torch.nn.Sequential(*body)

    def forward(self, x):
        return self.last(self.body(x).mean((2, 3)))


def conv(inputs, outputs):
    return torch.nn.Conv2d(inputs, outputs, 3, 1, 1, bias=False)


def block(inputs, outputs, stride, shortcut=None):
    return torchvision.models.resnet.BasicBlock(inputs, outputs, stride, shortcut)


def norm_relu(channels):
    return torch.nn.BatchNorm2d(channels), torch.nn.ReLU()


def test_resnet_with_shortcuts_of_zeros():
    twin = MeanAndLinear(
        *(conv(3, 4), *norm_relu(4), block(4, 4, 1), block(4, 8, 2, PadChannels()), block(8, 8, 1)),
        torch.nn.Linear(8, 10),
    )
    agree("resnet(blocks=1+2,width=4)", twin)


def test_resnet_18():
    twin = torchvision.models.ResNet(torchvision.models.resnet.BasicBlock, [1, 1, 1, 1], num_classes=10)
    twin.conv1, twin.maxpool = conv(3, 64), torch.nn.Identity()
    agree("resnet_18(blocks=1+1+1+1)", twin)


def test_wide_resnet():
    twin = MeanAndLinear(
        *(conv(3, 16), PreActivated(16, 8, 1), PreActivated(8, 16, 2), PreActivated(16, 16, 1), *norm_relu(16)),
        torch.nn.Linear(16, 10),
    )
    agree("wide_resnet(blocks=1+2,width=8)", twin)


def test_vgg_11():
    twin = torchvision.models.vgg11_bn(num_classes=10)
    twin.avgpool, twin.classifier = torch.nn.Identity(), torch.nn.Linear(512, 10)
    twin.without_bias = True
    agree("vgg_11", twin)


def test_densenet_with_bottlenecks():
    twin = torchvision.models.DenseNet(6, (2, 2, 2), num_init_features=12, num_classes=10)
    twin.features.conv0, twin.features.pool0 = conv(3, 12), torch.nn.Identity()
    # torchvision has batch norm and ReLU between the first convolution and the first block; the paper and we do not
    twin.features.norm0, twin.features.relu0 = torch.nn.Identity(), torch.nn.Identity()
    agree("densenet(bottleneck=true,depth=16,growth=6)", twin)


def test_mobilenet_v2():
    settings = [
        [1, 16, 1, 1],
        [6, 24, 1, 1],
        [6, 32, 2, 2],
        [6, 64, 2, 2],
        [6, 96, 2, 1],
        [6, 160, 2, 2],
        [6, 320, 1, 1],
    ]
    twin = torchvision.models.MobileNetV2(10, 0.25, settings, dropout=0)
    first_stride_1(twin.features[0][0])
    agree("mobilenet_v2(depth=0.5,width=0.25)", twin)


def test_efficientnet():
    make = torchvision.models.efficientnet.MBConvConfig
    rows = [(1, 3, 1, 32, 16, 1), (6, 3, 2, 16, 24, 2), (6, 5, 2, 24, 40, 2), (6, 3, 2, 40, 80, 3)]
    rows += [(6, 5, 1, 80, 112, 3), (6, 5, 2, 112, 192, 4), (6, 3, 1, 192, 320, 1)]
    settings = [make(*row, width_mult=0.25, depth_mult=0.5) for row in rows]
    twin = torchvision.models.EfficientNet(settings, 0.0, 0.0, num_classes=10)
    first_stride_1(twin.features[0][0])
    agree("efficientnet(depth=0.5,width=0.25)", twin)


def test_shufflenet_v2():
    twin = torchvision.models.ShuffleNetV2([2, 2, 1], [24, 16, 32, 64, 48], num_classes=10)
    first_stride_1(twin.conv1[0])
    twin.maxpool = torch.nn.Identity()
    agree("shufflenet_v2(blocks=2+2+1,last=48,width=16)", twin)


def test_xception():
    twin = timm.create_model("legacy_xception", num_classes=10)
    for layer in (twin.conv1, twin.conv2):
        layer.stride, layer.padding = (1, 1), (1, 1)
    twin.block1.rep = twin.block1.rep[:-1]  # without pooling
    first_stride_1(twin.block1.skip)
    for i in range(5, 12):
        setattr(twin, f"block{i}", torch.nn.Identity())
    agree("xception(depth=1)", twin)


def test_mixer():
    twin = timm.models.mlp_mixer.MlpMixer(10, 32, 3, 4, num_blocks=2, embed_dim=16)
    agree("mixer(depth=2,width=16)", twin)


def test_vit():
    twin = timm.models.VisionTransformer(32, 4, 3, 10, embed_dim=24, depth=2, num_heads=3)
    tokens = lambda twin: {("token",): twin.cls_token, ("positions",): twin.pos_embed}
    agree("vit(depth=2,width=24)", twin, atol=1e-5, others=tokens)  # XLA's attention has a softmax in float32


def test_convnext():
    twin = timm.models.convnext.ConvNeXt(3, 10, depths=(1, 1, 2, 1), dims=(8, 16, 32, 64), patch_size=4)
    scales = lambda twin: {
        (f"Block_{i}", "scale"): block.gamma
        for i, block in enumerate(block for stage in twin.stages for block in stage.blocks)
    }
    agree("convnext(blocks=1+1+2+1,patch=4,width=8)", twin, others=scales)
