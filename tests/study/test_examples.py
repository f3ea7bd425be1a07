"""Examples of a study as a table, and the search for wrong labels, from Python and from the command line."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_digits

import rethink_gen as rg
from rethink_gen import registry, study
from rethink_gen.cli import main
from rethink_gen.errors import UsageError
from rethink_gen.results import kept, outcomes, scores, store
from rethink_gen.study import verification
from rethink_gen.study.merging import merge
from rethink_gen.study.ranking import MemorizationRanking

RUN = rg.Run(
    dataset="digits", train_size=400, test_size=100, batch_size=32, epochs=12, model="mlp(hidden=32)",
    learning_rate=0.05, corruption="uniform_wrong", corruption_level=0.1,
)  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("results")


@pytest.fixture(scope="module")
def ranking(folder):
    return rg.scores(RUN, seeds=range(2), results=folder)


@pytest.fixture
def own(monkeypatch):
    monkeypatch.setitem(registry.COMPONENTS, "dataset", dict(registry.COMPONENTS["dataset"]))


def test_examples_of_a_study_have_a_row_each_with_the_last_scores(ranking):
    study, table = ranking.study, ranking.study.examples
    assert table.groupby(["run", "split"], sort=False).size().tolist() == [400, 100] * 2
    run = study.results[1].id
    records = study.records(run)["train"]
    rows = table[(table["run"] == run) & (table["split"] == "train")]
    assert rows["index"].tolist() == list(range(400))
    assert rows["label"].tolist() == records.label.tolist()
    assert rows["true_label"].tolist() == records.true_label.tolist()
    assert set(rows["seed"]) == {1}
    for name, score in scores.SCORES.items():
        assert rows[name].tolist() == score.function(records)[-1].tolist()


def test_records_that_are_not_there_say_how_to_have_them(ranking, tmp_path):
    with pytest.raises(UsageError, match="2 runs recorded their examples, name one: mlp"):
        ranking.study.records()
    with pytest.raises(UsageError, match="no run that recorded its examples named 'mpl'"):
        ranking.study.records("mpl")
    study = rg.run(replace(RUN, epochs=1), results=tmp_path)
    with pytest.raises(UsageError, match=r"no run here has records .* Run\(record='examples'\), or --record examples"):
        _ = study.examples
    study = rg.run(replace(RUN, epochs=1, record="examples"), results=tmp_path)
    kept.file(store.result_file(study.folder, study.results[0].run), "records").unlink()
    with pytest.raises(
        UsageError, match=r"\.records\.npz is not there; train the run again with --force or force=True"
    ):
        study.records()


def test_all_seeds_of_a_ranking_see_the_same_wrong_labels(ranking):
    first, second = ranking.records
    assert np.array_equal(first.label, second.label)
    assert first.changed.any()
    assert not np.array_equal(first.loss, second.loss)


def test_most_wrong_labels_of_digits_are_found(ranking):
    """Of 37 wrong labels; by chance the AUROC is 0.5, and the precision 0.09."""
    table, judged = ranking.frame, ranking.judged.set_index("score")
    wrong = table["label"] != table["true_label"]
    assert judged.loc["mean_loss", "auroc"] > 0.95
    assert judged.loc["mean_loss", "precision"] == pytest.approx(wrong[: wrong.sum()].mean())
    assert wrong[: wrong.sum()].mean() > 0.75
    assert (judged["auroc"] > 0.85).all()
    right_suggestions = (table["suggested_label"] == table["true_label"])[wrong]
    assert right_suggestions.mean() > 0.8
    assert table["mean_loss"].is_monotonic_decreasing
    mean = np.mean([scores.mean_loss(records)[-1] for records in ranking.records], axis=0)
    assert table.set_index("index").loc[5, "mean_loss"] == mean[5]


def test_small_values_are_suspicious_where_a_score_says_so(folder):
    assert rg.scores(RUN, seeds=range(2), by="aum", results=folder).frame["aum"].is_monotonic_increasing


def test_a_ranking_reads_what_was_trained(ranking, folder):
    before = {path: path.stat().st_mtime_ns for path in (folder / "train").glob("*.json")}
    again = rg.scores(RUN, seeds=range(2), results=folder)
    pd.testing.assert_frame_equal(again.frame, ranking.frame)
    assert {path: path.stat().st_mtime_ns for path in (folder / "train").glob("*.json")} == before


def test_the_command_ranks_and_draws_data_of_a_users_own(own, tmp_path, capsys, monkeypatch):
    """Ten of 300 labels are wrong, and nobody told the command which."""
    monkeypatch.chdir(tmp_path)
    images, labels = load_digits(return_X_y=True)
    labels = labels[:400].copy()
    labels[:10] = (labels[:10] + 3) % 10
    images = images[:400].reshape(-1, 8, 8) / 16
    rg.Dataset.from_arrays("scans", train=(images[:300], labels[:300]), test=(images[300:], labels[300:]))
    words = "scores --dataset scans --model mlp(hidden=32) --learning-rate 0.05 --batch-size 32 --epochs 12 --seeds 0"
    assert main.main([*words.split(), "--count", "12"]) == 0
    shown = capsys.readouterr().out
    assert "the 12 most suspicious of 300 training examples, by mean_loss, 1 seed\n" in shown
    assert "how well" not in shown
    table = pd.read_csv("results/suspicious-scans.csv")
    assert list(table.columns) == ["index", "label", "suggested_label", *scores.SCORES]
    assert set(range(10)) - set(table["index"][:16]) == set()
    assert (tmp_path / "results/suspicious-scans.png").read_bytes().startswith(b"\x89PNG")
    assert main.main([*words.split(), "--json", "--output", "mine.csv", "--by", "aum"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["files"] == ["mine.csv", "mine.png"]
    assert printed["scores"] == []
    assert printed["examples"][0]["index"] in range(10)


def test_feature_vectors_are_ranked_without_pictures(own, tmp_path):
    rng = np.random.default_rng(0)
    labels = rng.integers(2, size=60)
    rg.Dataset.from_arrays("points", train=(rng.normal(3 * labels[:, None], 1, (60, 5)), labels))
    run = rg.Run(dataset="points", whitening=False, model="mlp(hidden=8)", batch_size=20, epochs=2)
    found = rg.scores(run, seeds=[0], results=tmp_path)
    assert found.save(tmp_path / "points.csv") == [tmp_path / "points.csv"]
    with pytest.raises(UsageError, match="no label is known to be wrong; give a corruption"):
        _ = found.judged
    pairs = MemorizationRanking(found.study, "memorization").figure_of_pairs
    for figure in (found.figure, pairs):
        with pytest.raises(UsageError, match="the examples of points are no images that can be drawn"):
            figure(3)


def test_runs_that_all_diverged_give_no_ranking(tmp_path):
    wild = replace(RUN, learning_rate=1e3, weight_decay=1e3, epochs=4)
    found = rg.scores(wild, seeds=[0], results=tmp_path)
    assert found.study.results[0].status == "diverged"
    assert found.study.records()["train"].prediction.shape[1] == 400, "its records are there"
    with pytest.raises(UsageError, match="every run diverged, so there are no scores; set a smaller learning_rate"):
        _ = found.frame


def test_requests_that_cannot_be_are_named(tmp_path, capsys):
    with pytest.raises(UsageError, match="no score named 'margin'; did you mean"):
        rg.scores(RUN, by="margin", results=tmp_path)
    assert main.main(["scores", "--dataset", "digits", "--count", "0"]) == 2
    assert "--count takes how many examples to show, 1 or more, got 0" in capsys.readouterr().err
    assert main.main(["scores", "--dataset", "digits", "--output", str(tmp_path / "x.txt")]) == 2
    assert "--output takes the name of a .csv file" in capsys.readouterr().err


def test_merged_results_bring_their_records(ranking, folder, tmp_path):
    [done] = merge([folder], results=tmp_path)
    assert done.copied == 2
    assert not any(finding.wrong for finding in verification.verify(results=tmp_path))
    first, second = (kept.file(path, "records") for path in sorted(done.folder.glob("*.json")))
    content = first.read_bytes()
    first.write_bytes(second.read_bytes())
    [finding] = verification.verify(results=tmp_path)
    assert [line.partition(": ")[0] for line in finding.wrong] == [str(first)]
    first.unlink()
    [again] = merge([folder], results=tmp_path)
    assert again.copied == 1, "the same result without its records gives way to the one that has them"
    assert first.read_bytes() == content


@pytest.fixture(scope="module")
def memorized(folder):
    run = replace(RUN, train_size=200, corruption_level=0.2, epochs=25, learning_rate=0.1)
    return rg.scores(run, seeds=range(12), by="memorization", results=folder)


def test_memorization_finds_wrong_labels(memorized):
    assert len(memorized.frame) == 200
    assert memorized.frame["memorization"].dropna().is_monotonic_decreasing
    assert set(memorized.judged["score"]) == {"memorization", "unseen_accuracy"}
    assert memorized.judged.set_index("score").loc["memorization", "auroc"] > 0.9
    differs = (
        memorized.frame["seen_accuracy"] - memorized.frame["unseen_accuracy"] - memorized.frame["memorization"]
    ).abs()
    assert differs.max() < 1e-12
    data = load_digits().target
    assert len(memorized.figure(3).axes) == 1
    assert (memorized.frame["label"] != memorized.frame["true_label"]).mean() == pytest.approx(0.2, abs=0.1)
    assert set(memorized.frame["true_label"]) == set(data)


def test_pairs_are_those_of_large_influence(memorized):
    table = memorized.pairs
    assert table["influence"].is_monotonic_decreasing
    assert table["memorization"].min() >= 0.25
    assert len(table) == 100 * (memorized.frame["memorization"] >= 0.25).sum()
    assert len(memorized.figure_of_pairs(3).axes) == 1


def test_command_ranks_by_memorization(memorized, folder, tmp_path, monkeypatch, capsys):
    options = "--dataset digits --train-size 200 --test-size 100 --batch-size 32 --epochs 25 --model mlp(hidden=32)"
    noise = "--learning-rate 0.1 --corruption uniform_wrong --corruption-level 0.2 --by memorization --seeds 0..11"
    place = ["--results", str(folder), "--output", str(tmp_path / "mine.csv"), "--json"]
    assert main.main(["scores", *options.split(), *noise.split(), *place]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["examples"][0]["index"] == int(memorized.frame["index"][0])
    assert {each["score"] for each in told["scores"]} == {"memorization", "unseen_accuracy"}
    assert list(pd.read_csv(tmp_path / "mine.csv")["index"]) == list(memorized.frame["index"])


def test_memorization_of_networks_that_fit_little_says_so(memorized, folder, caplog, monkeypatch):
    """The page's example, on 600 images of three classes, found wrong labels with an AUROC of 0.57, and was silent."""
    fitted = memorized.frame["seen_accuracy"].mean()
    said = f"the networks fit {100 * fitted:.1f} % of the labels that they were trained on; what is not fitted is not"
    for least in (fitted - 0.01, fitted + 0.01):
        monkeypatch.setattr(study.ranking, "FIT_THRESHOLD", least)
        rg.scores(memorized.study.results[0].run, seeds=range(12), by="memorization", results=folder)
        assert (said in caplog.text) == (fitted < least)


