"""The command that ranks examples by how wrong their labels look."""

from __future__ import annotations

import argparse
import json

from rethink_gen import runs, words
from rethink_gen.cli.arguments import output_file, parse_seeds, show_rows
from rethink_gen.coercion import coerce
from rethink_gen.errors import UsageError
from rethink_gen.execution.progress import progress
from rethink_gen.results import strict_json
from rethink_gen.runs import Run
from rethink_gen.study import ranking


def scores(arguments: argparse.Namespace) -> int:
    """find wrong labels: train a few seeds, rank the training examples, draw the most suspicious ones

    rethink-gen scores --dataset digits --corruption uniform_wrong --corruption-level 0.1
    """
    given = {name: getattr(arguments, name) for name in runs.hints(Run)}
    run = Run(**{name: value for name, value in given.items() if value is not None})
    seeds = parse_seeds(arguments.seeds)
    count = coerce("--count", arguments.count, int)
    if count < 1:
        raise UsageError(f"--count takes how many examples to show, 1 or more, got {count}")
    path = arguments.output and output_file(arguments.output)
    if path and path.suffix != ".csv":
        raise UsageError(f"--output takes the name of a .csv file, got {path}; the picture goes beside it")
    with progress() as report:
        found = ranking.scores(
            run,
            seeds=seeds,
            by=arguments.by,
            results=arguments.results,
            force=arguments.force,
            report=report,
        )
    name = run.dataset.replace("/", "-")
    paths = found.save(path or arguments.results / f"{found.kind}-{name}.csv", count)
    rows = _rows(found, count)
    judged = found.judged.round(4).to_dict("records") if "true_label" in found.frame else []
    if arguments.json:
        told = {"examples": rows, "scores": judged, "files": [str(path) for path in paths]}
        print(json.dumps(strict_json.finite(told), indent=1, allow_nan=False))
        return 0
    trained = f"by {found.by}, {words.count(found.finished, 'seed')}"
    print(f"the {len(rows)} most {found.kind} of {len(found.frame)} training examples, {trained}\n")
    show_rows(rows)
    if judged:
        wrong = (found.frame["label"] != found.frame["true_label"]).sum()
        print(f"\nhow well each score finds the {wrong} wrong labels\n")
        show_rows(judged)
    print()
    for what, path in zip(("ranking", "pictures"), paths, strict=False):
        print(f"{what}: {path}")
    return 0


def _rows(found: ranking.Ranking, count: int) -> list[dict[str, object]]:
    """The first examples, with what tells why they are."""
    known = [name for name in ("suggested_label", "true_label") if name in found.frame]
    table = found.frame[:count][["index", "label", *known, *found.shown]]
    return table.assign(**{name: table[name].astype(float).round(3) for name in found.shown}).to_dict("records")
