"""Vision transformer."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from rethink_gen.errors import UsageError
from rethink_gen.models.families.blocks import MLPBlock, classify, layer_norm, patches


class Attention(nn.Module):
    """Self-attention with several heads, on float[B, N, width].

    On a GPU in bfloat16 it is cuDNN's flash attention, which takes heads of 8, 16, … 128 values; elsewhere XLA's.
    """

    heads: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        batch, length, width = x.shape
        size = width // self.heads
        q, k, v = jnp.moveaxis(nn.Dense(3 * width)(x).reshape(batch, length, 3, self.heads, size), 2, 0)
        fused = jax.default_backend() == "gpu" and x.dtype == jnp.bfloat16 and size % 8 == 0 and size <= 128
        y = jax.nn.dot_product_attention(q, k, v, implementation="cudnn" if fused else "xla")
        return nn.Dense(width)(y.reshape(x.shape))


class VisionTransformer(nn.Module):
    """Vision transformer with a class token and learned positions. The defaults are ViT-Tiny with patches of 4×4.

    Maps images float32[B, H, W, C] to logits float32[B, K]. On images of 224×224, with patches of 16 and 1000 classes,
    it has 5,717,416 parameters; the size is that of DeiT-Ti.

    Raises:
      UsageError: the heads do not divide the width.

    References:
      Dosovitskiy et al. 2021, "An image is worth 16x16 words: transformers for image recognition at scale";
      Touvron et al. 2021, "Training data-efficient image transformers & distillation through attention", Table 1.
    """

    num_classes: int
    dropout: float = 0.0  # rate before the last layer
    patch: int = 4  # pixels of its side
    width: int = 192
    depth: int = 12
    heads: int = 3

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        if self.width % self.heads:
            raise UsageError(f"ViT: heads must divide the width of {self.width}, got {self.heads}")
        x = nn.Dense(self.width)(patches(x, self.patch))
        normal = nn.initializers.normal(0.02)
        token = self.param("token", normal, (1, 1, self.width))
        x = jnp.concatenate([jnp.broadcast_to(token, (len(x), 1, self.width)), x], axis=1)
        x = x + self.param("positions", normal, (1, *x.shape[1:]))
        for _ in range(self.depth):
            x = x + Attention(self.heads)(layer_norm()(x))
            x = x + MLPBlock(4 * self.width)(layer_norm()(x))
        return classify(layer_norm()(x)[:, 0], self.num_classes, self.dropout, train=train)
