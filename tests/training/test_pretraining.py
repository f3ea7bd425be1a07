"""A run that begins from the end of another training: from which weights, on which images, and with which bits."""

from dataclasses import replace

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rethink_gen as rg
from rethink_gen.data import pipeline
from rethink_gen.errors import Interrupted, UsageError
from rethink_gen.execution import costs, loggers, progress, scheduler
from rethink_gen.models import create, transfer
from rethink_gen.results import frames, locks, store
from rethink_gen.runs import AFRESH, Run
from rethink_gen.training import recording, trainer, vectorize

RUN = Run(
    dataset="digits", train_size=100, test_size=50, batch_size=32, epochs=2, model="mlp(hidden=8+6)",
    learning_rate=0.05, record="weights", pretrain_epochs=3, pretrain_size=70,
)  # fmt: skip
LAYERS = ("Dense_0", "Dense_1", "Dense_2")


def first(run, layer, array="kernel", results=None):
    """An array of the weights before the first step of the run itself."""
    [result] = scheduler.execute([run])
    return result.weights_at[0][f"params/{layer}/{array}"]


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    return rg.train(RUN, results=tmp_path_factory.mktemp("results"))


@pytest.fixture(scope="module")
def before():
    """The pre-training as a run of its own: it begins from the same draw."""
    [found] = scheduler.execute([replace(RUN.pretraining, record="weights")])
    return found


def of(result, epoch, layer, array="kernel"):
    return result.weights_at[epoch][f"params/{layer}/{array}"]


def test_pretraining_is_a_run_on_the_images_that_follow(before):
    assert before.run.pretraining is None
    assert before.provenance["num_train"] == 70
    images, following = (pipeline.cut(run).train.images for run in (RUN, before.run))
    everything = pipeline.cut(Run(dataset="digits")).train.images
    assert np.array_equal(np.concatenate([images, following]), everything[:170])
    labels = pipeline.corrupt(before.run, pipeline.cut(before.run))
    assert labels.changed.mean() > 0.7, "random labels"


def test_run_begins_where_its_pretraining_ended_but_for_the_last_layer(result, before):
    for layer in LAYERS[:2]:
        for array in ("kernel", "bias"):
            assert np.array_equal(of(result, 0, layer, array), of(before, 3, layer, array))
    assert not np.array_equal(of(result, 0, "Dense_0"), of(before, 0, "Dense_0"))
    assert np.array_equal(of(result, 0, "Dense_2"), of(before, 0, "Dense_2")), "drawn"
    assert result.curves["epoch"] == [0, 1, 2]
    assert result.provenance["seconds_train"] + result.provenance["seconds_compile"] > 0


def test_what_pretraining_took_to_compile_is_no_time_of_training(monkeypatch):
    pretrain = trainer._pretrain

    def slow(*given, **others):
        found = pretrain(*given, **others)
        return replace(found, provenance={**found.provenance, "seconds_train": 1000.0, "seconds_compile": 5000.0})

    monkeypatch.setattr(trainer, "_pretrain", slow)
    [found] = scheduler.execute([RUN])
    assert found.provenance["seconds_train"] == pytest.approx(1000, abs=60)
    assert found.provenance["seconds_compile"] == pytest.approx(5000, abs=60)


def test_layers_are_counted_from_the_first_and_norms_are_set_back(before):
    [found] = scheduler.execute([replace(RUN, epochs=1, pretrain_layers=1, pretrain_rescale=True)])
    learned, drawn, begun = of(before, 3, "Dense_0"), of(before, 0, "Dense_0"), of(found, 0, "Dense_0")
    assert np.linalg.norm(begun) == pytest.approx(np.linalg.norm(drawn), rel=1e-6)
    np.testing.assert_allclose(begun / np.linalg.norm(begun), learned / np.linalg.norm(learned), rtol=1e-4, atol=1e-6)
    assert not of(found, 0, "Dense_0", "bias").any(), "biases are drawn as 0"
    for layer in LAYERS[1:]:
        assert np.array_equal(of(found, 0, layer), of(before, 0, layer))


