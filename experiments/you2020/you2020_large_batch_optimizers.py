"""How many steps do large batches need to fit true and random labels? SGD, LARS and LAMB on MNIST.

First published here, as far as we know: large-batch optimizers are compared by test accuracy after a number of epochs,
and never by what they need to fit random labels.

The rates follow the rules of the papers from the smallest batch B₀ = 32 on: in proportion to B for SGD with momentum
(Goyal et al. 2017), to √B for LARS and LAMB (You et al. 2020), each with five epochs of linear warm-up and constant
from there on. The rates at B₀ are our choice. They are from a search on random labels with one seed and factors of
about 3, on 2,048 and 4,096 images: at B₀, 0.01 of 0.003, 0.01 and 0.03 for SGD; 0.01 of 0.003, 0.01, 0.03 and 0.1 for
LARS; between 0.001 and 0.003 for LAMB, of which the second was a little better. At batches of 1,024 and 2,048 the best
rates of the search were 0.3, 0.1 and 0.01, where the rules give 0.32 to 0.64, 0.06 to 0.08 and 0.011 to 0.016.

Laptop scale, our choice: 2,048 images, batches of 32 to 2,048, which is all of them; three seeds; 72 runs; at most 200
epochs. Paper scale: 16,384 images, batches of 128 to 16,384, which is all of them; one seed; 48 runs; at most 1,000
epochs. A run ends when 99 % of its training images are fitted.

The paper scale has rates of its own at B₀: 0.005, 0.0015 and 0.0005. They are from trials on random labels, each a
`rethink-gen train` with these settings. More images bear less noise of the gradient: at twice these rates, SGD stays at
92 % with batches of 512, LARS at 97 % and LAMB at 95 % with 128. With all 60,000 images it would take more epochs than
we can afford: SGD is at 76 % after 200 epochs, with batches of 1,024 and a rate of 0.32.

Expected: as batches grow, steps fall at first nearly in proportion, then less, and epochs grow; random labels take a
constant factor more steps than true ones at each size; LARS and LAMB need fewer steps than SGD at the largest batches.

Found at laptop scale: from batches of 32 to 512, 16 times as large, the steps for random labels fall by 12 to 19 times,
those for true ones by 8 to 13. SGD fits random labels in 1,152 steps with batches of 32 and in 93 with 512, and needs
fewer than LARS and LAMB. With all images in a batch, at the rate of its rule, it fits true labels in 20 steps, but of
three runs on random labels only one is done within 200 epochs; LARS takes 70 steps and LAMB 65, in twice the epochs of
small batches. So the rule of SGD fails on random labels where it still works on true ones. Where every run fitted,
random labels take 2.2 to 5.9 times as many steps; the factor is not constant: that of LAMB falls from 4.8 at 32 to 2.2
at 2,048. The runs took 4 minutes of one core, in 25 on a busy machine.

Found at paper scale: up to batches of 1,024, eight times as large, steps fall by 6 to 8 times with every optimizer, for
random labels as for true ones, and epochs hardly grow; from there on they fall less and less. SGD needs the fewest,
7,424 steps with batches of 128 and 1,040 with 1,024. Then its rule breaks, first for random labels: with 4,096, true
labels are fitted in 40 steps and random ones not in 1,000 epochs (84 %); with all images neither is. That is not the
rate alone: with that of 2,048, batches of 8,192 stay at 75 %. LARS fits at every size, in 19,712 steps with batches of
128 and in 976 with all images. LAMB needs fewer up to 8,192, 15,104 and 782; with all images it goes up and down, to
98.99 % at best and 97.5 % at the end. So LARS is faster than SGD at the largest batches, but not before its rule
breaks. Random labels take 8 to 25 times as many steps as true ones where both are fitted. The runs took two hours of
two busy cores.
"""

import math
from dataclasses import replace

from rethink_gen import Experiment, Run, grid
from rethink_gen.analysis import figures, tables

SMALLEST = 32  # B₀
# Optimizer → its name, and the exponent of B/B₀ that its rate grows with.
OPTIMIZERS = {"sgd": ("SGD", 1), "lars(trust=0.1)": ("LARS", 0.5), "lamb": ("LAMB", 0.5)}
# Optimizer → its rate at batches of B₀: for 2,048 images, and for 16,384.
LAPTOP_RATES = {"sgd": 0.01, "lars(trust=0.1)": 0.01, "lamb": 0.002}
PAPER_RATES = {"sgd": 0.005, "lars(trust=0.1)": 0.0015, "lamb": 0.0005}
LABELS = {"true_labels": "true labels", "random_labels": "random labels"}
METRICS = ["steps_to_fit", "epochs_to_fit", "test_accuracy"]

BASE = Run(
    dataset="mnist", model="mlp_1x512", epochs=200, schedule="constant(warmup_epochs=5)", stop_at_train_accuracy=0.99
)


