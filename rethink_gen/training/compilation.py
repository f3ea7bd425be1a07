"""Compile functions: the training step, the compilation cache and the compiler options."""

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from rethink_gen.data import randomness, tfds
from rethink_gen.data.streaming import Stream
from rethink_gen.models import create
from rethink_gen.training import core
from rethink_gen.training.collectives import read_batch
from rethink_gen.training.core import STATIC
from rethink_gen.training.program import Data, Hparams, Program, State
from rethink_gen.training.vectorize import ONE, Lanes

_STEPS_PER_CALL = 100  # steps in one compiled loop; a call takes less than about two seconds
_STREAMED_STEPS_PER_CALL = 10  # on an accelerator; the next batches are sent meanwhile


def stepper(program: Program, data: Data | Stream, lanes: Lanes = ONE) -> tuple[Callable[..., State], int]:
    """Returns the compiled training function and the number of steps per call.

    The function is `(hparams, data, order, state, count) -> state`. On CPU a convolution inside a compiled loop is up
    to six times slower, so convolutional networks take one step per call.

    Args:
      program: the static facts of the runs.
      data: the training split, on the device or streamed.
      lanes: how the runs of a cohort are vectorized.
    """
    if isinstance(data, Stream):
        step = jit(core.train_batch, convolves=True)

        def steps(hparams: Hparams, data: Stream, order: jax.Array, state: State, count: int) -> State:
            rows, first = np.asarray(order), int(state.step) % len(order)
            for row in range(first, first + count):
                state = step(program, hparams, read_batch(data, rows, row), len(rows), state)
            return state

        return steps, 1 if jax.default_backend() == "cpu" else _STREAMED_STEPS_PER_CALL
    if jax.default_backend() == "cpu" and convolves(program.model, data.images.shape[-3:]):
        step = jit(core.train_step, lanes, convolves=True)
        return lambda hparams, data, order, state, count: step(program, hparams, data, order, state), 1
    return partial(jit(core.train_steps, lanes), program), _STEPS_PER_CALL


@cache
def convolves(model: nn.Module, shape: tuple[int, ...]) -> bool:
    """Whether the model has a kernel with more than two axes, for images of this shape (H, W, C)."""
    images = jax.ShapeDtypeStruct((1, *shape), jnp.float32)
    init = partial(model.init, **create.mode(model, train=False))
    params = jax.eval_shape(init, create.keys(randomness.root_key(0)), images)["params"]
    return any(leaf.ndim > 2 for leaf in jax.tree.leaves(params))


@cache
def jit(function: Callable[..., Any], lanes: Lanes = ONE, *, convolves: bool = False) -> Callable[..., Any]:
    """Compiles a function of `core` for these lanes. Training functions update the state in place.

    Args:
      function: decorated with the kinds of its arguments, see core.py.
      convolves: whether to use the compiler options for convolutions on CPU.
    """
    kinds: tuple[str, ...] = function.lanes  # type: ignore[attr-defined]
    static = tuple(i for i, kind in enumerate(kinds) if kind == STATIC)
    donated = 4 if function in (core.train_step, core.train_steps, core.train_batch) else ()
    options = None
    if convolves and jax.default_backend() == "cpu":
        options = _cpu_options()
    return jax.jit(lanes.over(function, kinds), static_argnums=static, donate_argnums=donated, compiler_options=options)


# On CPU, XLA's newer library (YNN) is 2.5 times slower than Eigen for convolutions, and up to 20 times slower than
# XLA's own loops for elementwise operations. So it is used only for reductions and matrix products.
_CPU_CONVOLUTIONS = {
    "xla_cpu_experimental_ynn_fusion_type": ",".join(
        f"LIBRARY_FUSION_TYPE_{kind}" for kind in ("REDUCE", "INDIVIDUAL_DOT")
    )
}


@cache
def use_compile_cache() -> None:
    """Enables the compilation cache, which keeps compiled programs for later processes.

    With the cache the small Inception starts in a few seconds instead of 20. A cache that the user has chosen, such as
    by JAX_COMPILATION_CACHE_DIR, stays.
    """
    if getattr(jax.config, "jax_compilation_cache_dir", None):
        return
    if folder := tfds.compiled_folder():
        jax.config.update("jax_compilation_cache_dir", str(folder))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


@cache
def _cpu_options() -> dict[str, str]:
    """_CPU_CONVOLUTIONS if this version of XLA knows the option, else no options."""
    try:
        jax.jit(lambda: 0, compiler_options=_CPU_CONVOLUTIONS)()
    except Exception:  # the option is unknown to this version
        return {}
    return _CPU_CONVOLUTIONS


@cache
def compile_clock() -> Callable[[], float]:
    """Returns a function that gives the seconds this process has spent on tracing and compiling so far."""
    seconds = [0.0]

    def listen(event: str, duration_secs: float, **_: Any) -> None:
        if event.startswith("/jax/core/compile/"):
            seconds[0] += duration_secs

    jax.monitoring.register_event_duration_secs_listener(listen)
    return lambda: seconds[0]
