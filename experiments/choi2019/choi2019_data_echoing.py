"""Data echoing: each batch, or each example, is used several times before the next is read.

42 runs of the MLP of 512 units on CIFAR-10, each stopped when it has fitted: 5,000 images and three seeds at laptop
scale, all images and one seed of each at paper scale (14 runs). The paper trains other networks and reports up to 3.25
times fewer fresh reads for ResNet-50 on ImageNet; that number is from memory, and nothing here compares with it. Its
question is asked of random labels, too, which nobody has published as far as we know.

An epoch has the same number of steps with every order. With echoes it reads fewer fresh examples: the reads until the
training set is fitted are the steps times the batch size, divided by how often each read is used.

Expected: fewer fresh reads with echoes, though not as many fewer as there are echoes; shuffled among others, echoes are
worth more than in a row.

Found at laptop scale: used twice, an example is worth nearly two fresh ones, and used eight times about four. It then
needs 0.23 of the reads, to fit true labels and to fit random ones; batches in a row 0.28 and 0.32. After true labels
test accuracy stays at 41 %.
The steps, and so the computing, grow: to 1.8 times for examples used eight times. The runs took 42 minutes in all, two
side by side on a busy machine.
"""

from rethink_gen import Experiment, Run, grid, registry
from rethink_gen.analysis import figures, tables

TIMES = (2, 4, 8)
KINDS = ("batch", "example")
ORDERS = ("reshuffle", *(f"echo(times={times}, of={kind})" for kind in KINDS for times in TIMES))
LABELS = ("true_labels", "random_labels")
RUN = Run(
    model="mlp_1x512", batch_size=50, epochs=400, learning_rate=0.001, schedule="constant", stop_at_train_accuracy=0.99
)
SMALL = Run(**{**RUN.changes, "train_size": 5000, "test_size": 2000})


def with_reads(frame):
    """The frame with what is repeated, how often, and the fresh examples that were read until 99 % were fitted."""
    options = [registry.options_of("order", order) for order in frame["order"]]
    times, repeated = ([each.get(name, none) for each in options] for name, none in (("times", 1), ("of", "nothing")))
    reads = frame["steps_to_fit"] * frame["batch_size"] / times
    return frame.assign(times=times, repeated=repeated, fresh_reads=reads)


def table(study):
    runs = with_reads(study.runs)
    return tables.mean_and_interval(
        runs, ["corruption", "repeated", "times"], ["steps_to_fit", "fresh_reads", "test_accuracy"]
    )


def figure(study):
    """Fresh reads until fitted against how often each is used; 1 stands for no echo, in the line of batches."""
    runs = with_reads(study.runs)
    once = runs[runs["repeated"] == "nothing"]
    lines = [
        runs.assign(line=runs["repeated"] + ", " + runs["corruption"])[runs["repeated"] != "nothing"],
        *(once.assign(line=f"{kind}, " + once["corruption"]) for kind in KINDS),
    ]
    import pandas as pd

    return figures.against(pd.concat(lines), "times", ["fresh_reads", "steps_to_fit"], hue="line")


def reads(study):
    """Fresh reads until fitted by labels, kind and times, as a share of those without echo: means over seeds."""
    mean = with_reads(study.runs).groupby(["corruption", "repeated", "times"])["fresh_reads"].mean()
    return {name: mean[name] / mean[name, "nothing", 1] for name in LABELS}


def in_words(study, kind):
    share = reads(study)
    return "; ".join(
        f"{name.replace('_', ' ')}: " + ", ".join(f"{share[name][kind, times]:.2f} at {times} times" for times in TIMES)
        for name in LABELS
    )


def echoing_examples_saves_reads(study):
    """Using each example twice needs fewer fresh reads until fitted, on true and on random labels."""
    share = reads(study)
    return all(share[name]["example", 2] < 1 for name in LABELS), in_words(study, "example")


def echoing_batches_saves_reads(study):
    """Using each batch twice in a row needs fewer fresh reads until fitted, on true and on random labels."""
    share = reads(study)
    return all(share[name]["batch", 2] < 1 for name in LABELS), in_words(study, "batch")


def examples_save_more_than_batches(study):
    """Echoes that are shuffled among others save at least as much as echoes of a whole batch, at 8 times."""
    share = reads(study)
    evidence = ", ".join(
        f"{name.replace('_', ' ')}: {share[name]['example', 8]:.2f} and {share[name]['batch', 8]:.2f}"
        for name in LABELS
    )
    return all(share[name]["example", 8] <= share[name]["batch", 8] for name in LABELS), evidence


EXPERIMENT = Experiment(
    claim="Using each example that is read several times needs fewer fresh reads, also to fit random labels.",
    locator="Sections 2 and 4, on another network",
    runs=grid(RUN, corruption=LABELS, order=ORDERS),
    laptop=grid(SMALL, corruption=LABELS, order=ORDERS, seed=range(3)),
    table=table,
    figure=figure,
    checks=[echoing_examples_saves_reads, echoing_batches_saves_reads, examples_save_more_than_batches],
)
