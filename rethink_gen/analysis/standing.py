"""How a claim stands: the verdicts on its cells and sentences, counted, and the one that follows for the whole.

The report, its map and docs/experiments.md say the same, because all of them ask here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, NamedTuple, Self

from rethink_gen.words import part

if TYPE_CHECKING:
    import pandas as pd

    from rethink_gen.experiment import Check, Study

VERDICTS = ("reproduced", "close", "off", "no verdict", "not run")
UNKNOWN = VERDICTS[-2:]


class Standing(NamedTuple):
    """How the claim of one experiment stands at one scale."""

    verdict: str  # of VERDICTS, on the whole
    counts: dict[str, int]  # of VERDICTS, over cells and sentences
    told: str  # how much stands behind it, in words
    full_size: bool  # whether the runs are those of the paper's scale, or the same at every scale

    @classmethod
    def of(cls, study: Study, table: pd.DataFrame | None, checks: list[Check]) -> Self:
        """The standing of a study.

        Args:
          table, checks: of the study; None and none if it has no results.
        """
        experiment = study.experiment
        counts = count(table, checks)
        if not experiment.has_verdict:
            counts = {word: sum(counts.values()) if word == "no verdict" else 0 for word in VERDICTS}
        word = verdict(counts)
        at_every_scale = experiment.has_verdict and set(experiment.runs) <= set(experiment.at("smoke").runs)
        whole = experiment.scale == "paper" or at_every_scale
        return cls(
            verdict="no verdict" if word == "not run" and study.results else word,
            counts=counts,
            told=_told(study, counts, checks, whole),
            full_size=whole,
        )

    @property
    def known(self) -> int:
        return _known(self.counts)

    @property
    def in_part(self) -> bool:
        """Whether a verdict is of some cells and sentences, and others are not known yet."""
        return 0 < self.known < sum(self.counts.values())


def count(table: pd.DataFrame | None, checks: Iterable[Check]) -> dict[str, int]:
    """Verdict → how many cells have it; a sentence that holds counts as reproduced, one that does not as off."""
    cells = [] if table is None or "verdict" not in table else table["verdict"]
    words = [*cells, *({True: "reproduced", False: "off", None: "not run"}[check.holds] for check in checks)]
    found = Counter("no verdict" if word in ("other scale", "smoke scale") else word for word in words)
    return {word: found[word] for word in VERDICTS}


def verdict(counts: Mapping[str, int]) -> str:
    """Of a whole claim: reproduced if all that is known is, off if half of it or more is off, close between the two."""
    known = _known(counts)
    if not known:
        return "no verdict" if counts["no verdict"] else "not run"
    return "reproduced" if counts["reproduced"] == known else "off" if 2 * counts["off"] >= known else "close"


def _known(counts: Mapping[str, int]) -> int:
    """How many cells and sentences have a verdict."""
    return sum(n for word, n in counts.items() if word not in UNKNOWN)


def done(study: Study) -> str:
    """How many of the runs are done, unless all are."""
    runs = len(study.experiment.runs)
    return part(runs - len(study.missing), runs, "run") if study.missing else ""


def same_as_laptop(study: Study) -> bool:
    """Whether the runs are those of the laptop scale."""
    return set(study.experiment.runs) == set(study.experiment.laptop)


def _told(study: Study, counts: Mapping[str, int], checks: list[Check], full_size: bool) -> str:
    """How much stands behind a verdict, such as "2 of 3 runs, 1 sentence known, laptop scale, one seed"."""
    if not study.results:
        return "no results yet"
    if not study.experiment.has_verdict:
        return "smoke scale: no verdict"
    known = _known(counts)
    sentences = sum(check.holds is not None for check in checks)
    cells = (known - sentences, sum(counts.values()) - len(checks), "cell")
    counted = (cells, (sentences, len(checks), "sentence"))
    parts = [part(*each) for each in counted if each[1]]
    scale = "" if full_size else f"{study.experiment.scale} scale"
    settings = [result.setting for result in study.results]
    one_seed = "one seed" if len(set(settings)) == len(settings) else ""  # nothing is known of the spread over seeds
    return ", ".join(filter(None, [done(study), f"{' and '.join(parts)} known" if parts else "", scale, one_seed]))