@pytest.mark.parametrize(
    ("changes", "seeds", "said"),
    [
        ({"order": "echo"}, range(4), r"random subsets, such as order='subset\(share=0.7\)', got 'echo"),
        ({"order": "subset(share=1.0)"}, range(4), "random subsets"),
        ({"order_seed": 0}, range(4), "leave order_seed away"),
        ({}, [3, 3], "memorization needs two seeds or more, better 50, got 1"),
    ],
)
def test_memorization_without_subsets_of_each_seed_is_refused(changes, seeds, said, tmp_path):
    """The order was replaced unasked; with one seed, or one subset for all, every score was nan."""
    with pytest.raises(UsageError, match=said):
        rg.scores(replace(RUN, **changes), seeds=seeds, by="memorization", results=tmp_path)
    assert not list(tmp_path.iterdir())


def test_memorization_of_another_share_and_of_held_out_examples(folder):
    """The share was 0.7 whatever was asked for; examples of validation_size ended in a traceback."""
    run = replace(RUN, order="subset(share=0.5)", validation_size=40, epochs=1)
    found = rg.scores(run, seeds=range(2), by="unseen_accuracy", results=folder)
    assert outcomes.of(found.finished).seen.sum(1).tolist() == [180] * 2
    assert sorted(found.frame["index"]) == list(range(360))
    assert found.frame["unseen_accuracy"].dropna().is_monotonic_increasing


def test_pairs_are_not_drawn_where_there_are_none(memorized, monkeypatch):
    """They ended in a traceback of NumPy."""
    monkeypatch.setattr(study.ranking, "MEMORIZED", 1.1)
    with pytest.raises(UsageError, match=r"no example has a memorization of 1\.1 or more"):
        memorized.figure_of_pairs()
