"""The searches of Chiang et al. 2023, and our choices where we differ.

Settings are those of the authors' repository, Ping-C/optimizer, at commit ee9fcd19: utils.py, train_distributed.py and
configs/table4. We found no source for the test accuracies of the paper. So nothing here stands beside a number of
theirs, and verdicts are on sentences.

They search the weights of LeNet for 100 to 1,000 images of ten classes of MNIST, 100 times each, until all training
labels are fitted or 80,000 iterations are over. An iteration of pattern search ends with a better candidate; so does
one of random greedy search. Guess-and-check sees two classes and 2 to 32 images.

Our choices:

* The first weights are those that SGD starts from, and guess-and-check draws weights in the same way: He's
  initialization. Theirs are uniform in ±1. A step of theirs, 1 at first, is for such weights: for pattern search we
  keep it, because it changes one weight; noise on all weights has a standard deviation of 0.01 here.
* The loss is that of the network as it is, as for SGD. Theirs is that of logits divided by the norms of all layers.
* Guess-and-check draws for all ten classes. Each of n labels is guessed with a chance of about one in ten, so that
  n = 4 is as far as it comes within minutes.
* Random greedy search halves its noise after 10 generations of 100 candidates in vain; theirs after 100. Pattern search
  tries its directions in one random order, round after round; theirs draws a new order after each better candidate.
* The genetic algorithm is that of Such et al. 2017 with 100 candidates and 5 parents in place of 1,000 and 20. The
  evolution strategy is that of Salimans et al. 2017, with losses in place of their ranks. Both were made for games; we
  know of no numbers for labeled images.
* The same images for all seeds: the first n of MNIST. First weights, random labels and the search differ by seed.
* SGD has batches of 20 and a constant rate of 0.003 with momentum 0.9, for 400 epochs, and is measured on the way.
  Theirs has batches of 64, a rate of 0.01 and momentum 0.5. With a rate of 0.01 and batches of 10 or 50, some of our
  runs did not fit 100 random labels.
"""

from dataclasses import replace

from rethink_gen.runs import Run, SearchRun, grid

GUESS = "guess_and_check"
SEARCHES = ("pattern_search", "random_greedy", "genetic_algorithm", "evolution_strategy")
LABELS = ("true_labels", "random_labels")
FEW = 4  # images for guess-and-check


def runs(model: str, sizes: tuple[int, ...], *, seeds: int, evaluations: int) -> tuple[Run | SearchRun, ...]:
    """Guess-and-check on 4 images, the other searches and SGD on 4 and on each of some sizes; true and random labels.

    Args:
      evaluations: of a search at most.
    """
    axes = {"corruption": LABELS, "seed": range(seeds)}
    search = SearchRun(model=model, evaluations=evaluations)
    sgd = Run(
        dataset="mnist",
        model=model,
        epochs=400,
        learning_rate=0.003,
        schedule="constant",
        measurements=40,
    )
    trained = (grid(replace(sgd, train_size=size, batch_size=min(20, size)), **axes) for size in (FEW, *sizes))
    return (
        *grid(replace(search, search=GUESS, train_size=FEW), **axes),
        *grid(search, search=SEARCHES, train_size=(FEW, *sizes), **axes),
        *(run for runs in trained for run in runs),
    )
