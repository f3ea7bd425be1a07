"""Rank the training examples of a data set by how wrong their labels look, from a few runs that record them."""

from __future__ import annotations

import html
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from rethink_gen import atomic, registry
from rethink_gen.coercion import seeds_of
from rethink_gen.errors import UsageError, unknown
from rethink_gen.results import outcomes
from rethink_gen.results.records import Records
from rethink_gen.results.result import FIT_THRESHOLD, Result
from rethink_gen.runs import Run, grid
from rethink_gen.study import examples, running
from rethink_gen.study.studies import Folder, Study
from rethink_gen.words import count

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from rethink_gen.data.dataset import Dataset

logger = logging.getLogger(__name__)

SEEDS = range(3)
BY = "mean_loss"  # the score to rank by
MEMORIZATION = "memorization"  # another one, from many runs on random subsets
SUBSETS = range(100)  # seeds of those
MEMORIZED = 0.25  # the least memorization of a memorized example, as in Feldman and Zhang 2020
COUNT = 24  # examples that are shown


@dataclass(frozen=True)
class Ranking:
    """The training examples of runs that differ in their seeds alone, the most suspicious first."""

    kind: ClassVar[str] = "suspicious"  # what its first examples are

    study: Study
    by: str = BY

    @property
    def scores(self) -> dict[str, tuple[int, str]]:
        """Score → its sign (1: large values point to a wrong label, -1: small ones), and what it is."""
        from rethink_gen.results import scores

        return {name: (score.sign, score.about) for name, score in scores.SCORES.items()}

    @property
    def shown(self) -> list[str]:
        """The columns of the frame that tell why an example stands where it does."""
        return [self.by]

    @cached_property
    def records(self) -> list[Records]:
        """Of the training examples of each run."""
        return [examples.read(result, self.study.folder)["train"] for result in self.finished]

    @property
    def finished(self) -> list[Result]:
        """The results of the runs that did not diverge."""
        done = [result for result in self.study.results if result.status == "finished"]
        if not done:
            raise UsageError("every run diverged, so there are no scores; set a smaller learning_rate")
        return done

    @cached_property
    def frame(self) -> pd.DataFrame:
        """One row per training example, the most suspicious first.

        Columns are `index` (its place in the images that the run trains on, from 0), `label` (as given),
        `suggested_label` (the other class as which it was classified most often; its label if it never was), and every
        score, as a mean over the runs. Where a corruption was asked for, also `true_label`.
        """
        import numpy as np

        table = self._table()
        order = np.argsort(-self.scores[self.by][0] * table[self.by].to_numpy(), kind="stable")
        return table.take(order).reset_index(drop=True)

    def _table(self) -> pd.DataFrame:
        """A row per training example, in their order."""
        import numpy as np
        import pandas as pd

        from rethink_gen.results import scores

        first = self.records[0]
        each = [scores.last(records) for records in self.records]
        means = {name: np.mean([values[name] for values in each], axis=0) for name in scores.SCORES}
        columns = {"index": np.arange(len(first.label)), "label": first.label}
        columns["suggested_label"] = scores.suggestions(self.records)
        if first.changed.any():
            columns["true_label"] = first.true_label
        return pd.DataFrame({**columns, **means})

    @property
    def judged(self) -> pd.DataFrame:
        """How well each score finds the labels that are known to be wrong: a row each, the best first.

        `auroc` is the probability that a wrong label looks more suspicious than a right one. `precision` is the share
        of wrong labels among the most suspicious examples, of as many as there are wrong labels.

        Raises:
          UsageError: no label is known to be wrong.
        """
        import numpy as np
        import pandas as pd

        from rethink_gen.results import scores

        if "true_label" not in self.frame:
            raise UsageError("no label is known to be wrong; give a corruption, such as uniform_wrong, to judge scores")
        wrong = (self.frame["label"] != self.frame["true_label"]).to_numpy()
        rows = []
        for name, (sign, about) in self.scores.items():
            suspicion = sign * self.frame[name].to_numpy()
            known = ~np.isnan(suspicion)  # an example that all runs were trained on, or none, has no memorization
            found = (judge(suspicion[known], wrong[known]) for judge in (scores.auroc, scores.precision))
            rows.append((name, *found, about))
        table = pd.DataFrame(rows, columns=["score", "auroc", "precision", "about"])
        return table.sort_values("auroc", ascending=False, kind="stable", ignore_index=True)

    def figure(self, count: int = COUNT) -> Figure:
        """The most suspicious images, as the network sees them, each with its label and the suggested one, if any.

        Raises:
          UsageError: the examples are no images, or are no longer those of the runs.
        """
        from rethink_gen.analysis import figures, pictures

        data = self._images()
        chosen = self.frame[:count]
        chosen = chosen if "suggested_label" in chosen else chosen.assign(suggested_label=chosen["label"])
        images = data.train.images[chosen["index"].to_numpy()]
        return figures.shown_in_notebooks(pictures.suspicious(images, chosen, self.study.results[0].run.dataset))

    def _data(self) -> Dataset:
        """The data of the runs as the networks see them.

        Raises:
          UsageError: the data that are here are others.
        """
        from rethink_gen.data import pipeline

        result = self.study.results[0]
        data, clean = pipeline.load(result.run)
        if clean.checksum != result.provenance["data_sha256"]:
            raise UsageError(f"{result.id} was trained on other data than the {result.run.dataset} that is here")
        return data

    def _images(self) -> Dataset:
        """The same, of images.

        Raises:
          UsageError: the examples cannot be drawn; or as `_data`.
        """
        if not self.has_images:
            raise UsageError(f"the examples of {self.study.results[0].run.dataset} are no images that can be drawn")
        return self._data()

    @property
    def has_images(self) -> bool:
        """Whether the examples are images that can be drawn, and no feature vectors."""
        from rethink_gen.data import datasets

        height, width, channels = datasets.find(self.study.results[0].run.dataset).shape
        return min(height, width) > 1 and channels in (1, 3, 4)

    def save(self, path: Folder, count: int = COUNT) -> list[Path]:
        """Writes the ranking as CSV, and the most suspicious images beside it as PNG; returns the paths."""
        from rethink_gen.analysis import figures

        path = atomic.as_path(path)
        atomic.make_folder(path.parent)
        atomic.write(path, self.frame.to_csv(index=False, float_format="%.6g").encode())
        if not self.has_images:
            return [path]
        figures.save(self.figure(count), path.with_suffix(".png"))
        return [path, path.with_suffix(".png")]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({count(self.frame, 'example')} by {self.by}, {count(self.finished, 'run')})"

    def _repr_html_(self) -> str:
        return f"<p>{html.escape(repr(self))}</p>{self.frame[:COUNT].to_html(index=False)}"


