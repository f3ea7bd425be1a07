"""Each optimizer against a few lines of NumPy in float64; its traced numbers, its state, what weight decay spares."""

import inspect
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rethink_gen import registry
from rethink_gen.optimization import optimizers
from rethink_gen.optimization.optimizers import FULL_BATCH

OPTIMIZERS = {name: each.load() for name, each in registry.COMPONENTS["optimizer"].items()}

STEPS = 3
NUMBERS = {"learning_rate": 0.1, "momentum": 0.9, "weight_decay": 0.02}
RATES = (0.1, 0.05, 0.2)  # of the three steps: where the rate enters shows only when it changes
CLOSE = {"rtol": 2e-5, "atol": 1e-6}  # float32, three steps


def parameters() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {"bias": rng.normal(size=2), "kernel": rng.normal(size=(3, 2))}


def gradients() -> list[dict[str, np.ndarray]]:
    rng = np.random.default_rng(1)
    return [{"bias": rng.normal(size=2), "kernel": rng.normal(size=(3, 2))} for _ in range(STEPS)]


def float32(tree: Any) -> Any:
    return jax.tree.map(partial(jnp.asarray, dtype=jnp.float32), tree)


def build(name: str, learning_rate: Any, momentum: Any, weight_decay: Any, **options: Any) -> Any:
    """What the suite does: hands a builder the numbers that it takes, and adds L2 in front where it takes none."""
    taken = inspect.signature(OPTIMIZERS[name]).parameters
    numbers = {"momentum": momentum, "weight_decay": weight_decay}
    used = {key: value for key, value in numbers.items() if key in taken}
    optimizer = OPTIMIZERS[name](learning_rate, **used, **options)
    return optimizer if "weight_decay" in taken else optax.chain(optimizers.l2(weight_decay), optimizer)


def bowl(params: Any) -> jax.Array:
    """½‖w − 1‖² over all leaves."""
    return sum(jnp.sum(jnp.square(w - 1)) for w in jax.tree.leaves(params)) / 2


def update(name: str, numbers: dict, gradient: Any, state: Any, params: Any, **options: Any) -> Any:
    extra = {"value": bowl(params), "grad": gradient, "value_fn": bowl} if name in FULL_BATCH else {}
    updates, state = build(name, **numbers, **options).update(gradient, state, params, **extra)
    return optax.apply_updates(params, updates), state


def trained(name: str, numbers: dict = NUMBERS, **options: Any) -> list[Any]:
    """The parameters after each of three steps with given gradients and changing rates."""
    step = jax.jit(partial(update, name, **options))
    params, rows = float32(parameters()), []
    state = build(name, **{**numbers, "learning_rate": 0.0}, **options).init(params)
    for rate, gradient in zip(RATES, gradients(), strict=True):
        params, state = step(float32({**numbers, "learning_rate": rate}), float32(gradient), state, params)
        rows.append(params)
    return rows


# The same in NumPy. A rule is `(w, g, slots, t, rate, decay, is_kernel) -> new w`; slots start at 0.


def sgd(w, g, slots, t, rate, decay, is_kernel):
    slots["v"] = 0.9 * slots["v"] + g + decay * w
    return w - rate * slots["v"]


def decayed_everywhere(w, g, slots, t, rate, decay, is_kernel):
    return sgd(w, g, slots, t, rate, NUMBERS["weight_decay"], is_kernel)


def nesterov(w, g, slots, t, rate, decay, is_kernel):
    slots["v"] = 0.9 * slots["v"] + g + decay * w
    return w - rate * (g + decay * w + 0.9 * slots["v"])


def adam_direction(g, slots, t, eps):
    slots["m"] = 0.9 * slots["m"] + 0.1 * g
    slots["v"] = 0.999 * slots["v"] + 0.001 * g**2
    return slots["m"] / (1 - 0.9**t) / (np.sqrt(slots["v"] / (1 - 0.999**t)) + eps)


def adam(w, g, slots, t, rate, decay, is_kernel):
    return w - rate * adam_direction(g + decay * w, slots, t, 1e-8)


def adamw(w, g, slots, t, rate, decay, is_kernel):
    return w - rate * adam_direction(g, slots, t, 1e-8) - rate * decay * w


def lars(w, g, slots, t, rate, decay, is_kernel):
    norm = np.linalg.norm
    ratio = 0.001 * norm(w) / (norm(g) + decay * norm(w)) if is_kernel else 1
    slots["v"] = 0.9 * slots["v"] + rate * ratio * (g + decay * w)
    return w - slots["v"]


