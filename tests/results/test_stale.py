"""A result of one's own code or data that has changed since is out of date: it is set aside, named, and made again."""

from dataclasses import replace

import numpy as np
import pytest

import rethink_gen as rg
from rethink_gen import registry
from rethink_gen.analysis import randomization
from rethink_gen.errors import RethinkError, UsageError
from rethink_gen.results import store
from rethink_gen.study import finding, studies, verification

SMALL = {"dataset": "digits", "train_size": 64, "test_size": 50, "batch_size": 32, "epochs": 1, "learning_rate": 0.01}


def test_an_edited_corruption_is_trained_again_and_the_old_result_set_aside(tmp_path):
    def register(step):
        @rg.register.corruption
        def shifted(key, dataset, level):
            labels = (dataset.train.labels + step) % dataset.num_classes
            return rg.data.pipeline.replace(dataset, train=dataset.train._replace(labels=labels))

    run = rg.Run(**SMALL, corruption="shifted")
    register(1)
    first = rg.train(run, results=tmp_path, keep_weights=True)
    folder = tmp_path / "train"
    weights = store.weights_file(folder, run).read_bytes()
    assert store.done(folder, run)
    assert rg.train(run, results=tmp_path).curves == first.curves
    register(2)
    assert not store.done(folder, run), "a closed-over constant is another code"
    [stale] = studies.gather(studies.own_runs((run,)), tmp_path).stale
    assert stale == run.id
    [finding] = verification.verify(results=tmp_path)
    assert any("made by other code or data of yours than today's" in line for line in finding.wrong)
    second = rg.train(run, results=tmp_path)
    assert second.provenance["code"] != first.provenance["code"]
    [old] = folder.glob(f"{run.id}.*.stale")
    assert old.with_suffix(".stale.npz").read_bytes() == weights, "set aside with their result"
    assert store.done(folder, run)


def test_stale_results_are_told_of_before_they_are_made_again_and_where_a_table_is_asked_for(tmp_path, capsys):
    """Its line said only "no results", as if they were lost."""

    def register(step):
        @rg.register.corruption
        def shifted(key, dataset, level):
            labels = (dataset.train.labels + step) % dataset.num_classes
            return rg.data.pipeline.replace(dataset, train=dataset.train._replace(labels=labels))

    run = rg.Run(**SMALL, corruption="shifted", model="mlp(hidden=8)")
    shifts = randomization.declare("randomization_test_shifts", (run,))
    register(1)
    rg.run(shifts, results=tmp_path, workers=1)
    assert "made by other" not in capsys.readouterr().err
    register(2)
    finding.keep(shifts, tmp_path)
    with pytest.raises(UsageError, match=r"1 result of .*_shifts, all made by other code or data; run"):
        rg.load("randomization_test_shifts", results=tmp_path)
    rg.run(shifts, results=tmp_path, workers=1)
    told = "1 result made by other code or data: trained again; the old stay as *.stale"
    assert told in capsys.readouterr().err.splitlines()


def test_a_redefined_model_is_trained_again_in_one_process(tmp_path):
    """256 units and then 2 under one name: the second must not have the accuracy of the first."""
    import flax.linen as nn

    def register(units):
        @rg.register.model("own_network")
        class Own(nn.Module):
            num_classes: int
            dropout: float = 0.0

            @nn.compact
            def __call__(self, x, *, train=False):
                x = nn.relu(nn.Dense(units)(x.reshape(len(x), -1)))
                return nn.Dense(self.num_classes)(x)

    run = rg.Run(**{**SMALL, "train_size": 1000, "epochs": 3, "learning_rate": 0.05}, model="own_network")
    register(256)
    wide = rg.train(run, results=tmp_path).summary["test_accuracy"]
    register(2)
    narrow = rg.train(run, results=tmp_path).summary["test_accuracy"]
    assert narrow < wide - 0.2


def test_other_arrays_under_one_name_are_other_data(tmp_path):
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 256, (80, 6, 6, 1)).astype(np.uint8), rng.integers(0, 3, 80)
    data = rg.Dataset.from_arrays("scans", train=(x, y))
    run = rg.Run(**{**SMALL, "dataset": data})
    first = rg.train(run, results=tmp_path)
    again = rg.Dataset.from_arrays("scans", train=(x, (y + 1) % 3))
    assert again.checksum != data.checksum
    assert not store.done(tmp_path / "train", run)
    assert (
        rg.train(run, results=tmp_path).provenance["data_sha256"] == again.checksum != first.provenance["data_sha256"]
    )


def test_two_experiments_with_a_corruption_of_one_name_have_results_of_their_own(tmp_path):
    body = """
from dataclasses import replace
import rethink_gen as rg

@rg.register.corruption
def mine(key, dataset, level):
    return replace(dataset, train=dataset.train._replace(labels=(dataset.train.labels + {step}) % 10))

RUNS = (rg.Run(dataset="digits", train_size=64, test_size=50, batch_size=32, epochs=1, corruption="mine"),)
EXPERIMENT = rg.Experiment(claim="none", locator="none", runs=RUNS, laptop=RUNS)
"""
    for name, step in (("first", 1), ("second", 5)):
        (tmp_path / f"{name}.py").write_text(body.replace("{step}", str(step)))
    studies_of = [rg.run(name, experiments=tmp_path, results=tmp_path / "results") for name in ("first", "second")]
    one, two = (study.results[0] for study in studies_of)
    assert one.run == two.run
    assert one.provenance["code"] != two.provenance["code"]
    assert one.curves != two.curves


def test_seeds_of_different_code_are_named_under_the_table(tmp_path):
    """Where the code is not loaded nothing tells which version is today's: then the mixture is said."""

    def register(step):
        @rg.register.corruption
        def stepped(key, dataset, level):
            return replace(dataset, train=dataset.train._replace(labels=(dataset.train.labels + step) % 10))

    for seed, step in enumerate((1, 2)):
        register(step)
        rg.train(rg.Run(**SMALL, corruption="stepped", seed=seed), results=tmp_path)
    del registry.COMPONENTS["corruption"]["stepped"]
    study = rg.load("train", results=tmp_path)
    assert len(study.results) == 2
    assert "Results of different code are mixed: corruption:stepped." in study.text()


def test_an_error_in_a_users_component_names_the_line_of_their_file(tmp_path):
    @rg.register.corruption
    def faulty(key, dataset, level):
        return dataset.no_such_field

    with pytest.raises(RethinkError, match=r"no_such_field.* \(test_stale\.py, line \d+\)"):
        rg.train(rg.Run(**SMALL, corruption="faulty"), results=tmp_path)
