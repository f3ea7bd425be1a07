"""The command that measures networks that were trained before."""

from __future__ import annotations

import argparse

from rethink_gen import registry
from rethink_gen.cli import commands, overview
from rethink_gen.study import measuring


def measure(arguments: argparse.Namespace) -> int:
    """measure networks that kept their weights: norms, margins, sharpness; `list measures` shows them all

    rethink-gen measure train --measures margin,spectral,sharpness(epsilon=5e-4)
    """
    given = registry.split(arguments.measures) if arguments.measures else [*registry.COMPONENTS["measure"]]
    texts = measuring.spelled(given)
    study = commands.load(arguments)
    measured = measuring.measured(study, texts)
    print(measured.text("json" if arguments.json else "markdown", texts).rstrip("\n"))
    return overview.refuse_damaged([study])
