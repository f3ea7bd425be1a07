"""Optimizers by name: builders `name(learning_rate, *, momentum, weight_decay, **options)` of an optax transformation.

Each step builds its optimizer with the learning rate of that step. So `learning_rate`, `momentum` and
`weight_decay` may be traced, float32[], and the state never depends on their values. Options are Python numbers.

A builder takes only the numbers that it uses. If it takes no `momentum`, momentum has no effect. If it takes no
`weight_decay`, the caller adds `l2(weight_decay)` in front. There are two conventions of weight decay:

* L2: the gradient of ½ · weight_decay · ‖w‖² is added to the gradient, before momentum and scaling.
* Decoupled: w ← w − learning_rate · weight_decay · w, beside the scaled gradient.

Both act on kernels only (leaves of two or more axes), not on biases and offsets; `sgd` can decay these, too.

In the formulas: w weights, g gradient, η learning rate, μ momentum, λ weight decay, t = 1, 2, … the step. Operations
are elementwise, norms are Frobenius norms of one leaf.
"""

from collections.abc import Callable
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import optax

Number = Any  # a Python number or float32[], which may be traced
Transformation: TypeAlias = optax.GradientTransformation | optax.GradientTransformationExtraArgs


def _kernels(params: Any) -> Any:
    """A tree of bools: True for leaves of two or more axes. Biases and offsets have one."""
    return jax.tree.map(_is_kernel, params)


def l2(weight_decay: Number) -> Transformation:
    """Adds weight_decay · w to the gradients of kernels: the gradient of ½ · weight_decay · ‖w‖²."""
    return optax.add_decayed_weights(weight_decay, mask=_kernels)


def clip(max_norm: Number) -> Transformation:
    """Clips gradients: scales all of them by one factor, so that their joint norm is at most `max_norm`.

    It comes before the optimizer. The norm is over all leaves, biases included, and before weight decay. One NaN makes
    all gradients NaN.

    References:
      Pascanu, Mikolov, Bengio 2013, "On the difficulty of training recurrent neural networks", Algorithm 1.
    """
    return optax.clip_by_global_norm(max_norm)


def sgd(
    learning_rate: Number,
    *,
    momentum: Number,
    weight_decay: Number,
    nesterov: bool = False,
    decay_biases: bool = False,
) -> Transformation:
    """Stochastic gradient descent with momentum, L2: v ← μ v + (g + λ w);  w ← w − η v.

    Args:
      nesterov: w ← w − η (g + λ w + μ v) instead, with the new v.
      decay_biases: whether weight decay acts on biases and offsets, too.

    References:
      Zhang et al. 2017, Appendix A (momentum 0.9).
      Nesterov: Sutskever, Martens, Dahl, Hinton 2013, "On the importance of initialization and momentum in deep
      learning", Section 2; here in the usual form, with the gradient at the weights that are evaluated.
    """
    decay = optax.add_decayed_weights(weight_decay) if decay_biases else l2(weight_decay)
    return optax.chain(decay, optax.trace(momentum, nesterov=nesterov), optax.scale(-learning_rate))


def adam(learning_rate: Number, *, b1: float = 0.9, b2: float = 0.999, eps: float = 1e-8) -> Transformation:
    """Adam, L2 (added by the caller): w ← w − η m̂ / (√v̂ + eps).

    m ← b1 m + (1 − b1) g;  v ← b2 v + (1 − b2) g²;  m̂ = m / (1 − b1ᵗ);  v̂ = v / (1 − b2ᵗ).

    References:
      Kingma & Ba 2015, "Adam: A method for stochastic optimization", Algorithm 1.
    """
    return optax.chain(optax.scale_by_adam(b1, b2, eps), optax.scale(-learning_rate))


def adamw(
    learning_rate: Number, *, weight_decay: Number, b1: float = 0.9, b2: float = 0.999, eps: float = 1e-8
) -> Transformation:
    """Adam with decoupled weight decay: w ← w − η (m̂ / (√v̂ + eps) + λ w), with m̂ and v̂ as in `adam`.

    The decay is multiplied by the learning rate, as in optax and PyTorch. The paper multiplies it by the schedule
    only, so its λ is our weight_decay times the base learning rate.

    References:
      Loshchilov & Hutter 2019, "Decoupled weight decay regularization", Algorithm 2.
    """
    return optax.chain(
        optax.scale_by_adam(b1, b2, eps),
        l2(weight_decay),  # after the scaling: what is added to the update is decoupled
        optax.scale(-learning_rate),
    )


def lars(
    learning_rate: Number, *, momentum: Number, weight_decay: Number, trust: float = 0.001, eps: float = 0.0
) -> Transformation:
    """LARS, L2: momentum SGD whose rate is set per kernel: v ← μ v + η r (g + λ w);  w ← w − v.

    For kernels r = trust · ‖w‖ / (‖g‖ + λ ‖w‖ + eps), and 1 where ‖w‖ or ‖g‖ is 0. For biases and offsets r = 1.
    optax.lars divides by ‖g + λ w‖ instead; the two agree at λ = 0.

    Not stated in the paper: which leaves are scaled. We scale kernels only, as is common. So biases use the whole
    learning rate, which is large for LARS.

    References:
      You, Gitman, Ginsburg 2017, "Large batch training of convolutional networks", Algorithm 1.
    """

    def scale(gradient: jax.Array, w: jax.Array) -> jax.Array:
        if not _is_kernel(w):
            return gradient
        w_norm, gradient_norm = optax.tree.norm(w), optax.tree.norm(gradient)
        ratio = trust * w_norm / (gradient_norm + weight_decay * w_norm + eps)
        return (gradient + weight_decay * w) * jnp.where((w_norm > 0) & (gradient_norm > 0), ratio, 1.0)

    def scale_all(gradients: Any, params: Any) -> Any:
        return jax.tree.map(scale, gradients, params)

    return optax.chain(optax.stateless(scale_all), optax.scale(-learning_rate), optax.trace(momentum))


