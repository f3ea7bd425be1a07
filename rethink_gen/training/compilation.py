"""Compiled functions: the training step, the compile cache and the compiler's options."""

import os
from collections.abc import Callable
from contextlib import suppress
from functools import cache, partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from rethink_gen.data import datasets, randomness
from rethink_gen.data.streaming import Stream
from rethink_gen.training import core
from rethink_gen.training.core import STATIC, Data, Hparams, Program, State
from rethink_gen.training.data_parallel import read
from rethink_gen.training.vectorize import ONE, Lanes

_STEPS_PER_CALL = 100  # in a compiled loop; a call stays under about two seconds
_STREAMED_STEPS_PER_CALL = 10  # on an accelerator; meanwhile the next batches are sent


def stepper(program: Program, data: Data | Stream, lanes: Lanes = ONE) -> tuple[Callable[..., State], int]:
    """The compiled training function, `(hparams, data, order, state, count) -> state`, and how many steps a call takes.

    On CPU a convolution inside a compiled loop is up to six times slower: networks that convolve take one step a call.
    """
    if isinstance(data, Stream):
        step = jit(core.train_batch, convolves=True)

        def steps(hparams: Hparams, data: Stream, order: jax.Array, state: State, count: int) -> State:
            rows, first = np.asarray(order), int(state.step) % len(order)
            for row in range(first, first + count):
                state = step(program, hparams, read(data, rows, row), len(rows), state)
            return state

        return steps, 1 if jax.default_backend() == "cpu" else _STREAMED_STEPS_PER_CALL
    if jax.default_backend() == "cpu" and convolves(program.model, data.images.shape[-3:]):
        step = jit(core.train_step, lanes, convolves=True)
        return lambda hparams, data, order, state, count: step(program, hparams, data, order, state), 1
    return partial(jit(core.train_steps, lanes), program), _STEPS_PER_CALL


@cache
def convolves(model: nn.Module, shape: tuple[int, ...]) -> bool:
    """Whether the model, for images of this shape, has a kernel with more than two axes."""
    images = jax.ShapeDtypeStruct((1, *shape), jnp.float32)
    params = jax.eval_shape(model.init, randomness.root_key(0), images)["params"]
    return any(leaf.ndim > 2 for leaf in jax.tree.leaves(params))


@cache
def jit(function: Callable[..., Any], lanes: Lanes = ONE, *, convolves: bool = False) -> Callable[..., Any]:
    """`function` compiled for the lanes of this device; training updates its state in place."""
    kinds: tuple[str, ...] = function.lanes  # type: ignore[attr-defined]
    static = tuple(i for i, kind in enumerate(kinds) if kind == STATIC)
    donated = 4 if function in (core.train_step, core.train_steps, core.train_batch) else ()
    options = None
    if convolves and jax.default_backend() == "cpu":
        options = _cpu_options()
    return jax.jit(lanes.over(function, kinds), static_argnums=static, donate_argnums=donated, compiler_options=options)


# On CPU, XLA's newer library takes convolutions 2.5 times slower than Eigen, and maps from element to element up to 20
# times slower than XLA's own loops: only sums and products of matrices stay with it.
_CPU_CONVOLUTIONS = {
    "xla_cpu_experimental_ynn_fusion_type": ",".join(
        f"LIBRARY_FUSION_TYPE_{kind}" for kind in ("REDUCE", "INDIVIDUAL_DOT")
    )
}


@cache
def use_compile_cache() -> None:
    """Keeps compiled programs from one process to the next: the small Inception then starts in seconds, not in 20.

    A compiled program is code, so the folder is the user's own and nobody else can write to it.
    """
    folder = datasets.cache_folder() / "compiled"
    with suppress(OSError):  # a cache that cannot be had is no reason to fail
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if folder.stat().st_uid == os.getuid() and not folder.stat().st_mode & 0o022:
            jax.config.update("jax_compilation_cache_dir", str(folder))
            jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


@cache
def _cpu_options() -> dict[str, str]:
    """_CPU_CONVOLUTIONS where this version of XLA knows the option, else none."""
    try:
        jax.jit(lambda: 0, compiler_options=_CPU_CONVOLUTIONS)()
    except Exception:  # an option of this version only
        return {}
    return _CPU_CONVOLUTIONS


@cache
def compile_clock() -> Callable[[], float]:
    """Seconds this process has spent tracing and compiling so far."""
    seconds = [0.0]

    def listen(event: str, duration_secs: float, **_: Any) -> None:
        if event.startswith("/jax/core/compile/"):
            seconds[0] += duration_secs

    jax.monitoring.register_event_duration_secs_listener(listen)
    return lambda: seconds[0]
