"""Schedules against arithmetic: at the first step, where epochs begin, and during warm-up."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rethink_gen import registry
from rethink_gen.optimization.schedules import constant, cosine, exponential, inverse_sqrt, step

SCHEDULES = {name: each.load() for name, each in registry.COMPONENTS["schedule"].items()}

S, E = 10, 8  # steps per epoch, epochs
STEPS = np.arange(S * E)
NEEDED = {"exponential": {"learning_rate_decay": 0.5}}


def close(ours, expected):
    np.testing.assert_allclose(ours, expected, rtol=1e-6, atol=1e-7)  # float32


def factors(name, **options):
    """The factor of every step of a run, each from a traced step of its own."""
    schedule = jax.jit(lambda step: SCHEDULES[name](step, S, E, **NEEDED.get(name, {}), **options))
    return np.array([schedule(jnp.int32(step)) for step in STEPS])


def test_exponential_is_the_formula_of_the_first_version_bit_for_bit():
    @jax.jit
    def first_version(step, learning_rate, decay):
        return learning_rate * decay ** (step // 391).astype(jnp.float32)

    @jax.jit
    def ours(step, learning_rate, decay):
        return learning_rate * exponential(step, 391, 400, learning_rate_decay=decay)

    rates = jnp.float32(0.1), jnp.float32(0.95)
    for taken in (0, 390, 391, 392, 7 * 391 - 1, 7 * 391, 391 * 399, 391 * 400 - 1):
        assert ours(jnp.int32(taken), *rates) == first_version(jnp.int32(taken), *rates)


def test_exponential_changes_at_the_first_step_of_an_epoch():
    close(factors("exponential"), 0.5 ** (STEPS // S))


def test_exponential_without_staircase_changes_at_each_step():
    close(factors("exponential", staircase=False), 0.5 ** (STEPS / S))


@pytest.mark.parametrize("staircase", [True, False])
def test_epochs_begin_where_they_should_in_a_long_run(staircase):
    """At 2³⁰ steps and more, where float32 no longer tells a step from the next 63."""
    per_epoch, epoch = 100_003, 12_345
    first = jnp.int32(per_epoch * epoch)
    decay = jnp.float32(0.9999)

    def factor(step):
        return float(exponential(step, per_epoch, 20_000, learning_rate_decay=decay, staircase=staircase))

    assert factor(first) == pytest.approx(float(decay) ** epoch, rel=1e-5)
    if staircase:
        assert factor(first - 1) == pytest.approx(float(decay) ** (epoch - 1), rel=1e-5)
        assert factor(first - 1) > factor(first) == factor(first + per_epoch - 1)


def test_constant_is_one():
    np.testing.assert_array_equal(factors("constant"), np.ones(S * E))


def test_step_multiplies_at_its_epochs():
    expected = np.repeat([1.0, 0.1, 0.1, 0.01, 0.01, 0.01, 0.01, 0.01], S)
    close(factors("step", at=(1, 3)), expected)
    close(factors("step", at=[3, 1]), expected)


def test_step_without_epochs_is_constant():
    np.testing.assert_array_equal(factors("step", at=()), np.ones(S * E))


def test_step_takes_a_fractional_epoch():
    close(factors("step", at=(1.5,), factor=0.2), np.where(STEPS < 15, 1.0, 0.2))


def test_cosine_is_half_a_wave():
    ours = factors("cosine")
    close(ours, np.cos(np.pi * STEPS / (S * E) / 2) ** 2)  # (1 + cos x) / 2 = cos²(x / 2)
    assert ours[0] == 1
    close(ours[S * E // 2], 0.5)


def test_cosine_ends_at_final_and_stays_there():
    late = cosine(jnp.array([S * E, S * E + 1000]), S, E, final=0.1)
    close(late, [0.1, 0.1])
    close(factors("cosine", final=0.1)[S * E // 2], 0.55)


def test_cosine_runs_over_the_epochs_after_the_warm_up():
    """Warm-up of 2 of 8 epochs: the middle of the cosine is at epoch 2 + 6 / 2 = 5."""
    ours = factors("cosine", warmup_epochs=2)
    assert ours[2 * S] == 1
    close(ours[5 * S], 0.5)
    close(ours[: 2 * S], np.arange(1, 2 * S + 1) / (2 * S))


def test_inverse_sqrt_is_that_of_gu_2024_who_set_it_after_every_100_epochs():
    rates, rate = [], 0.05
    for epoch in range(1, 401):
        rates.append(rate)
        if epoch % 100 == 0:
            rate = 0.05 / (1 + epoch // 50) ** 0.5
    ours = 0.05 * np.array(inverse_sqrt(S * np.arange(400), S, 400, period=100, growth=2))
    close(ours, rates)


def test_inverse_sqrt_may_have_a_period_within_an_epoch():
    close(factors("inverse_sqrt", period=0.5)[[0, 4, 5, 9, 10]], [1, 1, 0.5**0.5, 0.5**0.5, 1 / 3**0.5])


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("warmup_epochs", [1, 2.5])
def test_warm_up_is_linear_from_zero_and_then_leaves_the_schedule_alone(name, warmup_epochs):
    ours, plain = factors(name, warmup_epochs=warmup_epochs), factors(name)
    length = int(warmup_epochs * S)
    ramp = np.arange(1, length + 1) / length
    close(ours[:length], ramp * (1 if name == "cosine" else plain[:length]))
    if name != "cosine":
        np.testing.assert_array_equal(ours[length:], plain[length:])


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("warmup_epochs", [0, 2, E, 2 * E])
def test_factors_are_float32_in_the_unit_interval(name, warmup_epochs):
    ours = factors(name, warmup_epochs=warmup_epochs)
    assert ours.dtype == np.float32
    assert np.all((ours >= 0) & (ours <= 1))


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_schedule_takes_many_steps_at_once(name):
    close(SCHEDULES[name](STEPS, S, E, **NEEDED.get(name, {}), warmup_epochs=1), factors(name, warmup_epochs=1))


def test_a_sweep_of_decays_is_one_program():
    traces = []

    @jax.jit
    def factor(taken, decay):
        traces.append(1)
        return exponential(taken, S, E, learning_rate_decay=decay)

    close([factor(jnp.int32(25), jnp.float32(decay)) for decay in (1.0, 0.9, 0.5)], [1.0, 0.81, 0.25])
    assert len(traces) == 1


def test_the_table_holds_every_schedule():
    expected = {"exponential": exponential, "constant": constant, "step": step, "cosine": cosine}
    expected["inverse_sqrt"] = inverse_sqrt
    assert expected == SCHEDULES
