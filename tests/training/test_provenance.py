"""A result says what made it."""

import subprocess

from rethink_gen.training import provenance


def test_an_installation_inside_another_checkout_has_not_its_commit(tmp_path, monkeypatch):
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b", "-C", str(tmp_path)]
    package = tmp_path / ".venv" / "rethink_gen" / "training"
    package.mkdir(parents=True)
    (package / "provenance.py").write_text("installed")
    (tmp_path / "own.py").write_text("the project that uses it")
    monkeypatch.setattr(provenance, "__file__", str(package / "provenance.py"))
    assert provenance._commit() is None, "outside of any checkout"
    for line in (["init", "-q"], ["add", "own.py"], ["commit", "-q", "-m", "first"]):
        subprocess.run([*git, *line], check=True)
    assert provenance._commit() is None, "inside the checkout of another project"
    for line in (["add", "-f", ".venv"], ["commit", "-q", "-m", "second"]):
        subprocess.run([*git, *line], check=True)
    head = subprocess.run([*git, "rev-parse", "--short=12", "HEAD"], check=True, capture_output=True, text=True).stdout
    assert (provenance._commit() or "").rstrip("+") == head.strip()
