"""A run goes on where a shorter one ended, if that kept its weights, and has the bits that it would have anyway."""

from dataclasses import replace

import numpy as np
import pytest

from rethink_gen.execution import scheduler
from rethink_gen.results import kept, locks, store
from rethink_gen.runs import Run
from rethink_gen.study import running
from rethink_gen.training import checkpointing

RUN = Run(
    dataset="digits", train_size=96, test_size=50, batch_size=32, epochs=4, corruption="random_labels",
    model="mlp(hidden=8)",
)  # fmt: skip
LONGER = replace(RUN, epochs=7)


def steps_of(run, folder, **options):
    """The result of a run in a folder, and the step at which its training was first seen."""
    steps = []
    report = lambda now: steps.append(now.step)
    return running.train(run, results=folder, report=report, **options), steps[0]


@pytest.fixture(scope="module")
def short(tmp_path_factory):
    folder = tmp_path_factory.mktemp("short")
    running.train(RUN, results=folder, keep_weights=True, report=lambda now: None)
    return folder


@pytest.fixture(scope="module")
def whole():
    [result] = scheduler.execute([LONGER], keep_weights=True)
    return result


def test_longer_run_goes_on_and_has_the_bits_of_a_run_from_the_start(short, whole, caplog):
    found, begun = steps_of(LONGER, short, keep_weights=True)
    assert begun == 12, "4 epochs of 3 steps are there"
    assert found.curves == whole.curves
    learned = [name for name in whole.weights if not name.startswith(kept.STATE)]
    assert found.weights.keys() == set(learned), "the rest of the state is no weight"
    assert all(np.array_equal(found.weights[name], whole.weights[name]) for name in learned)
    assert found.provenance["continues"] == RUN.id
    assert f"{LONGER.id} goes on where {RUN.id} ended; it has the numbers" in caplog.text
    assert store.read(store.result_file(short / "train", RUN)).curves["epoch"][-1] == 4, "the shorter one stays"
    again, begun = steps_of(replace(RUN, epochs=9), short)
    assert begun == 21, "the longest that there is"
    assert again.provenance["continues"] == LONGER.id


@pytest.mark.parametrize(
    "other",
    [
        replace(LONGER, seed=1),
        replace(LONGER, learning_rate=0.02),
        replace(LONGER, schedule="cosine"),
        replace(LONGER, record=("examples",)),
        replace(LONGER, measures=("frobenius",)),
        replace(LONGER, measurements=3),
        replace(RUN, epochs=3),
    ],
    ids=["seed", "rate", "schedule of the whole", "records", "measures", "epochs measured", "fewer epochs"],
)
def test_run_that_would_not_have_begun_so_begins_from_its_start(other, short):
    assert checkpointing.of_shorter(other, short / "train") is None


def test_run_begins_from_its_start_where_something_else_made_the_shorter_one(short, tmp_path, whole):
    """Also a forced one, and one whose shorter run kept the weights alone, as older versions did."""
    result = store.whole(store.result_file(short / "train", RUN))
    with np.load(kept.file(store.result_file(short / "train", RUN), "weights")) as file:
        arrays = dict(file)
    made_by = bytes(arrays["state/made_by"]).replace(b"cpu (", b"other (")
    for number, weights in enumerate(({**arrays, "state/made_by": np.frombuffer(made_by, np.uint8)}, result.weights)):
        store.save(replace(result, weights=weights), tmp_path / str(number) / "train")
        found, begun = steps_of(LONGER, tmp_path / str(number))
        assert begun == 0
        assert found.curves == whole.curves
        assert "continues" not in found.provenance
    locks.begin_anew(short / "train", LONGER)
    assert checkpointing.of_shorter(LONGER, short / "train") is None