def lamb(w, g, slots, t, rate, decay, is_kernel):
    direction = adam_direction(g, slots, t, 1e-6) + decay * w
    return w - rate * direction * (np.linalg.norm(w) / np.linalg.norm(direction) if is_kernel else 1)


def lion(w, g, slots, t, rate, decay, is_kernel):
    new = w - rate * (np.sign(0.9 * slots["m"] + 0.1 * g) + decay * w)
    slots["m"] = 0.99 * slots["m"] + 0.01 * g
    return new


def rmsprop(w, g, slots, t, rate, decay, is_kernel):
    g = g + decay * w
    slots["v"] = 0.9 * slots["v"] + 0.1 * g**2
    slots["u"] = 0.9 * slots["u"] + g / (np.sqrt(slots["v"]) + 1e-8)
    return w - rate * slots["u"]


RULES = {
    "sgd": ("sgd", sgd, {}),
    "nesterov": ("sgd", nesterov, {"nesterov": True}),
    "decay_biases": ("sgd", decayed_everywhere, {"decay_biases": True}),
    "adam": ("adam", adam, {}),
    "adamw": ("adamw", adamw, {}),
    "lars": ("lars", lars, {}),
    "lamb": ("lamb", lamb, {}),
    "lion": ("lion", lion, {}),
    "rmsprop": ("rmsprop", rmsprop, {}),
}


def trained_in_numpy(rule: Any) -> list[dict]:
    params, rows = parameters(), []
    slots: Any = {name: dict.fromkeys("mvu", 0.0) for name in params}
    for t, (rate, gradient) in enumerate(zip(RATES, gradients(), strict=True), 1):
        for name, w in params.items():
            decay = NUMBERS["weight_decay"] * (name == "kernel")
            params[name] = rule(w, gradient[name], slots[name], t, rate, decay, name == "kernel")
        rows.append(dict(params))
    return rows


@pytest.mark.parametrize("case", RULES)
def test_steps_equal_numpy(case):
    name, rule, options = RULES[case]
    for ours, expected in zip(trained(name, **options), trained_in_numpy(rule), strict=True):
        jax.tree.map(partial(np.testing.assert_allclose, **CLOSE), ours, expected)


def test_every_optimizer_has_a_test_against_another_route():
    assert {name for name, _, _ in RULES.values()} | FULL_BATCH == set(OPTIMIZERS)


def test_sgd_is_the_chain_of_the_first_version_bit_for_bit():
    def chain(learning_rate, momentum, weight_decay):
        kernels = jax.tree.map(lambda leaf: leaf.ndim > 1, params)
        return optax.chain(
            optax.add_decayed_weights(weight_decay, mask=kernels), optax.trace(momentum), optax.scale(-learning_rate)
        )

    @jax.jit
    def step(numbers, gradient, state, params):
        updates, state = chain(**numbers).update(gradient, state, params)
        return optax.apply_updates(params, updates), state

    params = float32(parameters())
    state = chain(**NUMBERS).init(params)
    assert jax.tree.structure(state) == jax.tree.structure(build("sgd", **NUMBERS).init(params))
    for rate, gradient, ours in zip(RATES, gradients(), trained("sgd"), strict=True):
        params, state = step(float32({**NUMBERS, "learning_rate": rate}), float32(gradient), state, params)
        jax.tree.map(np.testing.assert_array_equal, ours, params)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_state_built_outside_fits_the_traced_step(name):
    def inside(numbers, params):
        return build(name, **numbers).init(params)

    def after(numbers, state, params):
        return update(name, numbers, params, state, params)[1]

    params, numbers = float32(parameters()), float32(NUMBERS)
    outside = build(name, 0.0, 0.0, 0.0).init(params)
    facts = partial(jax.tree.map, lambda leaf: (leaf.shape, leaf.dtype, leaf.weak_type))
    expected = facts(jax.eval_shape(lambda: outside))
    assert facts(jax.eval_shape(inside, numbers, params)) == expected
    assert facts(jax.eval_shape(after, numbers, outside, params)) == expected


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_sweep_compiles_once(name):
    traces = []

    @jax.jit
    def step(numbers, state, params):
        traces.append(name)
        return update(name, numbers, jax.grad(bowl)(params), state, params)

    for rate in (0.1, 0.01):
        for decay in (0.0, 0.02):
            params = float32(parameters())
            state = build(name, 0.0, 0.0, 0.0).init(params)
            for _ in range(2):
                params, state = step(float32({**NUMBERS, "learning_rate": rate, "weight_decay": decay}), state, params)
    assert len(traces) == 1


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_runs_as_a_batch_equal_runs_alone(name):
    def run(decay):
        numbers = {**float32(NUMBERS), "weight_decay": decay}
        params = float32(parameters())

        def step(_, carry):
            return update(name, numbers, jax.grad(bowl)(carry[0]), carry[1], carry[0])

        return jax.lax.fori_loop(0, STEPS, step, (params, build(name, **numbers).init(params)))[0]

    decays = jnp.array([0.0, 0.1])
    together = jax.jit(jax.vmap(run))(decays)
    for i, decay in enumerate(decays):
        row = jax.tree.map(lambda leaf, i=i: leaf[i], together)
        jax.tree.map(partial(np.testing.assert_allclose, **CLOSE), row, jax.jit(run)(decay))


