import hashlib
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest

import rethink_gen as rg
from rethink_gen import registry
from rethink_gen.cli import main
from rethink_gen.errors import RethinkError, StorageError, UsageError
from rethink_gen.execution import requests
from rethink_gen.models.create import create
from rethink_gen.results import kept, store
from rethink_gen.results.result import Result
from rethink_gen.runs import Run
from rethink_gen.study import running, trained, verification

SMALL = {"dataset": "digits", "train_size": 64, "test_size": 50, "batch_size": 32, "epochs": 1}

EXPERIMENT = '''"""Digits for an epoch."""
from matplotlib.figure import Figure

from rethink_gen import Experiment, Run, grid
from rethink_gen.analysis.declare import by


def figure(study):
    drawn = Figure()
    drawn.add_subplot().plot(study.curves["epoch"], study.curves["test_error"])
    return drawn


def labels_differ(study):
    """There are two kinds of labels."""
    return study.runs["corruption"].nunique() == 2, "counted"


RUNS = grid(
    Run(dataset="digits", train_size=64, test_size=50, batch_size=32, epochs=1{more}),
    corruption=("true_labels", "random_labels"),
)
EXPERIMENT = Experiment(
    claim="Labels matter.",
    locator="Nowhere",
    runs=RUNS,
    laptop=RUNS,
    table=by("corruption", metrics=["test_accuracy"]),
    figure=figure,
    checks=[labels_differ],
)
'''


@pytest.fixture
def places(tmp_path):
    """The keyword arguments for a folder of results and one of experiments, with two experiments of the same runs."""
    (tmp_path / "experiments").mkdir()
    for name in ("labels", "same"):
        (tmp_path / "experiments" / f"{name}.py").write_text(EXPERIMENT.format(more=""))
    return {"results": tmp_path / "results", "experiments": tmp_path / "experiments"}


def result(run, *, accuracy=1.0, seconds=1.0, device="cpu (2 cores)"):
    """A result as if `run` had reached its last epoch."""
    metrics = ("train_loss", "train_accuracy", "test_loss", "test_accuracy")
    curves = {"epoch": [0, run.epochs], "step": [0, 10], **{name: [0.1, accuracy] for name in metrics}}
    provenance = {"device": device, "seconds_train": seconds, "seconds_compile": 0.0, "num_train": 64, "num_test": 297}
    return Result(run, "finished", curves, provenance)


def fill(places, scale, *, name="labels", keep=slice(None), **values):
    """Puts results of an experiment's runs where `run` would."""
    study = running.plan(name, scale=scale, **places)
    for run in study.experiment.runs[keep]:
        store.save(result(run, **values), study.folder)
    return study


def test_run_finishes_what_is_missing_and_leaves_table_and_figure(places):
    reports = []
    study = rg.run("labels", report=reports.append, **places)
    assert not study.missing
    assert {report.run.corruption for report in reports} == {"true_labels", "random_labels"}
    assert [check.holds for check in study.checks()] == [True]
    files = {path.name: path.stat().st_mtime_ns for path in study.folder.glob("[!.]*")}
    assert files.keys() == {
        *(f"{run.id}.json" for run in study.experiment.runs),
        "table.md",
        "figure.png",
        "figure.svg",
    }
    assert (study.folder / "table.md").read_text() == study.text()

    (study.folder / f"{study.experiment.runs[1].id}.json").unlink()
    rg.run("labels", **places)
    again = {path.name: path.stat().st_mtime_ns for path in study.folder.glob("[!.]*")}
    changed = {name for name in files if files[name] != again[name]}
    assert f"{study.experiment.runs[0].id}.json" not in changed
    assert f"{study.experiment.runs[1].id}.json" in changed


def test_run_that_was_stopped_keeps_what_is_done(places):
    def stop_in_second_run(progress):
        if progress.done_runs == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        rg.run("labels", report=stop_in_second_run, **places)
    assert [result.run.corruption for result in rg.load("labels", **places).results] == ["true_labels"]


def test_finished_runs_are_trained_again_only_by_force(places):
    fill(places, "laptop", accuracy=0.5)
    assert {r.summary["test_accuracy"] for r in rg.run("labels", **places).results} == {0.5}
    forced = rg.run("labels", only={"corruption": "random_labels"}, force=True, **places)
    assert [r.summary["test_accuracy"] == 0.5 for r in forced.results] == [True, False]


