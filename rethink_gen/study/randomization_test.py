"""The randomization test of Zhang et al. 2017 in one call, for any network and data: `rg.randomization_test`.

The test is an `Experiment` that is made on the fly, so its results are kept, shown and checked like those of any other.
What the caller leaves open, the suite chooses; each choice below is ours, marked and recorded in the runs.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from rethink_gen import plugins, registry
from rethink_gen.analysis import randomization
from rethink_gen.analysis.randomization import RANDOM, TRUE
from rethink_gen.coercion import seeds_of
from rethink_gen.errors import RethinkError, UsageError, unknown
from rethink_gen.execution import progress, requests
from rethink_gen.results.result import FIT_THRESHOLD
from rethink_gen.runs import NAME, Run, grid, hints
from rethink_gen.study import finding, running, studies
from rethink_gen.study.studies import Folder, Study, open_folder

if TYPE_CHECKING:
    from rethink_gen.study.running import Report

CORRUPTIONS = (TRUE, "shuffled_pixels", "random_pixels", "gaussian", RANDOM)
STREAMED = (TRUE, RANDOM)  # what can be done to images that are not in memory
VARIED = ("dataset", "model", "corruption", "corruption_level", "seed")  # by the test itself; no settings of it
# Feature vectors are images of one pixel, whose values are its channels; and each feature has a range of its own.
OF_FEATURES = {
    "shuffled_pixels": "shuffled_pixels_channels_apart",
    "random_pixels": "random_pixels_channels_apart",
    "gaussian": "gaussian_per_channel",
}

# Our choices where the caller makes none.
LARGEST_BATCH, SMALLEST_BATCH, STEPS_OF_AN_EPOCH = 128, 8, 30  # fewer steps an epoch tell little about the time to fit
# A run that does not fit ends after so many steps, and not before so many epochs. At the scale of the paper, MLP 1×512
# takes longest to fit random labels: 69 epochs of 390 steps. On a thousand examples, 10,000 steps are hundreds of
# epochs, and seconds to minutes of a small network.
MOST_STEPS, FEWEST_EPOCHS = 10_000, 100
# The search for a learning rate tries each of these but the first for so many epochs of 8 batches, in which random
# labels are fitted in part. Chosen is the next lower one than that with the lowest loss, for a constant rate must also
# fit the last labels. Measured on 1,500 digits, with two convolutional networks, of which one has batch normalization,
# two MLPs and Adam: at the rate with the lowest loss, three of these five do not fit random labels; at the next lower,
# all do.
RATES = (0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
SEARCH_EPOCHS, SEARCH_BATCHES, SEARCH_SIZE = 25, 8, 256  # no fewer examples than this
LARGEST_CROPPED = 32  # pixels of a side: CIFAR-10 is cropped to 28 as in the paper, smaller images stay whole anyway
_LONGEST_NAME = 64  # of an experiment


class _Data(NamedTuple):
    """What choices follow from."""

    examples: int  # for training
    sides: tuple[int, int]  # of an image, in pixels; -1 if they vary
    streamed: bool

    @property
    def features(self) -> bool:
        """Whether the data are feature vectors, and no images."""
        return self.sides == (1, 1)


def randomization_test(
    model: Any,
    dataset: Any,
    *,
    corruptions: Iterable[str] | None = None,
    levels: Iterable[float] = (1.0,),
    seeds: Iterable[int] = (0,),
    results: Folder = "results",
    force: bool = False,
    keep_weights: bool = False,
    workers: int | None = None,
    report: Report | None = None,
    **settings: Any,
) -> Study:
    """Trains one network on true labels, random labels, shuffled and random pixels and noise: what it fits, and when.

    Each run stops once it has fitted its training set (99 %). Only runs that have no result are trained. The study has
    the name randomization_test_<model>_<dataset>, followed by the settings that are given; `rg.load` and the command
    line find it by that name.

    Args:
      model: a registered model, by name, or a flax module of yours with the field num_classes.
      dataset: a data set, by name, or a `Dataset` of yours.
      corruptions: what is done to the data; None: all five versions of the paper. True labels always come first.
      levels: of random labels, in (0, 1]: the probability that a label is drawn at random.
      settings: fields of `Run`, such as learning_rate, optimizer, batch_size, epochs (at most), weight_decay. The suite
        chooses those that are not given; docs/randomization_test.md says how. A learning rate is searched in a few
        short runs, unless the model is built in and the optimizer is sgd.
      seeds, results, force, keep_weights, workers, report: as in `rg.run`.

    Returns:
      The study: its table, figure and verdict; a notebook shows all three.

    Raises:
      UsageError: an unknown name, a setting that the test itself varies, or a value out of range.
      DataError: no data. RethinkError: every run failed, or no learning rate of the search was low enough.
    """
    plugins.load_installed()
    open_folder(results)  # which need not exist
    for name in settings:
        if name in VARIED or name not in hints(Run):
            raise unknown("setting of a randomization test", name, [n for n in hints(Run) if n not in VARIED])
    given = Run(model=_name_of(model), dataset=dataset, **settings)
    requests.check_names([given])
    requests.check_data([given])
    data = _data_of(given)
    choices = _choices(given, data, settings)
    base = replace(given, **{field: value for field, (value, _) in choices.items()})
    runs, name = _runs(base, data, corruptions, levels, seeds), _name(given, settings)
    requests.check_names(runs)
    work: dict[str, Any] = {"results": results, "workers": workers, "report": report}
    if "learning_rate" not in settings and _has_default(given):
        choices["learning_rate"] = (given.learning_rate, "the default of this model")
    elif "learning_rate" not in settings:
        rate, why = _search(name, base, data, runs[0].seed, **work)
        choices["learning_rate"] = (rate, why)
        runs = tuple(replace(run, learning_rate=rate) for run in runs)
    if data.features:
        choices["corruptions"] = ("of vectors", "their values are permuted; noise has the mean and variance of each")
    test = randomization.declare(name, runs, _doc(base, choices))
    whole = finding.keep(test, results).at("laptop")
    study = running.run(test, force=force, keep_weights=keep_weights, **work)
    if set(whole.runs) == set(test.runs):
        return study
    return replace(studies.renew(whole, results), failures=study.failures)


def _name_of(model: Any) -> Any:
    """The name of a model; a flax module that is not registered yet is registered under its own."""
    if isinstance(model, str) or not callable(model):
        return model
    known = (name for name, each in registry.COMPONENTS["model"].items() if each.target is model)
    if name := next(known, None):
        return name
    name = getattr(model, "__name__", type(model).__name__)
    registry.add("model", name, model)
    return name


def _name(run: Run, settings: Mapping[str, Any]) -> str:
    """The name of a test: its model, its data, and the settings that the caller gives."""
    words = [run.model, run.dataset, *(f"{name} {_spelled(getattr(run, name))}" for name in sorted(settings))]
    name = re.sub(r"[^A-Za-z0-9.]+", "_", f"randomization test {' '.join(words)}").strip("_")
    if len(name) > _LONGEST_NAME:
        name = f"{name[: _LONGEST_NAME - 9].rstrip('_')}_{run.id.rpartition('-')[2]}"
    assert NAME.fullmatch(name)
    return name


def _spelled(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else "+".join(value) if isinstance(value, tuple) else str(value)


def _data_of(run: Run) -> _Data:
    from rethink_gen.data import datasets

    source = datasets.find(run.dataset)
    height, width, _ = source.shape
    examples = source.cut(run.train_size, run.test_size)[0] - (run.validation_size or 0)
    return _Data(max(1, examples), (height, width), source.streamed)


def _choices(run: Run, data: _Data, settings: Mapping[str, Any]) -> dict[str, tuple[Any, str]]:
    """What the suite chooses for the fields that the caller leaves open: field → value and reason."""
    batch = SMALLEST_BATCH
    while 2 * batch <= min(LARGEST_BATCH, data.examples / STEPS_OF_AN_EPOCH):
        batch *= 2
    size = run.batch_size if "batch_size" in settings else batch
    steps = max(1, data.examples // size)
    found: dict[str, tuple[Any, str]] = {
        "batch_size": (batch, f"{steps:,} steps an epoch"),
        "epochs": (
            max(FEWEST_EPOCHS, math.ceil(MOST_STEPS / steps)),
            f"at most: {MOST_STEPS:,} steps, and no fewer than {FEWEST_EPOCHS} epochs",
        ),
        "stop_at_train_accuracy": (FIT_THRESHOLD, "a run has fitted, and ends"),
    }
    if "learning_rate_decay" not in settings:
        # A rate that falls by 5 % per epoch, as in the paper, ends learning early where an epoch has few steps. And one
        # rate throughout gives all versions of the data the same steps, however long they take.
        found["schedule"] = ("constant", "all versions have the same steps, however long they take")
    if data.features:
        found["whitening"] = (False, "it would remove the mean of each feature vector")
    elif max(data.sides) > LARGEST_CROPPED:
        found["crop_size"] = (max(data.sides), "images stay whole")
    return {name: choice for name, choice in found.items() if name not in settings}


def _runs(
    base: Run, data: _Data, corruptions: Iterable[str] | None, levels: Iterable[float], seeds: Iterable[int]
) -> tuple[Run, ...]:
    """The runs of the test: true labels first, and random labels at each level; all seeds of each."""
    if corruptions is None:
        corruptions = STREAMED if data.streamed else CORRUPTIONS
    names = registry.split(corruptions) if isinstance(corruptions, str) else corruptions
    names = [OF_FEATURES.get(name, name) if data.features else name for name in names]
    levels, seeds = sorted({levels} if isinstance(levels, int | float) else {*levels}), seeds_of(seeds)
    if not levels or not all(0 < level <= 1 for level in levels):
        raise UsageError("levels of random labels must be in (0, 1]; true labels are always part of the test")
    if not seeds:
        raise UsageError("a randomization test needs a seed, such as seeds=range(3)")
    runs: list[Run] = []
    for name in dict.fromkeys((TRUE, *names)):
        runs += grid(base, corruption=(name,), corruption_level=levels if name == RANDOM else (1.0,), seed=seeds)
    return tuple(dict.fromkeys(runs))


def _has_default(run: Run) -> bool:
    """Whether the catalog has a learning rate for the model: those are for SGD."""
    return registry.is_built_in("model", run.model) and registry.parse(run.optimizer)[0] == "sgd"


def _search(name: str, base: Run, data: _Data, seed: int, **work: Any) -> tuple[float, str]:
    """A learning rate by short runs on few true and random labels, see RATES; and how it was found.

    The runs are kept beside those of the test. The rate follows from their results, so a later call finds the same.

    Raises:
      RethinkError: a run failed, or all diverged.
    """
    size = min(data.examples, max(SEARCH_SIZE, SEARCH_BATCHES * base.batch_size))
    short: dict[str, Any] = {"train_size": size, "test_size": min(size, base.test_size or size), "seed": seed}
    short |= {"epochs": SEARCH_EPOCHS, "measurements": 2, "stop_at_train_accuracy": None, "validation_size": None}
    runs = grid(replace(base, **short), learning_rate=RATES[1:], corruption=(TRUE, RANDOM))
    planned = running.plan(randomization.declare(name, runs), results=work["results"])
    todo = running.to_do(planned)
    if todo:
        progress.say(f"{name}: {len(todo)} short runs to choose the learning rate")
    for failure in running.work_on(planned, todo, workers=work["workers"], report=work["report"]):
        raise RethinkError(f"{failure.run.id}: {failure.reason}")
    ends = running.plan(planned.experiment, results=work["results"]).runs
    ends = ends[ends["run"].isin([run.id for run in runs])]
    losses = ends["train_loss"].where(ends["status"] == "finished", math.inf).groupby(ends["learning_rate"]).mean()
    best = float(losses.idxmin())
    if not math.isfinite(losses[best]):
        raise RethinkError(f"{name}: every learning rate from {RATES[1]:g} to {RATES[-1]:g} diverged; give a lower one")
    chosen = RATES[RATES.index(best) - 1]
    short_runs = f"{len(runs)} short runs on {size:,} true and random labels"
    return chosen, f"the next lower one than {best:g}, which has the lowest training loss of {short_runs}"


def _doc(run: Run, choices: Mapping[str, tuple[Any, str]]) -> str:
    """The notes of the test: what the suite chose, and why."""
    listed = "".join(f"\n* {name} {value}: {why}" for name, (value, why) in choices.items())
    return f"The randomization test of {run.model} on {run.dataset}\n\nThe suite chose:{listed}"
