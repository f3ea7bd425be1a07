"""Searches without gradients: their steps by arithmetic, and that a run finds weights that fit all labels."""

import sys
from dataclasses import replace
from importlib.metadata import version

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

import rethink_gen as rg
from rethink_gen import registry
from rethink_gen.data import pipeline
from rethink_gen.data.dataset import Dataset, Split
from rethink_gen.data.randomness import root_key, stream
from rethink_gen.errors import ComponentError, Interrupted, UsageError
from rethink_gen.execution import processes, scheduler
from rethink_gen.results import store
from rethink_gen.runs import Run, SearchRun
from rethink_gen.solvers import search, searches
from rethink_gen.training import core, preparation
from rethink_gen.training.program import Hparams

KEY = jax.random.key(0)
SMALL = SearchRun(dataset="digits", train_size=8, test_size=20, model="mlp(hidden=4)", search="evolution_strategy")
LINEAR = replace(SMALL, model="softmax_regression", evaluations=10_000)
ZEROS, INFINITE = jnp.zeros(3), jnp.float32(jnp.inf)
quiet = lambda *_: None
draw = lambda key: jax.random.normal(key, (3,))


@pytest.fixture
def own(monkeypatch):
    """What a test registers is gone after it."""
    monkeypatch.setitem(registry.COMPONENTS, "search", dict(registry.COMPONENTS["search"]))


def solve(run=SMALL, dataset=None, tick=quiet):
    return search.solve(run, dataset or pipeline.load(run)[0], tick)


def follow(made, loss_of, state, generations):
    """States after each generation."""

    @jax.jit
    def generation(key, state):
        asked = made.ask(key, state)
        return made.tell(state, asked, jax.vmap(loss_of)(asked))

    states = [state]
    for i in range(generations):
        states.append(generation(jax.random.fold_in(KEY, i), states[-1]))
    return states[1:]


# The searches.


def test_pattern_search_walks_down_a_quadratic_and_halves_its_step_where_none_is_better():
    """To (2, -3, ½) from zero: five unit steps, the longest way first; then none is better, and half a step is left."""
    target = jnp.array([2.0, -3.0, 0.5])
    loss_of = lambda weights: jnp.square(weights - target).sum()
    made = searches.pattern_search(draw, candidates=6)
    states = follow(made, loss_of, made.init(KEY, ZEROS, loss_of(ZEROS)), 7)
    assert [float(state.loss) for state in states] == [8.25, 5.25, 2.25, 1.25, 0.25, 0.25, 0.0]
    assert [float(state.step) for state in states] == [1, 1, 1, 1, 1, 0.5, 0.5]
    assert states[4].weights.tolist() == [2, -3, 0]
    assert states[6].weights.tolist() == target.tolist()


@pytest.mark.parametrize("candidates", [1, 2, 4, 5])
def test_pattern_search_tries_every_direction_before_it_halves_its_step(candidates):
    made = searches.pattern_search(draw, candidates=candidates)
    state, tried = made.init(KEY, ZEROS, jnp.float32(0)), []
    while state.step == 1:
        tried += made.ask(KEY, state).tolist()
        state = made.tell(state, made.ask(KEY, state), jnp.ones(candidates))
    assert {tuple(row) for row in tried} == {tuple(row) for row in [*np.eye(3), *-np.eye(3)]}
    assert 6 <= len(tried) < 6 + candidates


def test_random_greedy_keeps_what_is_better_and_halves_its_noise_after_a_while_in_vain():
    made = searches.random_greedy(draw, candidates=2, step=0.5, patience=3)
    state = made.init(KEY, ZEROS, jnp.float32(1))
    asked = made.ask(KEY, state)
    better = made.tell(state, asked, jnp.array([2.0, 0.5]))
    assert better.weights.tolist() == asked[1].tolist()
    steps = [float(each.step) for each in follow(made, lambda weights: jnp.float32(3), better, 6)]
    assert steps == [0.5, 0.5, 0.25, 0.25, 0.25, 0.125]
    far = searches.random_greedy(draw, candidates=4000, step=0.5).ask(KEY, state)
    assert float(far.std()) == pytest.approx(0.5, rel=0.05)  # of 12,000 values


@pytest.mark.parametrize("size", [40, 41, 47, 107])
def test_a_search_sees_that_all_labels_are_fitted_whatever_their_number(size):
    """In float32, 41 times 1/41 is less than 1: such searches went on to their last evaluation."""
    labels = jnp.arange(size) % 10
    network = search.Network(draw=None, logits=lambda weights, images: jax.nn.one_hot(labels, 10))
    data = search._Data(jnp.zeros((size, 1)), labels)
    _, right = jax.jit(lambda weights: search._evaluate(network, weights, data))(jnp.zeros(1))
    assert right == size