class MemorizationRanking(Ranking):
    """The training examples of runs on random subsets, by memorization or unseen_accuracy, see `results.outcomes`.

    The columns of `frame` are `index`, `label`, `true_label` where a corruption was asked for, `memorization`, and of
    the runs that were not trained on the example, and of those that were, the share that classifies it as its label:
    `unseen_accuracy` and `seen_accuracy`.
    """

    kind: ClassVar[str] = "memorized"

    @property
    def scores(self) -> dict[str, tuple[int, str]]:
        """As of `Ranking`."""
        return outcomes.SCORES

    @property
    def shown(self) -> list[str]:
        """All scores: each is a difference or a part of the others."""
        return [*outcomes.SCORES, "seen_accuracy"]

    def _table(self) -> pd.DataFrame:
        """A row per training example, in their order."""
        import numpy as np
        import pandas as pd

        data = self._data()
        found = outcomes.memorization(outcomes.of(self.finished))
        size = len(found.seen)  # the examples of validation_size come after these
        columns = {"index": np.arange(size), "label": data.train.labels[:size]}
        if data.changed[:size].any():
            columns["true_label"] = data.true_labels[:size]
        scores = {"memorization": found.memorization, "unseen_accuracy": found.unseen, "seen_accuracy": found.seen}
        return pd.DataFrame({**columns, **scores})

    @property
    def pairs(self) -> pd.DataFrame:
        """One row per pair of a memorized training example and a test example, the largest influence first.

        Memorized are examples with a memorization of MEMORIZED or more. Columns are `index` (of the training example),
        `test_index`, `label` and `test_label`, `memorization`, and `influence`: how much more often the test example is
        classified right by the networks that were trained on the training example. With R networks, an influence
        within about 3 / √R of zero may be chance.
        """
        import numpy as np
        import pandas as pd

        data = self._data()
        recorded = outcomes.of(self.finished)
        found = outcomes.memorization(recorded).memorization
        chosen = np.flatnonzero(found >= MEMORIZED)
        influence = outcomes.influence(recorded, chosen)
        rows, columns = np.unravel_index(np.argsort(-influence, axis=None, kind="stable"), influence.shape)
        index = chosen[rows]
        labels = {"label": data.train.labels[index], "test_label": data.test.labels[columns]}
        values = {"memorization": found[index], "influence": influence[rows, columns]}
        return pd.DataFrame({"index": index, "test_index": columns, **labels, **values})

    def figure_of_pairs(self, count: int = COUNT) -> Figure:
        """The pairs with the largest influence, the training example on the left.

        Raises:
          UsageError: as `figure`; or there are no pairs.
        """
        from rethink_gen.analysis import figures, pictures

        data = self._images()
        chosen = self.pairs[:count]
        if not len(chosen):
            raise UsageError(f"no pairs to draw: no example has a memorization of {MEMORIZED} or more")
        sides = (data.train.images[chosen["index"]], data.test.images[chosen["test_index"]])
        return figures.shown_in_notebooks(pictures.pairs(*sides, chosen, self.study.results[0].run.dataset))


