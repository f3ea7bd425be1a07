"""The second descent of trees, boosting and random features as another axis, and what effective parameters make of it.

78 runs at laptop scale, 1,000 digits of MNIST and three seeds: a tree, forests, L2 boosting and random Fourier
features, as in `belkin2019_trees` and `belkin2019_double_descent`. Forests and boosting have more runs in which
averaging begins early, with few leaves or rounds. Random features are fitted by ever more of their principal
components; with all of them that is least norm. Each run counts effective parameters on test inputs: n times the mean
of ‖ŝ(x)‖², where ŝ(x) are the weights of the training labels in the output at x. Paper scale, 10,000 digits, takes
hours; it was not run. The paper has figures and no numbers.

Expected: against leaves, rounds or features, then trees, ensembles or more features, the squared loss rises and falls
again, wherever the second axis begins. Effective parameters on test inputs are most where it begins, and fewer beyond.
Against them each axis is a U or a part of one, and the second axis leads back.

Found: so it is. At the turn the loss of one tree is 0.77, with 309 effective parameters; as a forest of 100 it is 0.26,
with 12.5. Of random features it is 0.64 and 1,074 with half a feature per image; beyond the turn, with six, 0.23 and
588. In every family fewer effective parameters mean less loss along the whole second axis. The way back is no return:
at equal effective parameters the second axis has less loss than the first. Averaging trees of 30 leaves, which fit 66 %
of the labels, takes the loss from 0.58 to 0.40: no descent needs interpolation. The loss of boosting rises from its
second round on; all labels are fitted after 12 to 15 of its 100 rounds, and the loss falls again only where averaging
begins. On training inputs a tree has as many effective parameters as leaves, and random features as many as components,
which are n from the turn on. In table and figure, sizes of trees and boosting are rounded to eight values a decade: 11
trees are at 10. The runs took 23 minutes on two cores that did ten other jobs.
"""

from rethink_gen import Experiment, registry
from rethink_gen.analysis import figures, tables
from rethink_gen.papers.curth2023.protocol import ALL, Scale, runs

