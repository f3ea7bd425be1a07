"""Small convolutional networks: LeNet-5, the 5-layer network of Nakkiran et al., and C1 of Keskar et al."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp

from rethink_gen.models import layers
from rethink_gen.models.families.blocks import ConvNorm, classify, max_pool, norm_relu
from rethink_gen.models.initializers import initializer

_LENET_SIDE = 32  # pixels; LeCun et al. pad digits of 28×28


class LeNet(nn.Module):
    """LeNet-5 with ReLU and max pooling: two (5×5 convolution, 2×2 pooling), then layers of 120, 84 and K units.

    Maps images float32[B, H, W, C] to logits float32[B, K]. Images smaller than 32×32 are padded with zeros. On three
    channels and 10 classes it has 62,006 parameters, as in PyTorch's tutorial on CIFAR-10; on digits 61,706.

    References:
      LeCun et al. 1998, "Gradient-based learning applied to document recognition", Section II.B.
    """

    num_classes: int
    dropout: float = 0.0  # rate before the last layer
    width: int = 6  # channels of the first convolution

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        missing = [max(0, _LENET_SIDE - side) for side in x.shape[1:3]]
        x = jnp.pad(x, ((0, 0), *((each // 2, each - each // 2) for each in missing), (0, 0)))
        init = initializer("he")
        for channels in (self.width, 16 * self.width // 6):
            x = max_pool(nn.relu(nn.Conv(channels, (5, 5), padding="VALID", kernel_init=init)(x)))
        x = x.reshape(len(x), -1)
        for units in (20 * self.width, 14 * self.width):
            x = nn.relu(nn.Dense(units, kernel_init=init)(x))
        return classify(x, self.num_classes, self.dropout, train=train)


class FiveLayerCNN(nn.Module):
    """Four 3×3 convolutions with batch norm, of k, 2k, 4k and 8k channels, then a linear layer. Pools of 1, 2, 2 and 8.

    Maps images float32[B, H, W, C] to logits float32[B, K]. The last pool takes the largest value of each channel, so
    that images may have any size. Convolutions have no bias, because batch norm follows. With k = 64 it has 1,557,066
    parameters for 10 classes; the network of the paper has biases, and 960 more.

    References:
      Nakkiran et al. 2020, "Deep double descent", Section 4 and Appendix B.
    """

    num_classes: int
    dropout: float = 0.0  # rate before the last layer
    width: int = 64  # k

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        x = ConvNorm(self.width)(x, train=train)
        for factor in (2, 4):
            x = max_pool(ConvNorm(factor * self.width)(x, train=train))
        x = ConvNorm(8 * self.width)(x, train=train)
        return classify(x.max((1, 2)), self.num_classes, self.dropout, train=train)


class KeskarC1(nn.Module):
    """Keskar's C1: two (5×5 convolution, 3×3 pooling with stride 2) modules, layers of 384 and 192 units; batch norm.

    Maps images float32[B, H, W, C] to logits float32[B, K]. Convolutions and hidden layers have no bias, because batch
    norm follows. It has 1,757,130 parameters on 32×32×3 images and 10 classes.

    References:
      Keskar et al. 2017, "On large-batch training for deep learning", Appendix B.3; the authors' code has the padding.
    """

    num_classes: int
    dropout: float = 0.0  # rate after each hidden layer
    ghost_batch: int = 0  # how many examples share the statistics of batch norm; 0: the whole batch

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        for _ in range(2):
            x = layers.max_pool(ConvNorm(64, size=5, ghost_batch=self.ghost_batch)(x, train=train))
        x = x.reshape(len(x), -1)
        hidden = partial(nn.Dense, use_bias=False, kernel_init=initializer("he"))
        norm = partial(norm_relu, train=train, ghost_batch=self.ghost_batch)
        x = nn.Dropout(self.dropout, deterministic=not train)(norm(hidden(384)(x)))
        return classify(norm(hidden(192)(x)), self.num_classes, self.dropout, train=train)
