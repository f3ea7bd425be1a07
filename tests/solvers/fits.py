"""Learners fitted to a few digits, half of whose labels are drawn at random."""

from dataclasses import replace

from rethink_gen.data import pipeline
from rethink_gen.runs import LearnerRun
from rethink_gen.solvers import learner

SMALL = LearnerRun(dataset="digits", train_size=120, test_size=60, corruption="random_labels", corruption_level=0.5)


quiet = lambda *_: None


def solve(text, run=SMALL, dataset=None):
    run = replace(run, learner=text)
    return learner.solve(run, dataset or pipeline.load(run)[0], quiet)[0]


def arrays(run=SMALL):
    """x, y of the training and the test images, as scikit-learn takes them."""
    dataset = pipeline.load(run)[0]
    return [
        (split.images.reshape(len(split.images), -1) / 255.0, split.labels) for split in (dataset.train, dataset.test)
    ]