COUNTS = (100, 250, 500, 1000, 2500, 5000, 7500, 9000, 9500, 10_000)  # up to the number of images
COUNTS += (10_500, 11_000, 12_500, 15_000, 20_000, 30_000, 45_000, 60_000)
PAPER = Scale(10_000, None, COUNTS, (10, 100, 1000), 200, (10, 50), 20, seeds=1)
LAPTOP = Scale(1000, 2000, tuple(count // 10 for count in COUNTS), (10, 30, 100), 100, (5, 20), 10, seeds=3)
SMALL = Scale(1000, 2000, (64, 256, 512), (10,), 5, (2,), 2, seeds=1)  # of the smoke scale
FAMILIES = FOREST, BOOSTING, FEATURES = "random forest", "L2 boosting", "random features"
PER_DECADE = 8  # points of a curve
EFFECTIVE = "test_effective_parameters"
METRICS = ["train_error", "test_error", "squared_loss", "train_effective_parameters", EFFECTIVE]
SHOWN = (0.1, 0.5, 1, 2, 6, 10, 100)  # of relative sizes


def points(study):
    """All rows of all runs: the family, where its second axis begins (`turn`), and the size relative to that.

    A size is leaves or rounds, of all; then trees or ensembles. Of random features it is N/n for N features. `turn` is
    0 on the composite axis, where the second axis begins at all leaves, rounds or components; else it is their number,
    and the rows are those of the second axis alone. `relative_size` is the size, of trees and boosting rounded to eight
    values a decade; of sizes with one value the largest stands, such as 11 trees at 10.
    """
    import numpy as np
    import pandas as pd

    frame = study.curves
    if not len(frame):
        return frame
    most = frame["learner.rounds"].max() if "learner.rounds" in frame else 0  # boosting with fewer turns early
    parts = [of_learner(text, rows, most) for text, rows in frame.groupby("learner")] if "learner" in frame else []
    parts += [of_features(rows) for kind, rows in frame.groupby("kind") if kind == "ridge"]
    rows = pd.concat(parts)
    thinned = (10 ** ((PER_DECADE * np.log10(rows["size"])).round() / PER_DECADE)).round(4)
    rows = rows.assign(
        relative_size=thinned.where(rows["family"] != FEATURES, rows["size"]),
        squared_loss=rows["test_loss"],
        last=True,
    )
    return rows.drop_duplicates(["run", "turn", "relative_size"], keep="last")


def of_learner(text, rows, most):
    """`family`, `turn` and `size` of a learner; of boosting, the turn is its rounds, if they are not the most."""
    options, number = registry.options_of("learner", text), rows["epoch"]
    if text.startswith("decision_tree"):
        return rows.assign(family=FOREST, turn=0, size=number / rows.groupby("run")["epoch"].transform("max"))
    if text.startswith("random_forest"):
        turn = options["leaves"] if options["leaves"] < ALL else 0
        # One full tree is the end of the first axis.
        return rows.assign(family=FOREST, turn=turn, size=number)[(number > 1) | (turn > 0)]
    rounds = options["rounds"]
    turn = rounds if rounds < most else 0
    size = (number / rounds).where(number <= rounds, number - rounds + 1)
    return rows.assign(family=BOOSTING, turn=turn, size=size)[(size >= 1) | (turn == 0)]


def of_features(rows):
    """`family`, `turn` and `size` of random features; with all components, they are those of least norm."""
    size = rows["features.count"].astype(int) / rows["num_train"]
    return rows.assign(family=FEATURES, turn=rows["components"].where(~rows["last"], 0), size=size)


def main_line(study):
    """The rows of the composite axis: to the end of the first axis, then along the second."""
    rows = points(study)
    return rows[rows["turn"] == 0] if len(rows) else rows


def table(study):
    rows = main_line(study)
    rows = rows[rows["relative_size"].isin(SHOWN)].sort_values(["family", "relative_size"]) if len(rows) else rows
    return tables.mean_and_interval(rows, ["family", "relative_size"], METRICS)


def figure(study):
    """The squared loss of the same models against their size, and against effective parameters."""
    return figures.turning(
        main_line(study),
        ["relative_size", EFFECTIVE],
        "squared_loss",
        along="relative_size",
        turn=1,
        hue="family",
        top=1.2,
        log="x",
    )


def line(study, family, turn=0):
    """The metrics of a family against its relative size: the mean over seeds."""
    rows = points(study)
    rows = rows[(rows["family"] == family) & (rows["turn"] == turn)]
    return rows.groupby("relative_size")[METRICS].mean()


def at_the_turn(study, family):
    """The metrics at their least loss along the first axis, at the turn, and at the end of the second axis."""
    rows = line(study, family)
    first = rows[rows.index < 1]
    return first.loc[first["squared_loss"].idxmin()], rows.loc[1.0], rows.iloc[-1]


def the_loss_rises_to_the_turn_and_falls_beyond(study):
    """Against size the squared test loss has a peak: it rises to the end of the first axis, and along the second it
    falls below all that it was.
    """
    found = {family: [rows["squared_loss"] for rows in at_the_turn(study, family)] for family in FAMILIES}
    words = (
        f"{family} {best:.3f} at best, {turn:.3g} at the turn, {last:.3f} at last"
        for family, (best, turn, last) in found.items()
    )
    return all(last < best < turn for best, turn, last in found.values()), "; ".join(words)


def the_loss_falls_wherever_the_second_axis_begins(study):
    """Where the second axis begins before all labels are fitted, the loss falls along it, too: no descent needs a model
    that interpolates.
    """
    rows = points(study)
    early = rows[(rows["turn"] > 0) & (rows["relative_size"] >= 1)]
    ends = early.sort_values("relative_size").groupby(["family", "turn"])
    means = early.groupby(["family", "turn", "relative_size"])[METRICS].mean().groupby(["family", "turn"])
    begin, end = means.first(), means.last()
    begin = begin[(begin["train_error"] > 0.01) & (ends["relative_size"].max() > 1)]
    end = end.loc[begin.index]
    words = (
        f"{family} from {turn:g}: {begin['squared_loss'][family, turn]:.3f} to {end['squared_loss'][family, turn]:.3f}"
        for family, turn in begin.groupby("family").tail(1).index
    )
    return (end["squared_loss"] < begin["squared_loss"]).all(), "; ".join(words)


def effective_parameters_turn_where_the_axis_does(study):
    """Effective parameters on test inputs grow along the first axis, are most at its end, and fall along the second."""
    right, words = [], []
    for family in FAMILIES:
        rows = line(study, family)[EFFECTIVE]
        first, second = rows[rows.index <= 1], rows[rows.index >= 1]
        right.append((first.diff().dropna() > 0).all() and (second.diff().dropna() < 0).all())
        words.append(f"{family} {first.iloc[0]:.0f} to {first.iloc[-1]:,.0f} to {second.iloc[-1]:.0f}")
    return all(right), "; ".join(words)


def against_effective_parameters_the_way_back_descends(study):
    """Along the second axis the loss falls with every step to fewer effective parameters (rank correlation at least
    0.99): against them there is no second peak.
    """
    found = {}
    for family in FAMILIES:
        rows = line(study, family)
        found[family] = rows[rows.index >= 1][["squared_loss", EFFECTIVE]].corr("spearman").iloc[0, 1]
    return min(found.values()) >= 0.99, "; ".join(f"{family} {value:.3f}" for family, value in found.items())


EXPERIMENT = Experiment(
    claim="The second descent of trees, boosting and random features is one along another axis; against effective "
    "parameters on test inputs the curve turns back, and there is no second descent.",
    locator="Sections 2 to 5",
    runs=runs(PAPER),
    laptop=runs(LAPTOP),
    smoke=runs(SMALL),
    table=table,
    figure=figure,
    checks=[
        the_loss_rises_to_the_turn_and_falls_beyond,
        the_loss_falls_wherever_the_second_axis_begins,
        effective_parameters_turn_where_the_axis_does,
        against_effective_parameters_the_way_back_descends,
    ],
)
