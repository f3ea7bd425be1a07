"""Double descent with trees on MNIST: leaves, then trees of a forest; rounds of boosting, then ensembles.

9 runs: a tree and a forest, whose trees see all examples and 28 of 784 pixels in a split, and L2 boosting; three seeds.
One run gives a whole axis. Laptop scale is 2,000 images, paper scale 10,000; all test images. The settings are those of
the code of Curth et al. 2023 (see the protocol). The paper has figures and no numbers.

Growth is 1 where the first axis ends: a tree with pure leaves, which fits every label, or all rounds of boosting.
Beyond, it is the number of trees, or of ensembles.

Expected: along the first axis the squared test loss falls and rises again; along the second it falls below all before.

Found at laptop scale: so it is. The squared loss of one tree is 0.52 at best, with part of its leaves, 0.67 with all,
and 0.21 as a forest of 100 trees; of boosting 0.43 after 3 rounds, 0.53 after 100, and 0.22 as the mean of 10
ensembles. Test errors hardly rise: of one tree 33.3 % at best and 33.6 % with all leaves, then 7.2 % as a forest; of
boosting 21.5 % at best and 22.1 % after all rounds, then 8.9 %. Boosting fits every label before its first axis ends.
The 9 runs took 8 minutes on two busy cores.
"""

from rethink_gen import Experiment, LearnerRun, grid
from rethink_gen.analysis import figures, tables
from rethink_gen.analysis.tables import percent

TREE, FOREST = "decision_tree(features=sqrt)", "random_forest(bootstrap=false)"
PER_DECADE = 8  # points of a curve
SHOWN = (0.1, 1, 10, 100)  # growth
METRICS = ["train_error", "test_error", "squared_train_loss", "squared_loss"]


def boosting(rounds, members):
    return f"l2_boosting(members={members},rounds={rounds})"


def runs(size, test_size, learner):
    run = LearnerRun(train_size=size, test_size=test_size)
    return grid(run, learner=(TREE, FOREST, learner), seed=range(3))


def by_growth(study):
    """The rows of all runs by family and growth; of several rows of a run within an eighth of a decade, the last."""
    frame = study.curves
    if not len(frame):
        return frame
    import numpy as np

    end = frame.groupby("run")["epoch"].transform("max")
    kind = frame["learner"].str.partition("(")[0]
    rounds = frame.get("learner.rounds", end)
    growth = frame["epoch"].where(kind == "random_forest", frame["epoch"] / end)
    beyond = frame["epoch"] - rounds + 1
    growth = growth.mask(kind == "l2_boosting", (frame["epoch"] / rounds).where(frame["epoch"] <= rounds, beyond))
    rows = frame.assign(
        family=np.where(kind == "l2_boosting", "L2 boosting", "random forest"),
        growth=(10 ** ((PER_DECADE * np.log10(growth)).round() / PER_DECADE)).round(4),
        squared_loss=frame["test_loss"],
        squared_train_loss=frame["train_loss"],
        last=True,
    )
    rows = rows[(kind != "random_forest") | (frame["epoch"] > 1)]  # one tree is the end of the first axis
    return rows.drop_duplicates(["run", "growth"], keep="last")


def table(study):
    rows = by_growth(study)
    rows = rows[rows["growth"].isin(SHOWN)].sort_values(["family", "growth"]) if len(rows) else rows
    return tables.mean_and_interval(rows, ["family", "growth"], METRICS)


def figure(study):
    """Test error and squared loss against growth."""
    rows = by_growth(study)
    return figures.against(rows, "growth", ["test_error", "squared_loss"], hue="family", threshold=1, log="x")


def curve(study, family, metric):
    """A metric against growth: the mean over seeds."""
    rows = by_growth(study)
    return rows[rows["family"] == family].groupby("growth")[metric].mean()


def descents(study, family, metric="squared_loss"):
    """A metric at its least along the first axis, at its end, and at the end of the second axis."""
    values = curve(study, family, metric)
    return values[values.index < 1].min(), values[1.0], values.iloc[-1]


def a_full_tree_fits_every_label(study):
    """A tree with pure leaves fits every training label, and no smaller one does."""
    error = curve(study, "random forest", "train_error")
    return error[1.0] == 0 and error[error.index < 1].min() > 0, f"{percent(error[error.index < 1].min())} just before"


def the_loss_of_a_tree_rises_to_the_threshold(study):
    """The squared test loss of one tree is lower with fewer leaves than with all."""
    least, full, _ = descents(study, "random forest")
    return least < full, f"{least:.3f} at best, {full:.3f} with all leaves"


def the_loss_of_boosting_rises_along_its_rounds(study):
    """The squared test loss of boosting is lower with fewer rounds than with all."""
    least, full, _ = descents(study, "L2 boosting")
    return least < full, f"{least:.3f} at best, {full:.3f} after all rounds"


def averaging_descends_below_all_before(study):
    """Along the second axis, test error and squared loss fall below all that they were, for forest and boosting."""
    families = ("random forest", "L2 boosting")
    found = {
        (family, metric): descents(study, family, metric)
        for family in families
        for metric in ("test_error", "squared_loss")
    }
    lower = all(last < least for least, _, last in found.values())
    words = (
        f"{each} {percent(found[each, 'test_error'][0])} before, {percent(found[each, 'test_error'][2])} after"
        for each in families
    )
    return lower, "test error: " + "; ".join(words)


EXPERIMENT = Experiment(
    claim="As a tree grows leaves and then becomes a forest, and as boosting goes on and is then averaged, the test "
    "loss rises to the end of the first axis and falls along the second.",
    locator="Section 4, random forests and boosting",
    runs=runs(10_000, None, boosting(rounds=200, members=20)),
    laptop=runs(2000, None, boosting(rounds=100, members=10)),
    table=table,
    figure=figure,
    checks=[
        a_full_tree_fits_every_label,
        the_loss_of_a_tree_rises_to_the_threshold,
        the_loss_of_boosting_rises_along_its_rounds,
        averaging_descends_below_all_before,
    ],
)