def test_weights_are_kept_where_asked_for_and_gone_with_the_result_they_belong_to(places):
    before = rg.run("labels", **places)
    weights = lambda: sorted(path.name for path in before.folder.glob("*.npz"))
    assert weights() == [], "nobody asked"
    written = lambda: {path.name: path.stat().st_mtime_ns for path in before.folder.glob("*.json")}
    without = written()
    after = rg.run("labels", keep_weights=True, **places)
    assert weights() == sorted(f"{run.id}.weights.npz" for run in after.experiment.runs)
    assert [result.curves for result in after.results] == [result.curves for result in before.results]
    assert not set(without.items()) & set(written().items()), "both were trained again"

    there = written()
    rg.run("labels", keep_weights=True, **places)
    assert written() == there, "both have all that was asked for"
    rg.run("labels", force=True, only={"corruption": "true_labels"}, **places)
    assert weights() == [f"{after.experiment.runs[1].id}.weights.npz"]


def test_a_result_with_weights_differs_from_one_without_by_their_checksum_alone(tmp_path):
    made = result(Run())
    bare = store.read(store.save(made, tmp_path / "bare"))
    kept = store.read(store.save(replace(made, weights={"params/kernel": np.ones(3)}), tmp_path / "kept"))
    checksum = hashlib.sha256(store.weights_file(tmp_path / "kept", made.run).read_bytes()).hexdigest()
    assert kept == replace(bare, provenance={**bare.provenance, "weights_sha256": checksum})
    assert (
        store.save(kept, tmp_path / "again").read_bytes() == store.result_file(tmp_path / "bare", made.run).read_bytes()
    )
    assert store.whole(tmp_path / "kept" / f"{made.run.id}.json").weights["params/kernel"].tolist() == [
        1,
        1,
        1,
    ]
    assert store.whole(tmp_path / "bare" / f"{made.run.id}.json").weights is None


def test_weights_of_another_run_are_refused_by_all_that_read_them(tmp_path, capsys):
    """Two files swapped, as by a copy that went wrong."""
    folder = tmp_path / "train"
    runs = [Run(dataset="own"), Run(dataset="own", seed=1)]
    for run in runs:
        store.save(replace(result(run), weights={"params/kernel": np.full(3, float(run.seed))}), folder)
    assert not verification.verify(results=tmp_path)[0].wrong
    files = [store.weights_file(folder, run) for run in runs]
    first, second = (path.read_bytes() for path in files)
    files[0].write_bytes(second)
    files[1].write_bytes(first)
    [finding] = verification.verify(results=tmp_path)
    assert [line.partition(": ")[0] for line in finding.wrong] == sorted(map(str, files))
    assert all("damaged, or the weights of another result; delete it" in line for line in finding.wrong)
    with pytest.raises(StorageError, match="weights of another result"):
        trained.kept([runs[1].id], results=tmp_path)
    assert main.main(["plot", "confusion", runs[1].id, "--results", str(tmp_path)]) == 4
    assert "weights of another result" in capsys.readouterr().err


def test_weights_of_older_results_which_have_no_checksum_are_still_read(tmp_path):
    made = replace(result(Run()), weights={"params/kernel": np.ones(3)})
    store.save(replace(made, weights=None), tmp_path)
    store.weights_file(tmp_path, made.run).write_bytes(kept.pack(made.weights))
    assert store.whole(store.result_file(tmp_path, made.run)).weights["params/kernel"].tolist() == [1, 1, 1]


def test_runs_that_kept_their_weights_are_found_by_the_beginning_of_their_id(tmp_path):
    with pytest.raises(UsageError, match=r"no run in .* kept its weights"):
        trained.kept(results=tmp_path)
    runs = [Run(), Run(corruption="random_labels")]
    for run in runs:
        store.save(replace(result(run), weights={"params/kernel": np.ones(3)}), tmp_path / "train")
    assert [found.run for found in trained.kept(["mlp_1x512-ran", runs[0].id], results=tmp_path)] == runs[::-1]
    with pytest.raises(UsageError, match="2 runs kept their weights, name some: mlp_1x512-random_labels-"):
        trained.kept(results=tmp_path)
    with pytest.raises(UsageError, match="no run that kept its weights named 'mlp_3x512'; known: mlp_1x512-random"):
        trained.kept(["mlp_3x512"], results=tmp_path)
    store.weights_file(tmp_path / "train", runs[0]).write_bytes(b"PK")
    with pytest.raises(StorageError, match=r"mlp_1x512-true_labels-\w+\.weights\.npz: damaged"):
        trained.kept(["mlp_1x512-true"], results=tmp_path)