def test_interrupted_pretraining_and_what_follows_continue_with_the_same_bits(result, tmp_path):
    """Once in the pre-training, and once in the run itself."""
    work = locks.work_folder(tmp_path / "train", RUN)
    work.parent.mkdir(parents=True)

    def stop_at(stage, epoch):
        seen = []

        def stopped():
            if seen and seen[-1].stage == stage and seen[-1].epoch == epoch:
                raise Interrupted

        with pytest.raises(Interrupted):
            list(trainer.train({RUN: work}, report=seen.append, stopped=stopped))
        return seen

    assert stop_at("pre-training, epoch 2/3", 2)[-1].run == RUN
    assert (work / "pretraining").is_dir()
    assert {now.stage for now in stop_at("", 1)} >= {"pre-training, epoch 2/3", "pre-training, epoch 3/3", ""}
    stages = []
    again = rg.train(RUN, results=tmp_path, report=lambda now: stages.append(now.stage))
    assert set(stages) == {""}, "what was pre-trained is not trained again"
    assert again.curves == result.curves
    assert all(np.array_equal(of(again, 2, layer), of(result, 2, layer)) for layer in LAYERS)
    assert not work.exists()


def test_longer_run_goes_on_where_a_shorter_one_with_the_same_pretraining_ended(tmp_path):
    short = replace(RUN, record=())
    rg.train(short, results=tmp_path, keep_weights=True)
    longer = rg.train(replace(short, epochs=3), results=tmp_path)
    assert longer.provenance["continues"] == short.id
    [whole] = scheduler.execute([replace(short, epochs=3)])
    assert longer.curves == whole.curves


def test_pretraining_becomes_small_with_its_run():
    assert RUN.shrunk.pretraining.train_size == 70
    large = replace(RUN, train_size=10_000, train_skip=9, pretrain_size=20_000, epochs=50, pretrain_epochs=90)
    before = large.shrunk.pretraining
    assert (before.epochs, before.train_skip, before.train_size) == (4, 9 + 256, 256)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"train_size": None}, "pretrain_epochs needs a train_size"),
        ({"pretrain_epochs": 0}, "pretrain_size has no effect without pretrain_epochs"),
        ({"pretrain_size": 5000}, "1,500 training images; 100 are passed over, and 5,000 more are asked for"),
        ({**AFRESH, "train_skip": 1500}, "1,500 are passed over, and 100 more are asked for"),
        ({"pretrain_layers": 4}, "pretrain_layers must be 1 to 3, the layers of this network, got 4"),
        ({"model": "softmax_regression"}, "pretrain_layers must be 1 to 1, the layers of this network, got 0"),
        ({"dataset": "generated_imagenet", "train_size": 8, "record": ()}, "images are passed over in memory only"),
        ({"pretrain_corruption": "wrong_labels"}, "no corruption named 'wrong_labels'"),
    ],
)  # fmt: skip
def test_pretraining_that_cannot_be_is_refused_in_one_line(change, says, tmp_path):
    run = replace(RUN, **change)
    with pytest.raises(UsageError) as refused:
        rg.train(run, results=tmp_path)
    assert says in str(refused.value)
    assert "\n" not in str(refused.value)
    assert not [*tmp_path.rglob("*.npz")], "nothing was trained before"
    assert not locks.work_folder(tmp_path / "train", run).exists()


def test_diverged_pretraining_is_no_fresh_start_where_weights_are_scaled_back():
    """Numbers that are not finite stay, so that the run has diverged, too; what has no direction begins as drawn."""
    drawn = {"A": {"kernel": jnp.array([3.0, 4.0])}, "B": {"kernel": jnp.array([1.0])}}
    learned = {"A": {"kernel": jnp.array([jnp.nan, 1.0])}, "B": {"kernel": jnp.array([0.0])}}
    begun = transfer.begun(drawn, learned, [], rescale=True)
    assert np.isnan(begun["A"]["kernel"]).all()
    assert begun["B"]["kernel"].tolist() == [1.0]


def test_more_weights_than_memory_should_hold_are_refused_before_the_pretraining(monkeypatch, tmp_path):
    monkeypatch.setattr(recording, "_MOST_BYTES", 1)
    seen = []
    with pytest.raises(UsageError, match="record=weights of 3 epochs"):
        rg.train(RUN, results=tmp_path, report=seen.append)
    assert not [now for now in seen if now.stage]


def test_batch_norm_begins_as_learned_but_for_its_statistics():
    """They are means over the images of a training, and begin as for other images."""
    run = replace(RUN, model="mlp(hidden=8,batch_norm=true)", epochs=1)
    [found], [before] = scheduler.execute([run]), scheduler.execute([replace(run.pretraining, record="weights")])
    assert np.array_equal(of(found, 0, "BatchNorm_0", "scale"), of(before, 3, "BatchNorm_0", "scale"))
    assert not (of(before, 3, "BatchNorm_0", "scale") == 1).all()
    assert np.array_equal(found.weights_at[0]["batch_stats/BatchNorm_0/mean"], np.zeros(8))
    assert before.weights_at[3]["batch_stats/BatchNorm_0/mean"].any()