def lamb(
    learning_rate: Number, *, weight_decay: Number, b1: float = 0.9, b2: float = 0.999, eps: float = 1e-6
) -> Transformation:
    """LAMB, decoupled: u = m̂ / (√v̂ + eps) + λ w;  w ← w − η (‖w‖ / ‖u‖) u, with m̂ and v̂ as in `adam`.

    The decay is inside the trust ratio ‖w‖ / ‖u‖. The ratio is 1 where a norm is 0, and for biases and offsets.
    Algorithm 2 scales every layer. Common implementations exclude biases and offsets from scaling and decay, as here.

    References:
      You et al. 2020, "Large batch optimization for deep learning: Training BERT in 76 minutes", Algorithm 2, φ(z) = z.
    """
    return optax.chain(
        optax.scale_by_adam(b1, b2, eps),
        l2(weight_decay),
        optax.masked(optax.scale_by_trust_ratio(), _kernels),
        optax.scale(-learning_rate),
    )


def lion(learning_rate: Number, *, weight_decay: Number, b1: float = 0.9, b2: float = 0.99) -> Transformation:
    """Lion, decoupled: w ← w − η (sign(b1 m + (1 − b1) g) + λ w);  then m ← b2 m + (1 − b2) g.

    Each weight moves by η, so a good learning rate is several times smaller than that of Adam.

    References:
      Chen et al. 2023, "Symbolic discovery of optimization algorithms", Algorithm 2.
    """
    return optax.chain(optax.scale_by_lion(b1, b2), l2(weight_decay), optax.scale(-learning_rate))


def rmsprop(learning_rate: Number, *, momentum: Number, decay: float = 0.9, eps: float = 1e-8) -> Transformation:
    """RMSProp with momentum, L2 (added by the caller): u ← μ u + g / (√v + eps);  w ← w − η u.

    v ← decay · v + (1 − decay) g², from 0 and without bias correction. So the first step is 1 / √(1 − decay) times as
    large as later ones, 3.2 times by default.

    The source states neither eps nor momentum. Here eps is outside the root and the learning rate outside the momentum,
    as in PyTorch. TensorFlow and optax by default take √(v + eps) and keep η inside the momentum.

    References:
      Tieleman & Hinton 2012, "Neural networks for machine learning" (Coursera), Lecture 6.5.
    """
    return optax.chain(
        optax.scale_by_rms(decay, eps, eps_in_sqrt=False), optax.trace(momentum), optax.scale(-learning_rate)
    )


def lbfgs(learning_rate: Number, *, weight_decay: Number, memory: int = 10) -> Transformation:
    """L-BFGS with a line search, L2: w ← w − s H g, where H approximates the inverse Hessian of the penalized loss.

    Full batch: the loss must be the same function at every step. So there is no random augmentation, no dropout and no
    batch statistics. The learning rate and schedules are ignored: the line search chooses s by the strong Wolfe
    conditions, with at most 20 evaluations of loss and gradient per step. The state keeps 2 · memory copies of the
    weights.

    The update needs more arguments than others (see FULL_BATCH); L2 is added here to all of them:

        value, gradient = jax.value_and_grad(loss)(params)
        updates, state = optimizer.update(gradient, state, params, value=value, grad=gradient, value_fn=loss)

    where `loss(params) -> float32[]` is the mean loss over the whole batch, without weight decay. `grad` may be left
    out. Don't use `optax.value_and_grad_from_state`: the stored value includes the penalty. Don't clip in front: the
    line search would then test a gradient that is not the loss's.

    References:
      Liu & Nocedal 1989, "On the limited memory BFGS method for large scale optimization".
      Nocedal & Wright 2006, "Numerical optimization", Algorithms 7.4 and 7.5 (L-BFGS), 3.5 and 3.6 (line search).
    """
    del learning_rate
    solver = optax.lbfgs(memory_size=memory)

    def penalty(params: Any) -> Any:
        return sum(weight_decay / 2 * jnp.sum(jnp.square(w)) for w in jax.tree.leaves(params) if _is_kernel(w))

    def init(params: Any) -> Any:
        # In optax three initial numbers are weakly typed. After a step they are not, so the step would compile twice.
        return jax.tree.map(_strongly_typed, solver.init(params))

    def update(gradient: Any, state: Any, params: Any = None, *, value: Any, value_fn: Callable, **_: Any) -> Any:
        def penalized(params: Any) -> Any:
            return value_fn(params) + penalty(params)

        gradient, _ = l2(weight_decay).update(gradient, l2(weight_decay).init(params), params)
        value = value + penalty(params)
        return solver.update(gradient, state, params, value=value, grad=gradient, value_fn=penalized)

    return optax.GradientTransformationExtraArgs(init, update)


def _is_kernel(leaf: Any) -> bool:
    return leaf.ndim > 1


def _strongly_typed(leaf: jax.Array) -> jax.Array:
    return jnp.asarray(leaf, leaf.dtype)


FULL_BATCH = frozenset({"lbfgs"})  # their update needs `value` and `value_fn`, and a loss without randomness
