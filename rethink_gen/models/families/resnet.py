"""Residual networks: those for CIFAR-10, ResNet-18, with pre-activation, and wide ones."""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from rethink_gen.models.families.blocks import Conv, ConvNorm, classify, norm_relu


class ResidualBlock(nn.Module):
    """Two 3×3 convolutions beside a shortcut.

    Where the shape changes, the shortcut takes every other pixel and adds channels of zeros; or it is a 1×1 convolution
    (`projection`). With pre-activation, batch norm and ReLU come before a convolution, and the sum is left as it is.

    References:
      He et al. 2016, "Deep residual learning for image recognition", shortcuts A and B;
      He et al. 2016, "Identity mappings in deep residual networks", Figure 4e.
    """

    channels: int
    stride: int
    preactivation: bool
    projection: bool
    ghost_batch: int = 0

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        same, ghost = (x.shape[-1], 1) == (self.channels, self.stride), self.ghost_batch
        if self.preactivation:
            y = norm_relu(x, train=train, ghost_batch=ghost)
            shortcut = x if same else self.widened(y, train=train)
            y = norm_relu(Conv(self.channels, stride=self.stride)(y), train=train, ghost_batch=ghost)
            return shortcut + Conv(self.channels)(y)
        y = ConvNorm(self.channels, stride=self.stride, ghost_batch=ghost)(x, train=train)
        y = ConvNorm(self.channels, activation=None, ghost_batch=ghost)(y, train=train)
        return nn.relu(y + (x if same else self.widened(x, train=train)))

    def widened(self, x: jax.Array, *, train: bool) -> jax.Array:
        if not self.projection:
            x = x[:, :: self.stride, :: self.stride]
            return jnp.pad(x, ((0, 0), (0, 0), (0, 0), (0, self.channels - x.shape[-1])))
        if self.preactivation:
            return Conv(self.channels, 1, self.stride)(x)
        norm = ConvNorm(self.channels, 1, self.stride, activation=None, ghost_batch=self.ghost_batch)
        return norm(x, train=train)


class ResNet(nn.Module):
    """Residual network: a convolution, stages of residual blocks, mean pooling. Each stage halves the image and doubles
    the channels. With 3, 3 and 3 blocks it is ResNet-20, with 269,722 parameters for 10 classes.

    Maps images float32[B, H, W, C] to logits float32[B, K].

    References:
      He et al. 2016, Section 4.2: ResNet-20, 32 and 44 have 0.27, 0.46 and 0.66 million parameters.
    """

    num_classes: int
    dropout: float = 0.0  # rate before the last layer
    blocks: Sequence[int] = (3, 3, 3)  # in each stage
    width: int = 16  # channels of the first stage
    stem: int = 0  # channels of the first convolution; 0: the width
    preactivation: bool = False
    projection: bool = False
    ghost_batch: int = 0  # examples that share statistics of batch norm; 0: the whole batch

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        stem, ghost = self.stem or self.width, self.ghost_batch
        x = Conv(stem)(x) if self.preactivation else ConvNorm(stem, ghost_batch=ghost)(x, train=train)
        for stage, count in enumerate(self.blocks):
            for i in range(count):
                stride = 2 if stage and i == 0 else 1
                block = ResidualBlock(self.width * 2**stage, stride, self.preactivation, self.projection, ghost)
                x = block(x, train=train)
        x = norm_relu(x, train=train, ghost_batch=ghost) if self.preactivation else x
        return classify(x, self.num_classes, self.dropout, train=train)


class ResNet18(ResNet):
    """ResNet-18 for small images: four stages of two blocks, a first convolution of 3×3 without pooling.

    It has 11,173,962 parameters for 10 classes, and 11,172,170 with pre-activation.
    """

    blocks: Sequence[int] = (2, 2, 2, 2)
    width: int = 64
    projection: bool = True


class WideResNet(ResNet):
    """Wide residual network: with pre-activation; the first convolution has 16 channels. A width of 16 k is WRN-28-k.

    WRN-28-1 has 369,498 parameters for 10 classes, WRN-28-10 has 36,479,194.

    References:
      Zagoruyko and Komodakis 2016, "Wide residual networks".
    """

    blocks: Sequence[int] = (4, 4, 4)
    stem: int = 16
    preactivation: bool = True
    projection: bool = True