@pytest.mark.parametrize("name", [name for name in OPTIMIZERS if name not in FULL_BATCH])
def test_weight_decay_moves_kernels_and_spares_biases(name):
    """A line search couples all leaves; for it see test_lbfgs_finds_the_minimum_of_a_penalized_quadratic."""
    with_decay, without = trained(name), trained(name, {**NUMBERS, "weight_decay": 0.0})
    np.testing.assert_array_equal(with_decay[-1]["bias"], without[-1]["bias"])
    assert np.all(with_decay[-1]["kernel"] != without[-1]["kernel"])


@pytest.mark.parametrize("name", ["lars", "lamb"])
def test_a_kernel_of_zeros_has_trust_ratio_one(name):
    """From w = 0 the first step of LARS is rate · g, that of LAMB is rate · sign(g)."""
    params = float32({"kernel": np.zeros((2, 2))})
    gradient = float32({"kernel": np.array([[1, -2], [3, -4]])})
    state = build(name, 0.0, 0.0, 0.0).init(params)
    new, _ = update(name, NUMBERS, gradient, state, params)
    expected = -0.1 * (gradient["kernel"] if name == "lars" else np.sign(gradient["kernel"]))
    np.testing.assert_allclose(new["kernel"], expected, rtol=1e-5)  # LAMB: eps of 1e-6 beside a gradient of 1


@pytest.mark.parametrize("max_norm", [1, 2.5, 13.0, 100.0])
@pytest.mark.parametrize("traced", [False, True])
def test_clip_limits_the_joint_norm(max_norm, traced):
    """A gradient of norm 13 = √(3² + 4² + 12²) keeps its direction and has norm min(13, max_norm)."""

    def clipped(max_norm):
        return optimizers.clip(max_norm).update(gradient, optax.EmptyState())[0]

    gradient = float32({"bias": np.array([3, 4]), "kernel": np.array([[12]])})
    ours = jax.jit(clipped)(jnp.float32(max_norm)) if traced else clipped(max_norm)
    expected = jax.tree.map(lambda leaf: leaf * min(1, max_norm / 13), gradient)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-6), ours, expected)


@pytest.mark.parametrize("weight_decay", [0.0, 0.5])
def test_lbfgs_finds_the_minimum_of_a_penalized_quadratic(weight_decay):
    """½ ‖A x − b‖² + ½ λ ‖kernel‖², where x is bias and kernel: the minimum solves (AᵀA + λ D) x = Aᵀb."""
    rng = np.random.default_rng(2)
    A, b = rng.normal(size=(12, 8)), rng.normal(size=12)
    D = np.diag([0.0, 0.0] + [1.0] * 6)
    expected = np.linalg.solve(A.T @ A + weight_decay * D, A.T @ b)

    def loss(params):
        x = jnp.concatenate([params["bias"], params["kernel"].ravel()])
        return jnp.sum(jnp.square(jnp.float32(A) @ x - jnp.float32(b))) / 2

    def step(_, carry):
        params, state = carry
        value, gradient = jax.value_and_grad(loss)(params)
        optimizer = optimizers.lbfgs(0.0, weight_decay=jnp.float32(weight_decay))
        updates, state = optimizer.update(gradient, state, params, value=value, value_fn=loss)
        return optax.apply_updates(params, updates), state

    params = float32(parameters())
    params, _ = jax.lax.fori_loop(0, 30, step, (params, optimizers.lbfgs(0.0, weight_decay=0.0).init(params)))
    found = np.concatenate([params["bias"], params["kernel"].ravel()])
    np.testing.assert_allclose(found, expected, atol=2e-3)  # float32: the loss is flat within √(6e-8) of the minimum


def test_lbfgs_ignores_the_learning_rate():
    small, large = (trained("lbfgs", {**NUMBERS, "learning_rate": rate}) for rate in (0.1, 10.0))
    jax.tree.map(np.testing.assert_array_equal, small, large)