def layers_of(model, channels=3):
    return transfer.layers(create.create(model, 10), jax.ShapeDtypeStruct((1, 28, 28, channels), jnp.float32))


def test_batch_norm_is_counted_with_the_layer_that_it_follows():
    """It counted as a layer of its own, so that pretrain_layers=2 of this network took over one of its two."""
    order = layers_of("mlp(hidden=4+4,batch_norm=true)")
    assert order == [("Dense_0", "BatchNorm_0"), ("Dense_1", "BatchNorm_1"), ("Dense_2",)]
    assert transfer.after(order, 1) == ["Dense_1", "BatchNorm_1", "Dense_2"]
    assert transfer.after(order, None) == ["Dense_2"]
    assert len(layers_of("keskar_f1")) == 6
    assert layers_of("keskar_c2")[-2:] == [("Dense_0", "BatchNorm_0"), ("Dense_1",)]
    assert [len(layers_of(f"vgg_{depth}")) for depth in (11, 16)] == [9, 14], "one dense layer in place of three"


class _NormFirst(nn.Module):
    num_classes: int

    @nn.compact
    def __call__(self, x, train=False):
        x = nn.LayerNorm()(x.reshape(len(x), -1))
        x = nn.LayerNorm()(x)
        x = nn.Dense(5)(x)
        x = nn.LayerNorm()(x)
        return nn.Dense(self.num_classes)(x)


class _Bare(nn.Module):
    num_classes: int

    @nn.compact
    def __call__(self, x, train=False):
        return x.reshape(len(x), -1) @ self.param("w", nn.initializers.zeros, (12, self.num_classes))


def test_what_comes_before_the_first_layer_belongs_to_it_and_arrays_without_submodules_are_layers():
    example = jax.ShapeDtypeStruct((1, 2, 2, 3), jnp.float32)
    expected = [("LayerNorm_0", "LayerNorm_1", "Dense_0", "LayerNorm_2"), ("Dense_1",)]
    assert transfer.layers(_NormFirst(10), example) == expected
    assert transfer.layers(_Bare(10), example) == [("w",)]


def test_runs_with_pretraining_train_one_by_one(monkeypatch):
    monkeypatch.setattr(vectorize, "_SIDE_BY_SIDE", {"cpu": {RUN.model: 2}})
    assert vectorize.width(RUN) == 1
    assert vectorize.width(replace(RUN, **AFRESH)) > 1


def test_pretraining_is_shown_counted_and_kept_out_of_logs(result, capsys, tmp_path, monkeypatch):
    seen = []
    list(scheduler.execute([RUN], report=seen.append))
    before = [now for now in seen if now.stage]
    assert {now.step for now in before} == {0}
    assert progress._reached(before[-1]) == "pre-training, epoch 3/3"
    logged = []
    monkeypatch.setitem(loggers._TRACKERS, "mine", ("json", lambda run, folder: lambda *row: logged.append(row)))
    with loggers.tracker("mine", tmp_path) as report:
        for now in seen:
            report(now)
    assert [row["epoch"] for _, row in logged if row] == [0, 1, 2]
    assert "corruption.alpha" not in frames.about(replace(result, run=replace(RUN, pretrain_corruption="pair_flip")))
    speed = costs.Speed(step=1.0, image=0.0, compile=0.0, memory=0, state=0)
    monkeypatch.setattr(costs, "_load", lambda: {costs._key(RUN, 1): speed})
    assert costs.cost([RUN], [], 1).seconds == costs.START + 2 * (100 // 32) + 3 * (70 // 32)


def test_time_left_counts_the_steps_of_the_pretraining_too(monkeypatch):
    """On a terminal its seconds were spread over the first steps of the run itself: 6 steps before, 6 of its own."""
    seen = []
    list(scheduler.execute([RUN], report=seen.append))
    shares = [now.share for now in seen]
    assert shares == sorted(shares)
    assert {now.share for now in seen if now.stage} == {0, 2 / 12, 4 / 12, 6 / 12}
    assert {now.share for now in seen if not now.stage} == {6 / 12, 9 / 12, 1}


def test_result_of_a_pretrained_run_is_read_again(result, tmp_path):
    path = store.save(result, tmp_path)
    assert store.read(path).run == RUN