def test_reports_count_the_runs_that_failed(places, monkeypatch):
    from rethink_gen.training import trainer

    train = trainer.train

    def fail_on_true_labels(folders, **options):
        if any(run.corruption == "true_labels" for run in folders):
            raise RuntimeError("no")
        return train(folders, **options)

    monkeypatch.setattr(trainer, "train", fail_on_true_labels)
    reports = []
    assert len(rg.run("labels", report=reports.append, **places).failures) == 1
    assert {(now.run.corruption, now.done_runs, now.failed_runs) for now in reports} == {("random_labels", 1, 1)}


def test_run_of_another_experiment_at_the_same_scale_is_copied(places):
    laptop, paper = fill(places, "laptop", accuracy=0.5), fill(places, "paper", accuracy=0.6)
    study = rg.run("same", **places)
    assert {r.summary["test_accuracy"] for r in study.results} == {0.5}
    for path in laptop.folder.glob("*.json"):
        assert (study.folder / path.name).read_bytes() == path.read_bytes()
    assert paper.folder != laptop.folder


def test_seeds_stand_in_for_those_of_the_experiment(places):
    planned = running.plan("labels", seeds=range(2, 4), **places)
    assert [(run.corruption, run.seed) for run in planned.missing] == [
        ("true_labels", 2),
        ("true_labels", 3),
        ("random_labels", 2),
        ("random_labels", 3),
    ]


def test_only_takes_fields_and_alternatives(places):
    pick = lambda **only: [
        (r.corruption, r.seed) for r in running.plan("labels", seeds=(0, 1), only=only, **places).missing
    ]
    assert pick(corruption="random_labels") == [("random_labels", 0), ("random_labels", 1)]
    assert pick(seed=["1"]) == [("true_labels", 1), ("random_labels", 1)]
    assert pick(seed=[0, 1], corruption=["true_labels"]) == [("true_labels", 0), ("true_labels", 1)]


def test_every_seed_of_a_setting_counts_and_other_settings_do_not(places):
    study = fill(places, "laptop")
    known, _ = study.experiment.runs
    store.save(result(replace(known, seed=7)), study.folder)
    store.save(result(replace(known, momentum=0.5)), study.folder)
    assert [(r.run.corruption, r.run.seed) for r in rg.load("labels", **places).results] == [
        ("true_labels", 0),
        ("true_labels", 7),
        ("random_labels", 0),
    ]


def test_load_prefers_the_scale_nearest_to_the_paper(places):
    with pytest.raises(UsageError, match="rethink-gen run labels"):
        rg.load("labels", **places)
    for scale in ("smoke", "laptop", "paper"):
        fill(places, scale)
        assert rg.load("labels", **places).experiment.scale == scale
    assert rg.load("labels", scale="smoke", **places).experiment.scale == "smoke"


def test_study_counts_what_is_missing_and_shows_itself(places):
    fill(places, "laptop", keep=slice(1))
    study = rg.load("labels", **places)
    assert [run.corruption for run in study.missing] == ["random_labels"]
    assert "1 of 2 runs done" in study.text()
    page = study._repr_html_()
    assert page.count("<table") == page.count("<svg") == page.count("</svg>") == 1
    assert "<?xml" not in page


@pytest.mark.parametrize(
    "field", ['model="mlp_1x51"', 'corruption_level=1, augmentations=("zoom",)', 'momentum="high"', "epoch=3"]
)
def test_mistake_in_an_experiment_is_found_before_jax_is_loaded(places, field):
    path = places["experiments"] / "labels.py"
    path.write_text(EXPERIMENT.format(more=f", {field}"))
    code = (
        "import sys, rethink_gen as rg\n"
        f"try: rg.run('labels', results={str(places['results'])!r}, experiments={str(path.parent)!r})\n"
        "except rg.errors.UsageError as error: print(error)\n"
        "sys.exit('jax' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n") == 1
    assert not places["results"].exists()


