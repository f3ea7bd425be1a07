"""Where results are: `~` is the user's home, and an address is no folder."""

import pytest

import rethink_gen as rg
from rethink_gen.analysis import figures
from rethink_gen.cli import main, parser
from rethink_gen.errors import UsageError
from rethink_gen.study import studies

RUN = rg.Run(dataset="digits", train_size=64, test_size=50, batch_size=32, epochs=1)


def test_tilde_is_the_home_and_no_folder_of_that_name(tmp_path, monkeypatch, capsys):
    """A shell leaves `--results=~/x` as it is."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "home").mkdir()
    assert studies.open_folder("~/x") == tmp_path / "home" / "x"
    for option in ("results", "experiments", "output"):
        arguments = parser.parse(["report", f"--{option}=~/x"])
        assert getattr(arguments, option) == tmp_path / "home" / "x"
    rg.train(RUN, results="~/x")
    assert (tmp_path / "home" / "x" / "train" / f"{RUN.id}.json").exists()
    assert main.main(["merge", "~/x", "--results=~/y"]) == 0
    assert figures.save(rg.load("train", results="~/x").plot("epoch", "test_accuracy"), "~/a.png").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["home"]


@pytest.mark.parametrize("place", ["gs://bucket/results", "s3://b", "https://host/x", "file:///tmp/x"])
def test_address_is_refused_and_no_folder_of_that_name_is_made(place, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for act in (rg.run, rg.train):
        with pytest.raises(UsageError, match=r"is an address .*, not a folder"):
            act(RUN, results=place)
    with pytest.raises(UsageError, match="is an address"):
        rg.load("quickstart", results=place)
    for option in ("--results", "--experiments", "--output"):
        assert main.main(["report", option, place]) == 2
        assert main.main(["report", f"{option}={place}"]) == 2
    assert "name a folder of this machine" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
