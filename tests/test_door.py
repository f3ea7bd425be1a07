"""A user's own data, components and questions, in Python and on the command line, without an edit of the package."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

import rethink_gen as rg
from rethink_gen import digests
from rethink_gen.cli import main
from rethink_gen.data import datasets, pipeline
from rethink_gen.data.tfds import held_out
from rethink_gen.errors import UsageError
from rethink_gen.execution import scheduler
from rethink_gen.runs import Run

SMALL = Run(
    dataset="digits", train_size=96, test_size=50, batch_size=32, epochs=2, model="mlp(hidden=16)", learning_rate=0.02
)


def curves(run):
    [result] = scheduler.execute([run])
    return result.curves


def changed(**fields):
    return Run(**{**{name: getattr(SMALL, name) for name in SMALL.changes}, **fields})


def images(n=40, classes=3, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (n, 6, 5, 3)).astype(np.uint8), rng.integers(0, classes, n)


# What a run can choose.


@pytest.mark.parametrize(
    "choice",
    [  # each is a program to compile, so of each kind there are some
        *({"optimizer": name} for name in ("adam", "lamb", "sgd(nesterov=true)")),
        *({"schedule": name} for name in ("step(at=1)", "cosine", "exponential(warmup_epochs=1)")),
        *({"order": name} for name in ("stored", "buffer(capacity=10)", "echo(of=example)")),
        {"loss": "squared_error"},
        {"max_gradient_norm": 0.1},
        {"optimizer": "adamw", "weight_decay": 0.1},
    ],
    ids=str,
)
def test_every_choice_trains_and_is_another_run(choice):
    run = changed(**{"learning_rate": 0.001 if "optimizer" in choice else 0.02, **choice})
    found = curves(run)
    plain = curves(changed(learning_rate=run.learning_rate))
    assert found["train_loss"] != plain["train_loss"]
    assert all(np.isfinite(found["train_loss"]))
    assert run.id != SMALL.id


def test_lbfgs_takes_the_whole_training_set_or_says_so():
    found = curves(changed(optimizer="lbfgs", batch_size=96, epochs=40))
    assert found["train_accuracy"][-1] == 1.0
    with pytest.raises(UsageError, match="set batch_size=96"):
        curves(changed(optimizer="lbfgs"))


def test_a_sweep_over_numbers_compiles_once():
    from rethink_gen.training import compilation, core

    for rate in (0.01, 0.02, 0.03):
        for decay in (0.0, 1e-3):
            curves(changed(learning_rate=rate, weight_decay=decay, schedule="cosine"))
    program = {run.recipe for run in rg.grid(SMALL, learning_rate=(0.01, 0.02), weight_decay=(0.0, 1e-3))}
    assert len(program) == 1
    step = compilation.jit(core.train_steps)
    sizes = step._cache_size()
    curves(changed(learning_rate=0.04, weight_decay=1e-2, schedule="cosine"))
    assert step._cache_size() == sizes


def test_each_seed_moves_what_it_is_called_by():
    noisy = changed(corruption="random_labels")
    first = curves(noisy)
    same = curves(changed(corruption="random_labels", init_seed=0, order_seed=0, corruption_seed=0))
    assert same == first, "by default each is the seed"
    labels = lambda run: pipeline.load(run)[0].train.labels.tolist()
    moved = {
        name: changed(corruption="random_labels", **{name: 1})
        for name in ("init_seed", "order_seed", "corruption_seed")
    }
    assert labels(moved["corruption_seed"]) != labels(noisy)
    assert labels(moved["init_seed"]) == labels(moved["order_seed"]) == labels(noisy)
    start = {name: curves(run)["weight_norm"][0] for name, run in moved.items()}
    assert start["init_seed"] != first["weight_norm"][0]
    assert start["order_seed"] == start["corruption_seed"] == first["weight_norm"][0]
    assert (
        curves(moved["order_seed"])["train_loss"][0]
        == first["train_loss"][0]
        != curves(moved["order_seed"])["train_loss"][1]
    )


def test_runs_that_differ_in_any_seed_are_replicates(tmp_path):
    study = rg.run(rg.grid(SMALL, init_seed=(0, 1), order_seed=(0, 1)), results=tmp_path)
    counts = study.table()[["n", "censored"]].sum(axis=1)
    assert counts.tolist() == [4] * len(study.table())


# Data of one's own.


def test_arrays_are_a_data_set_and_what_does_not_fit_is_said(tmp_path):
    x, y = images()
    data = rg.Dataset.from_arrays("scans", train=(x, y), test=images(10, seed=1))
    assert (data.train.images.shape, data.test.images.shape, data.num_classes) == ((40, 6, 5, 3), (10, 6, 5, 3), 3)
    assert data.train.images.dtype == np.uint8
    floats = rg.Dataset.from_arrays("floats", train=(x / 255, y))
    assert floats.train.images.dtype == np.float32
    assert len(floats.train.labels) == 32, "every fifth example is held out"
    both = np.concatenate([floats.train.images, floats.test.images]).sum()
    assert both == pytest.approx(x.sum(dtype=float), rel=1e-5)
    whole = rg.Dataset.from_arrays("whole", train=(x.astype(np.float32), y), scale=1)
    assert whole.train.images.max() == 255
    assert repr(whole) == "Dataset(whole: 32 + 8 images of 6×5×3, 3 classes)"
    vectors = rg.Dataset.from_arrays("vectors", train=(x.reshape(40, -1)[:, :7], y))
    assert vectors.train.images.shape == (32, 1, 1, 7)
    rare = np.zeros(40, int)
    rare[held_out(40).argmax()] = 1
    for bad, said in (
        ({"train": (x, y[:-1])}, "labels must be 40 whole numbers"),
        ({"train": (x, y - 1)}, "labels must be 0 to K - 1"),
        ({"train": (x, y), "num_classes": 2}, "label 2 is out of range for 2 classes"),
        ({"train": (x, y), "test": (x[:, :3], y)}, "training images are"),
        ({"train": (x[0, 0, 0], y)}, "images must be"),
        ({"train": x}, r"give each split as \(images, labels\)"),
        ({"train": (x, y.astype(str))}, "labels must be whole numbers; give np.unique"),
        ({"train": (x.astype(np.int64), y)}, "images must be uint8 or floats, got int64"),
        ({"train": (x.astype(np.float32), y)}, "where they are in .0, 255., pass scale=1"),
        ({"train": (x.transpose(0, 3, 1, 2), y)}, "is channels first"),
        (
            {"train": (np.where(x > 250, np.nan, x / 255), y)},
            r"images\[0\] holds NaN or inf; leave such examples out, or",
        ),
        ({"train": (np.where(x > 250, np.inf, x / 255), y)}, "holds NaN or inf"),
        ({"train": (x[:0], y[:0])}, "a split without examples"),
        ({"train": ([x[0], x[1, :3]], [0, 1])}, "images or labels differ in shape among themselves"),
        ({"train": (x, y[:, None])}, r"got int64 \(40, 1\); give labels.ravel\(\)"),
        ({"train": (x, np.eye(3)[y])}, r"got float64 \(40, 3\); give labels.argmax\(1\)"),
        ({"train": (x, rare)}, "all examples of label 1 are in the fifth that is held out for testing; give test="),
        ({"train": (x[:1], y[:1] * 0)}, "of one example none can be held out for testing; give test="),
        ({"train": (x, y + 1)}, "no training example has label 0, and the largest is 3; count labels from 0, or"),
    ):
        with pytest.raises(UsageError, match=said):
            rg.Dataset.from_arrays("bad", **bad)
    with pytest.raises(UsageError, match="'digits' is built in"):
        rg.Dataset.from_arrays("digits", train=(x, y))


def test_images_in_float16_are_multiplied_in_float32():
    """In float16 255 times a value was rounded to eighths, and more than 65,504 was infinite, and so refused."""
    values, labels = np.linspace(0, 300, 400).reshape(40, 10).astype(np.float16), np.arange(40) % 2
    data = rg.Dataset.from_arrays("halves", train=(values, labels), test=(values, labels))
    assert np.array_equal(data.train.images.reshape(40, 10), values.astype(np.float32) * 255)


def test_what_is_no_data_set_is_refused_with_the_way_to_one():
    with pytest.raises(UsageError, match=r"dataset must be a name or a rg\.Dataset, not tuple; rg.Dataset.from_arrays"):
        rg.Run(dataset=images())


@pytest.mark.parametrize("seeds", [3, "0..4"])
def test_one_number_is_no_seeds_for_it_may_mean_how_many(seeds, tmp_path):
    for ask in (
        lambda: rg.run("quickstart", seeds=seeds, results=tmp_path),
        lambda: rg.scores(rg.Run(dataset="digits"), seeds=seeds, results=tmp_path),
        lambda: rg.randomization_test("mlp_1x512", "digits", seeds=seeds, results=tmp_path),
    ):
        with pytest.raises(UsageError, match=r"seeds are several numbers, such as seeds=range\(3\) or seeds=\[3\]"):
            ask()


def test_a_folder_of_images_of_any_size_is_a_data_set(tmp_path):
    from PIL import Image

    rng = np.random.default_rng(0)
    for label, name in enumerate(("cat", "dog")):
        (tmp_path / name).mkdir()
        for i in range(5 + label):
            pixels = rng.integers(0, 256, (10 + i, 20 - i, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / name / f"{i}.png")
    data = rg.Dataset.from_folder("pets", tmp_path, size=8)
    assert (len(data.train.labels), len(data.test.labels), data.num_classes) == (8, 3, 2)
    assert data.train.images.shape[1:] == (8, 8, 3)
    (tmp_path / "dog" / "broken.png").write_bytes(b"no image")
    with pytest.raises(UsageError, match=r"broken\.png: cannot be read as an image"):
        rg.Dataset.from_folder("pets", tmp_path, size=8)
    (tmp_path / "dog" / "broken.png").unlink()
    (tmp_path / ".ipynb_checkpoints").mkdir()
    assert rg.Dataset.from_folder("pets", tmp_path, size=8).num_classes == 2, "a hidden folder is no class"
    (tmp_path / "none").mkdir()
    with pytest.raises(UsageError, match="none: no images; each subfolder is a class"):
        rg.Dataset.from_folder("pets", tmp_path, size=8)
    with pytest.raises(UsageError, match="size must be 1 pixel or more, got 0"):
        rg.Dataset.from_folder("pets", tmp_path, size=0)
    with pytest.raises(UsageError, match="no subfolders"):
        rg.Dataset.from_folder("pets", tmp_path / "none")
    with pytest.raises(UsageError, match="nothing: no such folder"):
        rg.Dataset.from_folder("pets", tmp_path / "nothing")


def test_a_data_set_that_cannot_be_made_hides_no_other():
    @rg.register.dataset("nowhere")
    def nowhere():
        return rg.Dataset.from_folder("nowhere", "there_is_no_such_folder")

    assert "digits" in [source.name for source in datasets.present()]
    with pytest.raises(UsageError, match="there_is_no_such_folder: no such folder, from "):
        datasets.load("nowhere")


def test_a_data_set_may_be_a_function_that_is_called_once():
    calls, digits = [], datasets.bundled.digits()

    @rg.register.dataset("made")
    def made():
        calls.append(1)
        return rg.Dataset.from_arrays("inner", train=digits.train, test=digits.test)

    assert datasets.load("made").name == "made"
    assert datasets.find("made").num_classes == 10
    assert len(calls) == 1

    @rg.register.dataset("same_name")
    def same_name():
        return rg.Dataset.from_arrays("same_name", train=images())

    before = digests.of_run(changed(dataset="same_name"))
    datasets.load("same_name")
    assert digests.of_run(changed(dataset="same_name")) == before, "or its own results would be stale"
    assert curves(changed(dataset="made"))


# Corrupted data for everyone.


def test_corrupt_gives_the_very_data_that_a_run_sees():
    run = changed(corruption="random_labels", corruption_level=0.4, seed=3)
    data = rg.corrupt("digits", "random_labels", level=0.4, seed=3, train_size=96, test_size=50)
    assert np.array_equal(data.train.labels, pipeline.load(run)[0].train.labels)
    assert np.array_equal(data.changed, data.train.labels != data.true_labels)
    assert 0 < data.changed.mean() < 0.5


def test_export_writes_a_file_that_numpy_alone_reads(tmp_path, capsys):
    path = tmp_path / "noisy.npz"
    line = ["data", "export", "digits", "--corruption", "pair_flip", "--level", "0.3", "--seed", "1"]
    assert main.main([*line, "--output", str(path)]) == 0
    assert "1500 training images" in capsys.readouterr().out
    code = (
        "import sys, json, numpy as np; f = np.load(sys.argv[1]); about = json.loads(str(f['about']));"
        "assert (f['changed'] == (f['train_labels'] != f['true_train_labels'])).all();"
        "assert 'rethink_gen' not in sys.modules; print(about['corruption'], f['changed'].mean())"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    name, share = done.stdout.split()
    assert name == "pair_flip"
    assert abs(float(share) - 0.3) < 4 * (0.3 * 0.7 / 1500) ** 0.5
    assert main.main(["data", "export", "digits"]) == 2
    assert main.main([*line[:3], "--corruption", "pair_flop", "--output", str(path)]) == 2
    assert "did you mean 'pair_flip'" in capsys.readouterr().err


# Questions.


def test_a_study_of_runs_has_frames_a_table_and_figures(tmp_path):
    from matplotlib.figure import Figure

    runs = rg.grid(SMALL, model=("mlp(hidden=8)", "mlp(hidden=16)"), seed=range(2))
    study = rg.run(runs, results=tmp_path)
    assert len(study.runs) == 4
    assert len(study.curves) == 4 * 3
    assert study.runs["model.hidden"].tolist() == [8, 8, 16, 16]
    assert set(study.table()["n"] + study.table()["censored"]) == {2}
    assert isinstance(study.plot(x="epoch", y="test_accuracy"), Figure)
    assert isinstance(study.plot(x="model.hidden", y=["train_error", "test_error"], hue="corruption"), Figure)
    with pytest.raises(UsageError, match="no column named 'test_acuracy'; did you mean 'test_accuracy'"):
        study.plot(x="epoch", y="test_acuracy")
    with pytest.raises(UsageError, match="x must have numbers, and model has texts; hue='model'"):
        study.plot(x="model", y="test_error")  # ended in matplotlib
    assert rg.load("train", results=tmp_path).runs["run"].tolist() == study.runs["run"].tolist()
    with pytest.raises(UsageError, match="no option of a plot over epoch named 'logg'; did you mean 'log'"):
        study.plot(x="epoch", y="test_error", logg="x")
    with pytest.raises(UsageError, match="log must be 'x', 'y' or 'xy', got 'z'"):
        study.plot(x="epoch", y="test_error", log="z")
    with pytest.raises(UsageError, match="run takes an experiment's name, an Experiment, a Run, or several runs"):
        rg.run([1, 2], results=tmp_path)


def test_a_result_that_kept_its_weights_answers(tmp_path):
    result = rg.train(changed(corruption="random_labels", corruption_level=0.5), results=tmp_path, keep_weights=True)
    train, test = result.examples("train"), result.examples("test")
    assert train.correct.mean() == pytest.approx(result.summary["train_accuracy"])
    assert test.correct.mean() == pytest.approx(result.summary["test_accuracy"])
    assert train.loss.mean() == pytest.approx(result.summary["train_loss"], rel=1e-4)
    assert (train.labels != train.true_labels).any()
    raw = datasets.bundled.digits().test.images[:50]
    np.testing.assert_allclose(result.predict(raw), test.logits, rtol=1e-4, atol=1e-4)
    for wrong, said in ((raw[..., 0], r"\(50, 8, 8\)"), (raw[0], r"\(8, 8, 1\)"), (raw[:, :6], r"\(50, 6, 8, 1\)")):
        with pytest.raises(UsageError, match=rf"must be \[N, H, W, C\] of 8×8×1, as for digits; got shape {said}"):
            result.predict(wrong)
    with pytest.raises(UsageError, match="images must be uint8, or floats"):
        result.predict(raw.astype(str))
    with pytest.raises(UsageError, match="kept no weights"):
        rg.train(SMALL, results=tmp_path).predict(raw)


def test_a_batch_larger_than_the_data_is_said_and_recorded(tmp_path, caplog):
    result = rg.train(changed(batch_size=500, epochs=1), results=tmp_path)
    assert "batch_size 500 is more than there are: each epoch is one step on all 96 training images" in caplog.text
    assert result.provenance["batch_size"] == 96
    assert result.curves["step"] == [0, 1]


@pytest.mark.parametrize(
    ("choice", "said"),
    [
        ({"schedule": "cosine(warmup_epochs=-1)"}, r"cosine: warmup_epochs must be in \[0, 1e\+06\], got -1"),
        ({"schedule": "step(at=5+-2)"}, "step: at must be in"),
        ({"model": "mlp(hidden=16+0)"}, r"mlp: hidden must be in \[1, 1e\+06\], got 16\+0"),
        ({"optimizer": "adam(b1=1.5)"}, "adam: b1 must be in"),
        ({"augmentations": "input_dropout(rate=2)"}, r"input_dropout: rate must be in \[0, 1\], got 2"),
        ({"augmentations": "gaussian_noise(deviation=-5)"}, "gaussian_noise: deviation must be in"),
        ({"measures": "sensitivity_gini(steps=0)"}, "sensitivity_gini: steps must be in"),
        ({"measures": "sensitivity_gini(batch_size=0)"}, "sensitivity_gini: batch_size must be in"),
        ({"measures": "critical_sample_ratio(radius=-1)"}, "critical_sample_ratio: radius must be in"),
        ({"order": "echo(times=0)"}, "echo: times must be in"),
        ({"order": "buffer(capacity=0)"}, "buffer: capacity must be in"),
        ({"optimizer": "lbfgs(memory=0)"}, "lbfgs: memory must be in"),
    ],
    ids=str,
)
def test_an_option_that_no_component_can_have_is_refused_before_anything_is_trained(choice, said, tmp_path):
    with pytest.raises(UsageError, match=said):
        rg.train(changed(**choice), results=tmp_path)
    assert not list(tmp_path.iterdir())


def test_train_takes_seeds_and_table_and_plot_show_ones_own_runs(tmp_path, capsys):
    place = ["--results", str(tmp_path)]
    data = ["--dataset", "digits", "--train-size", "96", "--test-size", "50"]
    line = ["train", *data, "--epochs", "1", "--model", "mlp(hidden=16)", "--seeds", "0..1"]
    assert main.main([*line, *place]) == 0
    assert "2 of 2 runs done" in capsys.readouterr().out
    assert main.main(["table", "train", "--json", *place]) == 0
    assert {row["n"] for row in json.loads(capsys.readouterr().out)["rows"]} <= {2, 0}
    assert main.main(["plot", "train", "--x", "epoch", "--y", "train_accuracy,test_accuracy", *place]) == 0
    assert (tmp_path / "train" / "figure.png").stat().st_size > 10_000
    assert main.main(["status", "train", "--json", *place]) == 0
    assert main.main([*line[:-3], "mlp(hidden=8)", "--seeds", "0", *place]) == 0
    capsys.readouterr()
    assert main.main(["table", "train", "--only", "model=mlp(hidden=16)", "--json", *place]) == 0
    assert "hidden=8" not in capsys.readouterr().out
    assert main.main(["plot", "train", *place]) == 2
    assert "choose one, such as --x epoch --y test_accuracy" in capsys.readouterr().err.split("error: ")[-1]


def test_a_notebook_keeps_its_malloc_and_its_compilation_cache(tmp_path):
    """Only the command line and worker processes change how memory is kept; a cache that was chosen stays."""
    if kept := os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        (tmp_path / "chosen").symlink_to(kept)  # with the programs of other tests in it
    code = (
        "import jax, rethink_gen as rg; from rethink_gen.execution import machine;"
        "jax.config.update('jax_compilation_cache_dir', 'chosen');"
        f"rg.train(rg.{SMALL}, results='here');"
        "print(machine.keep_memory.cache_info().currsize, jax.config.jax_compilation_cache_dir)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["0", "chosen"]
