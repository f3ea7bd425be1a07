"""Pictures show what a network has learned, and agree with what was measured while it learned."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from frames import result

import rethink_gen as rg
from rethink_gen import registry
from rethink_gen.analysis import figures, pictures
from rethink_gen.cli import commands, main
from rethink_gen.errors import UsageError
from rethink_gen.results import store
from rethink_gen.runs import Run

HALF = Run(
    dataset="digits", model="mlp_1x512", corruption="random_labels", corruption_level=0.5, train_size=200, epochs=3
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of digits with half its labels drawn at random, and its weights."""
    return rg.train(HALF, results=tmp_path_factory.mktemp("results"), keep_weights=True)


def texts(figure):
    from matplotlib.text import Text

    return [text.get_text() for text in figure.findobj(Text) if text.get_text()]


def test_images_under_every_corruption(tmp_path, monkeypatch, capsys):
    names = [
        name
        for name in registry.COMPONENTS["corruption"]
        if name not in ("class_conditional", "human", "extra_noisy_copies")
    ]

    drawn = pictures.corrupted_images("digits")
    [axes] = drawn.axes
    words = texts(drawn)
    assert len(axes.get_images()) == 8 * len(names)
    assert {"true labels", "random labels", "shuffled pixels", "random pixels", "Gaussian"} <= set(words)
    assert words[words.index("true labels") + 1 :][:8] == list("01234567")
    first, noise = (np.asarray(axes.get_images()[i].get_array()) for i in (0, 8 * names.index("gaussian")))
    assert first.shape == (8, 8)
    assert not np.array_equal(first, noise)
    monkeypatch.chdir(tmp_path)
    assert main.main(["plot", "fig1a", "--dataset", "digits"]) == 2
    assert "--dataset goes with `plot corruptions`" in capsys.readouterr().err


def test_a_corruption_that_uses_true_labels_is_drawn_as_a_run_would_have_it(monkeypatch):
    """The picture once handed it none, and an experiment's own corruption ended the command."""
    turned = lambda key, dataset, level: replace(
        dataset, train=dataset.train._replace(labels=(dataset.true_labels + 1) % 10)
    )
    monkeypatch.setitem(registry.COMPONENTS["corruption"], "turned", registry.Component("corruption", "turned", turned))
    words = texts(pictures.corrupted_images("digits"))
    assert words[words.index("turned") + 1 :][:8] == list("12345678")


def test_answers_have_the_accuracies_that_were_measured(trained):
    true, given, train, test_true, test = commands._answers(trained)
    assert np.mean(train == given) == pytest.approx(trained.summary["train_accuracy"])
    assert np.mean(test == test_true) == pytest.approx(trained.summary["test_accuracy"])
    assert np.mean(train[true == given] == given[true == given]) == pytest.approx(
        trained.summary["train_accuracy_untouched"]
    )


def test_a_confusion_says_of_each_true_class_what_became_of_it(trained):
    answers = commands._answers(trained)
    drawn = pictures.confusion([trained], [answers])
    true, given, *_ = answers
    shown, *_ = (np.asarray(axes.get_images()[0].get_array()) for part in drawn.subfigs for axes in part.axes)
    assert shown[3, 5] == pytest.approx(np.mean(given[true == 3] == 5))
    assert shown.sum(1) == pytest.approx(np.ones(10))
    assert f"labels it was given: {100 * np.mean(true == given):.1f} % true" in texts(drawn)
    assert [text for text in texts(drawn) if text.startswith("MLP 1×512, digits, random labels at 0.5\naccuracy: ")]


def test_many_classes_have_shades_and_no_names():
    from matplotlib.figure import Figure

    axes = Figure().add_subplot()
    pictures._draw_confusion(axes, np.array([0, 99]), np.array([99, 99]), [str(i) for i in range(100)], "a hundred")
    assert np.asarray(axes.get_images()[0].get_array())[[0, 99, 50], 99].tolist() == [1, 1, 0]
    assert texts(axes) == ["a hundred"]


def test_other_data_than_it_was_trained_on_are_refused(trained):
    other = replace(trained, provenance=trained.provenance | {"data_sha256": "0"})
    with pytest.raises(UsageError, match="was trained on other data than the digits that is here"):
        commands._answers(other)


def with_weights(**weights):
    return replace(result(HALF), weights={f"params/{name}": array for name, array in weights.items()})


@pytest.mark.parametrize("shape", [(5, 5, 3), (3, 3, 1)])
def test_filters_of_a_convolution_are_its_kernels(shape):
    kernel = np.random.default_rng(0).normal(size=(*shape, 70)).astype(np.float32)
    last = np.ones((4, 10), np.float32)
    found = pictures._first_filters(
        with_weights(**{"Conv_0/bias": np.ones(70), "Conv_0/kernel": kernel, "Dense_0": last})
    )
    assert found.shape == (70, *shape)
    assert np.array_equal(found[7], kernel[..., 7])


@pytest.mark.parametrize(("inputs", "shape"), [(64, (8, 8, 1)), (28 * 28 * 3, (28, 28, 3)), (784, (28, 28, 1))])
def test_filters_of_a_dense_layer_have_the_shape_of_an_image(inputs, shape):
    kernel = np.arange(2.0 * inputs).reshape(inputs, 2)
    found = pictures._first_filters(with_weights(**{"Dense_0/kernel": kernel}))
    assert np.array_equal(found[1], kernel[:, 1].reshape(shape))


def test_the_filters_shown_are_those_of_the_largest_norm():
    kernel = np.ones((3, 3, 1, 100)) * np.arange(100)
    [axes] = pictures.filters([with_weights(**{"Conv_0/kernel": -kernel})]).axes
    shown = [np.asarray(image.get_array()) for image in axes.get_images()]
    assert len(shown) == 64
    assert all(image.tolist() == np.zeros((3, 3)).tolist() for image in shown), "each in shades of its own"
    assert "64 of 100 filters of 3×3 pixels" in texts(axes.figure)


def test_weights_that_are_no_images_are_refused():
    with pytest.raises(UsageError, match="diverged"):
        pictures._first_filters(with_weights(**{"Conv_0/kernel": np.full((3, 3, 1, 2), np.nan)}))
    with pytest.raises(UsageError, match="no layer on pixels"):
        pictures._first_filters(with_weights(**{"Dense_0/kernel": np.ones((50, 2))}))


def test_commands_draw_runs_that_kept_their_weights_filters_without_jax(trained, tmp_path):
    store.save(trained, tmp_path / "train")
    line = lambda name: ["plot", name, "mlp_1x512", "--results", str(tmp_path)]
    load = "import sys; from rethink_gen.cli import main as cli; "
    code = load + f"sys.exit(cli.main({line('filters')}) or 'jax' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
    assert main.main(line("confusion")) == 0
    for name in ("filters", "confusion"):
        assert (tmp_path / f"{name}.png").stat().st_size > 10_000


def test_a_picture_comes_out_the_same_each_time(trained):
    draw = lambda: figures.draw(pictures.filters([trained, trained]), "svg")
    assert draw() == draw()