def test_genetic_algorithm_has_no_more_parents_than_candidates():
    with pytest.raises(UsageError, match="5 of 4"):
        searches.genetic_algorithm(draw, candidates=4)


def test_genetic_algorithm_mutates_the_best_and_keeps_the_very_best():
    made = searches.genetic_algorithm(draw, candidates=5, parents=2, step=1e-3)
    asked = jnp.arange(15.0).reshape(5, 3)
    state = made.tell(made.init(KEY, ZEROS, INFINITE), asked, jnp.array([3.0, 0.5, 4.0, 0.1, 2.0]))
    assert state.tolist() == [asked[3].tolist(), asked[1].tolist()]
    children = made.ask(KEY, state)
    assert children.shape == (5, 3)
    assert children[0].tolist() == asked[3].tolist()
    away = np.abs(np.asarray(children)[:, None] - np.asarray(state)[None]).max(-1).min(1)
    assert (away[1:] > 0).all()
    assert (away < 6e-3).all()  # six standard deviations


def test_evolution_strategy_estimates_the_gradient_of_a_linear_loss():
    """Exactly, where the noise is an orthogonal basis: the mean of (g·e) e over e = s u_i, divided by s²/P, is g."""
    gradient, weights = jnp.array([1.0, -2.0, 0.25]), jnp.array([5.0, 6.0, 7.0])
    noise = 0.5 * jnp.eye(3)
    asked = weights + jnp.concatenate([0 * noise[:1], noise, -noise])
    assert np.allclose(searches.estimated_gradient(asked, asked @ gradient), gradient, rtol=1e-6)


def test_an_infinite_loss_says_nothing_of_the_gradient():
    """∞ − ∞ is no number: one such pair made all weights of the evolution strategy NaN for good."""
    asked = jnp.concatenate([jnp.zeros((1, 2)), jnp.eye(2), -jnp.eye(2)])
    losses = jnp.array([0.0, 3.0, jnp.inf, 1.0, jnp.inf])
    assert np.allclose(searches.estimated_gradient(asked, losses), [2.0 / (2 * 2 * 0.5), 0.0])


def test_noise_of_an_evolution_strategy_comes_in_opposite_pairs_around_its_mean():
    made = searches.evolution_strategy(draw, candidates=6, rate=0.1)
    weights = jnp.array([1.0, 2.0, 3.0])
    start = made.init(KEY, weights, INFINITE)
    asked = made.ask(KEY, start)
    assert asked.shape == (7, 3)
    assert asked[0].tolist() == [1, 2, 3]
    assert np.allclose(asked[1:4] + asked[4:], 2 * weights)
    [(moved, _)] = follow(made, lambda weights: weights @ jnp.array([1.0, -1.0, 0.0]), start, 1)
    assert np.allclose(np.abs(moved - weights)[:2], 0.1, rtol=1e-3)  # the first step of Adam is the rate


def two_orthogonal_images(labels=(3, 7)):
    """Two images of 2×2 pixels that are orthogonal once they are whitened."""
    images = np.array([[[255, 0], [255, 0]], [[255, 255], [0, 0]]], np.uint8)[..., None]
    split = Split(images, np.array(labels, np.int32))
    return Dataset("two", split, split, 10, "")


def test_two_labels_of_ten_classes_are_guessed_with_a_chance_of_one_in_a_hundred():
    """Logits of a linear network with Gaussian weights at orthogonal images are independent."""
    dataset = two_orthogonal_images()
    data = search._data(dataset.train)
    network = search._network(LINEAR, data, 10)
    made = searches.guess_and_check(network.draw, candidates=20_000)
    evaluate = jax.vmap(lambda weights: search._evaluate(network, weights, data))
    _, right = jax.jit(lambda key: evaluate(made.ask(key, ())))(KEY)
    assert float((right == 2).mean()) == pytest.approx(0.01, abs=0.0025)  # 3.5 standard errors


# Those of evosax, an optional package.

MISSING = "evosax is not installed: pip install evosax"


def evosax(**options):
    pytest.importorskip("evosax", reason=MISSING, exc_type=Exception)
    return searches.evosax(draw, **options)


def test_evosax_that_is_missing_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "evosax", None)
    with pytest.raises(UsageError, match="search evosax needs evosax: pip install"):
        searches.evosax(draw, algorithm="SNES")