def scores(
    run: Run,
    *,
    seeds: Iterable[int] | None = None,
    by: str = BY,
    results: Folder = "results",
    force: bool = False,
    report: Callable[[Any], None] | None = None,
) -> Ranking:
    """Trains a run under a few seeds, with records of its examples, and ranks them by how wrong their labels look.

    The results are those of `rg.run`, in results/train/: what is there is not trained again. With a corruption, all
    seeds see the same wrong labels.

    Args:
      run: the data, the network and its training; `seed` is that of the corruption, if `corruption_seed` is not given.
      seeds: more seeds make a better ranking; None: three, or for memorization a hundred.
      by: the score to rank by: aum, mean_loss, consistency, forgetting, first_learned, el2n, last_loss; or
        memorization or unseen_accuracy, for which each seed trains on a random 70 % of the examples, or on the share
        of `run.order`, such as subset(share=0.5).
      force, report: as in `rg.run`.

    Raises:
      UsageError: no such score, too few seeds, or the run cannot record its examples or train on subsets.
      RethinkError: a run failed.
    """
    from rethink_gen.results.scores import SCORES

    if by not in (*outcomes.SCORES, *SCORES):
        raise unknown("score", by, (*outcomes.SCORES, *SCORES))
    of_subsets = by in outcomes.SCORES
    recording, default = (_on_subsets(run), SUBSETS) if of_subsets else (replace(run, record=("examples",)), SEEDS)
    seeds = seeds_of(default if seeds is None else seeds)
    if len(seeds) < 1 + of_subsets:
        least = "two seeds or more, better 50" if of_subsets else "a seed or more"
        raise UsageError(f"{by} needs {least}, got {len(seeds)}")
    if run.corruption != "true_labels":
        recording = replace(recording, corruption_seed=run.seed_of("corruption"))
    runs = grid(recording, seed=seeds)
    study = running.run(runs, results=results, force=force, report=report)
    for failure in study.failures:
        raise running.RethinkError(f"{failure.run.id} failed: {failure.reason}")
    ranking = MemorizationRanking if of_subsets else Ranking
    found = ranking(replace(study, results=tuple(result for result in study.results if result.run in runs)), by)
    if of_subsets and (fitted := found.frame["seen_accuracy"].mean()) < FIT_THRESHOLD:
        told = f"the networks fit {100 * fitted:.1f} % of the labels that they were trained on; what is not fitted"
        logger.warning("%s is not memorized: train longer, or with a larger learning_rate", told)
    return found


def _on_subsets(run: Run) -> Run:
    """The run on a random part of its examples, another one for each seed.

    Raises:
      UsageError: it has an order that leaves out no examples, or a seed of the order.
    """
    order = "subset" if run.order == "reshuffle" else run.order
    if registry.parse(order)[0] != "subset" or registry.options_of("order", order)["share"] >= 1:
        raise UsageError(f"{MEMORIZATION} needs random subsets, such as order='subset(share=0.7)', got {order!r}")
    if run.order_seed is not None:
        raise UsageError(f"{MEMORIZATION} needs another subset for each seed; leave order_seed away")
    return replace(run, record=("correct",), order=order, measurements=run.measurements or 2)
