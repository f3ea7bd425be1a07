"""Rank the training examples of a data set by how wrong their labels look, from a few runs that record them."""

from __future__ import annotations

import html
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rethink_gen import atomic
from rethink_gen.errors import UsageError, unknown
from rethink_gen.results.records import Records
from rethink_gen.runs import Run, grid
from rethink_gen.study import examples, running
from rethink_gen.study.studies import Folder, Study
from rethink_gen.words import count

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

SEEDS = range(3)
BY = "mean_loss"  # the score to rank by
COUNT = 24  # examples that are shown


@dataclass(frozen=True)
class Ranking:
    """The training examples of runs that differ in their seeds alone, the most suspicious first."""

    study: Study
    by: str = BY

    @cached_property
    def records(self) -> list[Records]:
        """Of the training examples of each run."""
        done = [result for result in self.study.results if result.status == "finished"]
        if not done:
            raise UsageError("every run diverged, so there are no scores; set a smaller learning_rate")
        return [examples.read(result, self.study.folder)["train"] for result in done]

    @cached_property
    def frame(self) -> pd.DataFrame:
        """One row per training example, the most suspicious first.

        Columns are `index` (its place in the training images, from 0), `label` (as given), `suggested_label` (the other
        class as which it was classified most often; its label if it never was), and every score, as a mean over the
        runs. Where a corruption was asked for, also `true_label`.
        """
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
        table = pd.DataFrame({**columns, **means})
        order = np.argsort(-scores.SCORES[self.by].sign * means[self.by], kind="stable")
        return table.take(order).reset_index(drop=True)

    @property
    def judged(self) -> pd.DataFrame:
        """How well each score finds the labels that are known to be wrong: a row each, the best first.

        `auroc` is the probability that a wrong label looks more suspicious than a right one. `precision` is the share
        of wrong labels among the most suspicious examples, of as many as there are wrong labels.

        Raises:
          UsageError: no label is known to be wrong.
        """
        import pandas as pd

        from rethink_gen.results import scores

        if "true_label" not in self.frame:
            raise UsageError("no label is known to be wrong; give a corruption, such as uniform_wrong, to judge scores")
        wrong = (self.frame["label"] != self.frame["true_label"]).to_numpy()
        rows = []
        for name, score in scores.SCORES.items():
            suspicion = score.sign * self.frame[name].to_numpy()
            found = (scores.auroc(suspicion, wrong), scores.precision(suspicion, wrong))
            rows.append((name, *found, score.about))
        table = pd.DataFrame(rows, columns=["score", "auroc", "precision", "about"])
        return table.sort_values("auroc", ascending=False, kind="stable", ignore_index=True)

    def figure(self, count: int = COUNT) -> Figure:
        """The most suspicious images, as the network sees them, each with its label and the suggested one.

        Raises:
          UsageError: the examples are no images, or are no longer those of the runs.
        """
        from rethink_gen.analysis import figures, pictures
        from rethink_gen.data import pipeline

        result = self.study.results[0]
        data, clean = pipeline.load(result.run)
        if clean.checksum != result.provenance["data_sha256"]:
            raise UsageError(f"{result.id} was trained on other data than the {result.run.dataset} that is here")
        chosen = self.frame[:count]
        images = data.train.images[chosen["index"].to_numpy()]
        return figures.shown_in_notebooks(pictures.suspicious(images, chosen, result.run.dataset))

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
        return f"Ranking({count(self.frame, 'example')} by {self.by}, {count(self.records, 'run')})"

    def _repr_html_(self) -> str:
        return f"<p>{html.escape(repr(self))}</p>{self.frame[:COUNT].to_html(index=False)}"


def scores(
    run: Run,
    *,
    seeds: Iterable[int] = SEEDS,
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
      seeds: more seeds make a better ranking.
      by: the score to rank by: aum, mean_loss, consistency, forgetting, first_learned, el2n, last_loss.
      force, report: as in `rg.run`.

    Raises:
      UsageError: no such score, or the run cannot record its examples. RethinkError: a run failed.
    """
    from rethink_gen.results.scores import SCORES

    if by not in SCORES:
        raise unknown("score", by, SCORES)
    recording = replace(run, record=("examples",))
    if run.corruption != "true_labels":
        recording = replace(recording, corruption_seed=run.seed_of("corruption"))
    runs = grid(recording, seed=tuple(dict.fromkeys(seeds)))
    study = running.run(runs, results=results, force=force, report=report)
    for failure in study.failures:
        raise running.RethinkError(f"{failure.run.id} failed: {failure.reason}")
    return Ranking(replace(study, results=tuple(result for result in study.results if result.run in runs)), by)