def test_a_distribution_of_evosax_begins_at_the_first_weights_with_the_step_given():
    """Open_ES draws opposite pairs; its first candidates are the weights and noise of that deviation."""
    made = evosax(algorithm="Open_ES", candidates=4000, step=0.5)
    weights = jnp.array([1.0, 2.0, 3.0])
    asked = made.ask(KEY, made.init(KEY, weights, INFINITE))
    assert np.allclose(asked.mean(0), weights, atol=1e-4)
    assert float((asked - weights).std()) == pytest.approx(0.5, rel=0.05)  # of 12,000 values


def test_snes_of_evosax_walks_down_a_quadratic():
    made = evosax(algorithm="SNES", candidates=20, step=0.5)
    target = jnp.array([2.0, -3.0, 0.5])
    state = follow(made, lambda weights: jnp.square(weights - target).sum(), made.init(KEY, ZEROS, INFINITE), 60)[-1]
    assert np.allclose(state.inner.mean, target, atol=0.01)
    assert state.inner.generation_counter == 60


def test_a_population_of_evosax_begins_with_draws_and_keeps_the_better_half():
    """With no noise to speak of, the second generation of SimpleGA consists of the better half of the first."""
    made = evosax(algorithm="SimpleGA", candidates=6, step=1e-6)
    state = made.init(KEY, ZEROS, jnp.float32(0))
    asked = made.ask(KEY, state)
    assert asked[0].tolist() == [0, 0, 0]
    assert len({*asked[:, 0].tolist()}) == 6
    state = made.tell(state, asked, jnp.array([3.0, 0.5, 4.0, 0.1, 2.0, INFINITE]))
    away = np.abs(np.asarray(made.ask(KEY, state))[:, None] - np.asarray(asked)[None]).max(-1)
    assert {*away.argmin(1).tolist()} <= {1, 3, 4}
    assert away.min(1).max() < 1e-5


def test_an_algorithm_that_evosax_has_not_or_that_has_no_step_is_refused():
    with pytest.raises(UsageError, match="no algorithm of evosax named 'SNEZ'; did you mean 'SNES'"):
        evosax(algorithm="SNEZ")
    with pytest.raises(UsageError, match="PSO of evosax has no step"):
        evosax(algorithm="PSO", step=0.1)
    with pytest.raises(UsageError, match="SV_Open_ES of evosax has several populations"):
        evosax(algorithm="SV_Open_ES")


def test_a_run_of_evosax_fits_labels_and_says_of_which_version():
    pytest.importorskip("evosax", reason=MISSING, exc_type=Exception)
    curves, facts = solve(replace(LINEAR, search="evosax(algorithm=SNES)"), two_orthogonal_images(labels=(9, 0)))
    assert curves["train_accuracy"][-1] == 1.0
    assert facts["evosax"] == version("evosax")


# Runs.


def test_guesses_are_counted_up_to_the_one_that_fits():
    run = replace(LINEAR, search="guess_and_check(candidates=40)")
    dataset = two_orthogonal_images()
    curves, facts = solve(run, dataset)
    data = search._data(dataset.train)
    network = search._network(run, data, 10)
    key, draws = root_key(run.seed), jax.jit(jax.vmap(network.draw))
    order = [np.asarray(network.draw(stream(key, "init")))]
    for number in range(1, int(curves["epoch"][-1]) + 1):
        order += [*np.asarray(draws(jax.random.split(jax.random.fold_in(stream(key, "search"), number), 40)))]
    x = np.asarray(data.images).reshape(2, 4)
    right = [(x @ w[10:].reshape(4, 10) + w[:10]).argmax(1).tolist() == [3, 7] for w in order]
    assert right.index(True) + 1 == curves["step"][-1]
    assert curves["train_accuracy"][-1] == 1.0
    assert facts == {"num_params": 50, "num_classes": 10, "candidates": 40}


@pytest.mark.parametrize("name", sorted({*registry.known("search")} - {"guess_and_check", "evosax"}))  # see their own
def test_every_search_fits_labels_that_nothing_tells(name):
    """Two are few enough for a guess."""
    curves, _ = solve(replace(LINEAR, search=name), two_orthogonal_images(labels=(9, 0)))
    assert curves["train_accuracy"][-1] == 1.0


def test_a_search_goes_through_the_door_of_all_runs_and_depends_on_its_seed_alone():
    run = replace(SMALL, train_size=3, corruption="random_labels", search="random_greedy(candidates=10)")
    [first, again, other] = scheduler.execute([run, run, replace(run, seed=1)])
    assert first.curves == again.curves
    assert first.curves["train_accuracy"][-1] == 1.0
    assert other.curves["train_loss"] != first.curves["train_loss"]
    assert (first.provenance["num_params"], first.provenance["num_train"], first.provenance["num_test"]) == (310, 3, 20)