def test_damaged_result_is_named_and_left_out_and_not_trained_over(places):
    study = fill(places, "laptop")
    path = study.folder / f"{study.experiment.runs[0].id}.json"
    path.write_bytes(content := path.read_bytes()[:-20])
    for verb in (rg.run, rg.load):
        study = verb("labels", **places)
        assert [error.path for error in study.damaged] == [path]
        assert [result.run for result in study.results] == [study.experiment.runs[1]]
        assert f"1 of 2 runs done. {path.name} is damaged and left out." in study.text()
    assert path.read_bytes() == content


def test_results_that_cannot_be_written_are_refused_before_training(places):
    places["results"].mkdir()
    (places["results"] / "labels").write_text("in the way")
    with pytest.raises(StorageError, match="--results"):
        rg.run("labels", **places)


def test_missing_data_is_an_error_before_training(places, monkeypatch, tmp_path):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("RETHINK_GEN_CACHE", str(tmp_path))
    with pytest.raises(RethinkError, match="rethink-gen data prepare cifar10"):
        rg.train(Run(dataset="cifar10", epochs=1), results=tmp_path)


def test_run_that_fails_is_told_and_the_others_go_on(places, monkeypatch):
    broken = lambda **options: 1 / 0
    monkeypatch.setitem(registry.COMPONENTS["model"], "broken", registry.Component("model", "broken", broken))
    path = places["experiments"] / "labels.py"
    path.write_text(EXPERIMENT.format(more="").replace("corruption=(", 'model=("broken", "mlp_1x512"), corruption=('))
    study = rg.run("labels", only={"corruption": "true_labels"}, **places)
    assert [failure.run.model for failure in study.failures] == ["broken"]
    assert [r.run.model for r in study.results] == ["mlp_1x512"]


def test_name_added_at_run_time_is_known(monkeypatch):
    monkeypatch.setitem(
        registry.COMPONENTS["model"], "mine", replace(registry.find("model", "mlp_1x512"), name="mine", target="none")
    )
    requests.check_names([Run(model="mine")])
    monkeypatch.undo()
    with pytest.raises(UsageError, match="mine"):
        requests.check_names([Run(model="mine")])


def test_import_loads_neither_jax_nor_pandas():
    code = "import rethink_gen, sys; sys.exit(any(name in sys.modules for name in ('jax', 'pandas', 'matplotlib')))"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_plan_of_very_many_runs_is_made_and_parted_in_seconds(places):
    """A fifth of the most there may be; benchmarks/scale.py has them all."""
    started = time.process_time()
    planned = running.plan("labels", seeds=range(10_000), **places)
    parts = [running.to_do(planned, shard=(i, 3)) for i in (1, 2, 3)]
    assert sum(map(len, parts)) == len(planned.missing) == 20_000
    assert time.process_time() - started < 12  # seconds; 2 where nothing else is going on
    with pytest.raises(UsageError, match="100002 runs asked for"):
        running.plan("labels", seeds=range(50_001), **places)


def test_runs_of_ones_own_in_another_folder_are_trained_and_not_copied_from_the_first(tmp_path):
    """Beside it, as `results` and `results2` in one place: their `train/` folders look like two experiments."""
    for name in ("first", "second"):
        trained = []
        rg.run([Run(**SMALL)], results=tmp_path / name, report=trained.append)
        assert trained, "of a copy there is no progress"


def test_a_level_that_has_no_effect_is_refused_before_it_gives_one_run_three_names(tmp_path):
    runs = rg.grid(Run(**SMALL), corruption_level=(0.0, 0.2), seed=range(2))
    with pytest.raises(UsageError, match=r"corruption_level=0 has no effect on true_labels; name a corruption"):
        rg.run(runs, results=tmp_path)


def test_when_every_run_failed_a_script_does_not_go_on(tmp_path, monkeypatch, capsys):
    broken = registry.Component("model", "broken", lambda num_classes: 1 / 0)
    monkeypatch.setitem(registry.COMPONENTS["model"], "broken", broken)
    with pytest.raises(RethinkError, match="2 runs failed, all that there were to do"):
        rg.run(rg.grid(Run(**SMALL, model="broken"), seed=range(2)), results=tmp_path)
    assert "ZeroDivisionError" in capsys.readouterr().err


def test_a_model_without_the_field_num_classes_is_told_to_have_it(monkeypatch):
    monkeypatch.setitem(registry.COMPONENTS["model"], "bare", registry.Component("model", "bare", lambda width=3: None))
    with pytest.raises(UsageError, match="model 'bare' needs a field `num_classes: int`"):
        create("bare", 10)