def runs(base, rates, batches, seeds):
    """Every optimizer, size of batches and labeling, at the rate of the rule."""
    return tuple(
        run
        for optimizer, (_, exponent) in OPTIMIZERS.items()
        for batch in batches
        for run in grid(
            replace(base, batch_size=batch, learning_rate=rates[optimizer] * (batch / SMALLEST) ** exponent),
            optimizer=optimizer,
            corruption=tuple(LABELS),
            seed=range(seeds),
        )
    )


MANY = replace(BASE, train_size=16_384, test_size=1000, epochs=1000)
PAPER = runs(MANY, PAPER_RATES, [128 * 2**i for i in range(8)], seeds=1)
LAPTOP = runs(replace(BASE, train_size=2048, test_size=1000), LAPTOP_RATES, (32, 128, 512, 2048), seeds=3)
DIGITS = replace(BASE, dataset="digits", train_size=256, test_size=128, epochs=4)
SMOKE = runs(DIGITS, LAPTOP_RATES, (32, 128), seeds=1)


def with_names(frame):
    """The frame with names of optimizers and labels, and of the line that they make together."""
    names = frame["optimizer"].map({text: name for text, (name, _) in OPTIMIZERS.items()})
    labels = frame["corruption"].map(LABELS)
    return frame.assign(optimizer=names, labels=labels, line=names + ", " + labels)


def table(study):
    return tables.mean_and_interval(with_names(study.runs), ["labels", "optimizer", "batch_size"], METRICS)


def figure(study):
    """Steps and epochs until fitted against the size of the batch."""
    return figures.against(
        with_names(study.curves), "batch_size", ["steps_to_fit", "epochs_to_fit"], hue="line", log="xy"
    )


def steps(study):
    """Steps until fitted by labels, optimizer and batch: means over seeds, infinite where a run never fitted."""
    found = with_names(study.runs).fillna({"steps_to_fit": math.inf})
    return found.groupby(["labels", "optimizer", "batch_size"])["steps_to_fit"].mean()


def told(count):
    return f"{count:,.0f}" if count < math.inf else "not every run fitted"


def in_words(values, sizes):
    return "; ".join(
        f"{name} " + ", ".join(f"{told(values[name][size])} at {size:,}" for size in sizes)
        for name, _ in OPTIMIZERS.values()
    )


def smallest_and_largest(values):
    """The least and the greatest size of batches, of values by optimizer and size."""
    sizes = values.index.get_level_values("batch_size")
    return sizes.min(), sizes.max()


def larger_batches_need_fewer_steps(study):
    """With every optimizer the largest batches fit random labels in fewer steps than the smallest."""
    found = steps(study)["random labels"]
    low, high = smallest_and_largest(found)
    holds = all(found[name][high] < found[name][low] for name, _ in OPTIMIZERS.values())
    return holds, in_words(found, (low, high))


def larger_batches_need_more_epochs(study):
    """With every optimizer the largest batches fit random labels in more epochs than the smallest."""
    found = steps(study)["random labels"]
    low, high = smallest_and_largest(found)
    ratios = {name: found[name][high] * high / (found[name][low] * low) for name, _ in OPTIMIZERS.values()}
    words = (
        f"{name} {ratio:.1f} times as many" if ratio < math.inf else f"{name} not every run fitted"
        for name, ratio in ratios.items()
    )
    return all(1 < ratio < math.inf for ratio in ratios.values()), ", ".join(words)


def random_labels_take_longer(study):
    """At every size of batches and with every optimizer random labels take more steps than true ones, or never fit."""
    found = steps(study)
    ratios = found["random labels"] / found["true labels"]
    known = ratios[ratios < math.inf]
    words = f"{known.min():.1f} to {known.max():.1f} times as many, where every run fitted"
    never = found["random labels"] == math.inf  # also where true labels are not fitted either
    return ((ratios > 1) | never).all(), words


def lars_and_lamb_win_at_the_largest(study):
    """With the largest batches LARS and LAMB fit random labels in fewer steps than SGD."""
    found = steps(study)["random labels"]
    _, size = smallest_and_largest(found)
    return max(found["LARS"][size], found["LAMB"][size]) < found["SGD"][size], in_words(found, (size,))


EXPERIMENT = Experiment(
    claim="As batches grow, networks fit random labels in fewer steps and more epochs, as they do true ones; with the "
    "largest batches LARS and LAMB are faster than SGD.",
    locator="Our own, about Section 3",
    runs=PAPER,
    laptop=LAPTOP,
    smoke=SMOKE,
    table=table,
    figure=figure,
    checks=[
        larger_batches_need_fewer_steps,
        larger_batches_need_more_epochs,
        random_labels_take_longer,
        lars_and_lamb_win_at_the_largest,
    ],
)
