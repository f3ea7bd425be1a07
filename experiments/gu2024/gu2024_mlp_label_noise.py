"""Double descent of one hidden layer on MNIST with label noise, beside the authors' numbers for 24 widths.

72 runs: 24 widths, three seeds.
Expected: test accuracy is worst near width 12, where training accuracy passes 98 %, and rises on both sides.
"""

from rethink_gen import Experiment
from rethink_gen.analysis.declare import by, lines
from rethink_gen.papers.gu2024.protocol import NARROW, WIDE, runs

EXPERIMENT = Experiment(
    claim="With noisy labels, test accuracy is worst at the width at which the network just fits its training set, "
    "and rises again with more width.",
    locator="Section 3, MNIST",
    runs=runs(*NARROW, *WIDE),
    laptop=runs(*NARROW),
    table=by("model.hidden", metrics=["running_accuracy", "test_accuracy"]),
    figure=lines(x="model.hidden", y="test_accuracy", hue="corruption"),
)
