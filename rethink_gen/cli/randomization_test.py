"""The command `randomization-test`: the test of Zhang et al. 2017 for anyone's network and data."""

from __future__ import annotations

import argparse

from rethink_gen import registry, runs
from rethink_gen.cli import overview
from rethink_gen.cli.arguments import parse_seeds
from rethink_gen.coercion import coerce
from rethink_gen.errors import RethinkError, UsageError
from rethink_gen.execution.progress import progress
from rethink_gen.runs import Run
from rethink_gen.study import randomization_test
from rethink_gen.words import count


def run(arguments: argparse.Namespace) -> int:
    """train a network of yours on true and random labels, shuffled pixels and noise: what does it fit, and how fast?

    rethink-gen randomization-test --model tiny --dataset scans --plugin my_code.py
    """
    settings = {name: getattr(arguments, name, None) for name in runs.hints(Run)}
    settings = {name: value for name, value in settings.items() if value is not None}
    model, dataset = (settings.pop(name, "") for name in ("model", "dataset"))
    if not model or not dataset:
        raise UsageError("a randomization test needs --model and --dataset, such as --model mlp_1x512 --dataset digits")
    with progress() as report:
        study = randomization_test.randomization_test(
            model,
            dataset,
            corruptions=None if arguments.corruptions is None else registry.split(arguments.corruptions),
            levels=[coerce("--levels", level, float) for level in arguments.levels.split(",")],
            seeds=parse_seeds(arguments.seeds) or (0,),
            results=arguments.results,
            force=arguments.force,
            keep_weights=arguments.keep_weights,
            report=report,
            **settings,
        )
    if study.results:
        print(study.text("json" if arguments.json else "markdown").rstrip("\n"))
        if not arguments.json:
            print(f"\n{study.experiment.doc.partition(chr(10) * 2)[2]}\n")
            print(f"table:  {study.folder / 'table.md'}\nfigure: {study.folder / 'figure.png'}")
    for failure in study.failures:
        raise RethinkError(f"{count(study.failures, 'run')} failed, the first is {failure.run.id}: {failure.reason}")
    return overview.refuse_damaged([study])
