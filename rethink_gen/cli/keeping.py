"""The commands that keep results: join folders, pack and check them."""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterable

from rethink_gen import coercion
from rethink_gen.errors import RethinkError, UsageError
from rethink_gen.execution.progress import progress
from rethink_gen.results.packs import FILE
from rethink_gen.study import packing, verification
from rethink_gen.words import count, in_one_line


def merge(arguments: argparse.Namespace) -> int:
    """join results of machines without a common disk, and renew tables and figures

    rethink-gen merge part1 part2 --results results
    """
    from rethink_gen.study.merging import merge

    if not arguments.dir:
        raise UsageError("name the folders to merge, such as part1 part2; they are joined in --results")
    for done in merge(arguments.dir, results=arguments.results, experiments=arguments.experiments):
        renewed = "table renewed" if done.renewed else "no experiment of that name, so no table"
        print(f"{done.folder}: {done.copied} copied, {done.there} there before, {renewed}", flush=True)
    return 0


def pack(arguments: argparse.Namespace) -> int:
    """make one file of the many in a folder of results; read as before; without names: folders of 30 results and more

    rethink-gen pack choi2019_data_echoing
    """
    place = {"results": arguments.results, "experiments": arguments.experiments}
    for done in packing.pack(arguments.names, scale=arguments.scale, **place):
        left = f"; another process works on {count(done.left, 'run')}, left as files" if done.left else ""
        print(f"{done.folder / FILE}: {count(done.results, 'result')}, {done.moved} of them new{left}", flush=True)
    return 0


def verify(arguments: argparse.Namespace) -> int:
    """recompute every checksum and table; --retrain K also trains K random runs again and compares

    rethink-gen verify quickstart --retrain 2
    """
    place = {"results": arguments.results, "experiments": arguments.experiments}
    anew = coercion.coerce("--retrain", arguments.retrain, int)
    if anew < 0:
        raise UsageError(f"--retrain takes a number of runs, got {anew}")
    with progress() as report:
        found = verification.verify(arguments.name, **place)
        trained = verification.retrain(anew, arguments.name, **place, report=report) if anew > 0 else ()
        return _show_findings(itertools.chain(found, trained))


def doctor(arguments: argparse.Namespace) -> int:
    """show versions, devices, data and folders, and what is wrong with them

    rethink-gen doctor
    """
    from rethink_gen.cli.doctor import examine

    return _show_findings(examine(results=arguments.results, experiments=arguments.experiments))


def _show_findings(findings: Iterable[verification.Finding]) -> int:
    """Prints each finding as it comes; raises an error at the end if something is wrong."""
    wrong = []
    for finding in findings:
        print("wrong " if finding.wrong else "right ", in_one_line(finding.what), flush=True)
        for line in finding.wrong:
            print("      ", in_one_line(line), flush=True)
        wrong += finding.wrong
    if wrong:
        raise RethinkError(f"{count(wrong, 'thing')} wrong, the first is {wrong[0]}")
    return 0