def test_a_search_starts_where_sgd_does():
    data = search._data(pipeline.load(SMALL)[0].train)
    program = preparation.program_of(Run(dataset="digits", model=SMALL.model), 10, 8)
    number = jnp.float32(0)
    state = core.init(program, Hparams(root_key(3), number, number, number, number), data.images)
    first = search._network(SMALL, data, 10).draw(stream(root_key(3), "init"))
    assert first.tolist() == ravel_pytree(state.params)[0].tolist()


def test_a_search_ends_with_its_evaluations_and_has_the_best_weights_so_far():
    curves, _ = solve(replace(SMALL, search="random_greedy(candidates=10)", train_size=60, evaluations=95))
    assert curves["step"] == [1, 11, 21, 31, 41, 61, 81, 101]
    assert curves["train_loss"] == sorted(curves["train_loss"], reverse=True)


def counting(asked):
    """A search that counts its generations and asks for what a function makes of their number."""
    return lambda draw: (lambda *_: jnp.int32(1), lambda key, state: asked(key, state), lambda state, *_: state + 1)


def test_a_search_whose_candidates_are_no_numbers_ends_as_diverged(own, caplog, tmp_path):
    """As LM_MA_ES of evosax with twice as many candidates as weights: it went on to its last evaluation in silence."""
    drawn = lambda key, number: jax.random.normal(key, (4, 310)) * jnp.where(number < 3, 1.0, jnp.nan)
    registry.add("search", "lost", counting(drawn))
    [result] = scheduler.execute([replace(SMALL, search="lost", evaluations=1000)])
    assert result.status == "diverged"
    assert (result.curves["epoch"][-1], result.curves["step"][-1]) == (3, 1 + 3 * 4)
    assert result.curves["train_loss"][-1] <= result.curves["train_loss"][0], "of the best weights before"
    [line] = caplog.messages
    assert line.startswith(f"{result.run.id} diverged: in generation 3 no candidate consists of numbers; set other")
    assert store.read(store.save(result, tmp_path)).status == "diverged"


def test_a_search_of_which_one_candidate_consists_of_numbers_goes_on(own):
    registry.add("search", "half", counting(lambda key, number: jnp.zeros((4, 310)).at[1:, 5].set(jnp.nan)))
    curves, facts = solve(replace(SMALL, search="half", evaluations=21))
    assert curves["step"][-1] == 21
    assert "status" not in facts


def test_candidates_that_are_no_numbers_do_not_fit_labels_of_the_first_class(own):
    """Of logits that are no numbers the first is the largest, so that such weights had all of these labels right."""
    data = search._data(two_orthogonal_images(labels=(0, 0)).train)
    network = search._network(LINEAR, data, 10)
    made = search.Search(lambda *_: 0, lambda *_: jnp.full((4, 50), jnp.nan), lambda state, *_: state)
    found = search._Found(jnp.zeros(50), INFINITE, jnp.int32(0), jnp.bool(False))
    _, after = search._generation(network, made, data, KEY, 0, found)
    assert after.fit_at == 0
    assert after.lost
    assert not after.weights.any()


def test_a_stop_signal_ends_a_search():
    def stop(step, steps, metrics):
        raise Interrupted("stopped")

    with pytest.raises(Interrupted):
        solve(tick=stop)


def test_searches_of_a_grid_run_side_by_side(monkeypatch):
    monkeypatch.setattr(processes.machine, "count_cores", lambda: 4)
    monkeypatch.setattr(processes.machine, "is_told", lambda: False)
    assert processes.count(rg.grid(SMALL, seed=range(3))) == 3


def test_a_network_with_batch_norm_is_refused():
    with pytest.raises(ComponentError, match="batch norm"):
        solve(replace(SMALL, model="small_inception"))


nothing = lambda *_: None


@pytest.mark.parametrize(
    ("made", "told"),
    [
        (nothing, "must return three functions"),
        ((nothing, nothing, nothing), r"ask must return candidates of shape \(C, 310\), not NoneType"),
        ((nothing, lambda key, state: jnp.zeros((4, 9)), nothing), r"not \(4, 9\)"),
        (
            (lambda key, weights, loss: weights, lambda key, state: state[None], lambda *_: 1.0),
            "a state like the one it is given",
        ),
        ((nothing, lambda key, state: 1 / 0, nothing), "failed: ZeroDivisionError"),
    ],
)
def test_a_search_of_a_users_own_that_is_wrong_is_named(own, made, told):
    registry.add("search", "broken", lambda draw: made)
    with pytest.raises(ComponentError, match=f"search 'broken'.*{told}"):
        solve(replace(SMALL, search="broken"))
