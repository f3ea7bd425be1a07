"""Files of strangers are safe to open. See docs/reliability.md."""

import ast
import csv
import html
import io
import json
import marshal
import os
import pickle
import re
import stat
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest
from sweeps import SMALL, falsify, result

import rethink_gen as rg
from rethink_gen.analysis import figures, rendering, tables
from rethink_gen.data import datasets, tfds
from rethink_gen.errors import StorageError
from rethink_gen.experiment import Check
from rethink_gen.papers import label
from rethink_gen.results import frames, locks, store
from rethink_gen.runs import KINDS
from rethink_gen.training import checkpointing, compilation

ROOT = Path(__file__).parents[2]


def test_nothing_in_the_package_can_run_what_it_loads():
    """No pickle, no eval, no shell; np.load never of objects.

    Two files are exempt: one has an unpickler that admits arrays alone (test_cifar10n.py), and one unpacks what its own
    parent process has packed.
    """
    exempt = {"cifar10n.py": {"pickle"}, "shipping.py": {"cloudpickle"}}
    forbidden = {"pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal", "jsonpickle", "yaml", "torch"}
    for path in [*(ROOT / "rethink_gen").rglob("*.py"), *(ROOT / "experiments").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not {name.partition(".")[0] for name in names} & (forbidden - exempt.get(path.name, set())), path
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                options = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
                assert called not in ("eval", "exec", "__import__", "os.system", "pd.read_pickle"), path
                assert options.get("shell", "False") == "False", path
                assert called != "np.load" or options.get("allow_pickle") == "False", path
                assert not called.endswith("extractall"), path


def test_hostile_checkpoint_runs_no_code(tmp_path):
    class Hostile:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "pwned"),)

    np.savez(tmp_path / "checkpoint-00000000.npz", notes=np.array(Hostile(), dtype=object))
    np.save(tmp_path / "checkpoint-00000001.npy", np.array([Hostile()], dtype=object))
    (tmp_path / "checkpoint-00000001.npy").rename(tmp_path / "checkpoint-00000001.npz")
    assert checkpointing.load_checkpoint(tmp_path) is None
    assert not (tmp_path / "pwned").exists()


def traps(folder):
    """Files that run code, or have no end, for a reader who trusts them; sound results with names of code."""

    class Hostile:
        def __reduce__(self):
            return os.mkdir, ("pwned",)

    pickles = [pickle.dumps(Hostile(), protocol) for protocol in range(pickle.HIGHEST_PROTOCOL + 1)]
    arrays = [io.BytesIO(), io.BytesIO()]
    np.save(arrays[0], np.array([Hostile()], dtype=object))
    np.savez(arrays[1], notes=np.array(Hostile(), dtype=object))
    texts = [
        "cos\nsystem\n(S'mkdir pwned'\ntR.", "import os; os.mkdir('pwned')", "#!/bin/sh\nmkdir pwned", "$(mkdir pwned)",
        "!!python/object/apply:os.mkdir [pwned]", '{"py/object": "os.mkdir"}', '{"py/reduce": ["os.mkdir", ["pwned"]]}',
        '{"__class__": "os.mkdir"}', '{"$ref": "file:///etc/passwd"}', '{"schema": 1, "sha256": {"__proto__": 1}}',
        '<!DOCTYPE x [<!ENTITY y SYSTEM "file:///etc/passwd">]><x>&y;</x>', "<script>open('pwned')</script>",
        "{" * 100_000, "[" * 100_000, '{"a":' * 100_000, "9" * 100_000, "[1e999, -1e999]", "NaN", "null", "true",
        '"run"', "", " ", "{}", "[]", "[[]]", "\ufeff{}", "\0" * 1000, '{"schema": 1}', '{"schema": 1, "sha256": null}',
    ]  # fmt: skip
    binaries = [
        b"\x80\x04", b"\x93NUMPY", b"PK\x03\x04", b"\x1f\x8b\x08", b"PAR1", b"SQLite format 3\0", b"\x7fELF",
        b"\x89HDF\r\n\x1a\n", b"\xff\xfe{\0}\0", b"\xff" * 100, marshal.dumps(compile("1 / 0", "x", "exec")),
    ]  # fmt: skip
    contents = [*pickles, *(array.getvalue() for array in arrays), *map(str.encode, texts), *binaries]
    for number, content in enumerate(contents):
        (folder / f"trap-{number}.json").write_bytes(content)
    (folder / "runs.jsonl").write_bytes(b"\n".join(contents))
    for name in ("-rf", "$(mkdir pwned)", "`mkdir pwned`", ";mkdir pwned;", "a\nb", "\x1b[31m", "ａ", " ", "*", "~"):
        (folder / f"{name}.json").touch()
    for name in ("__init__", "sitecustomize", "usercustomize", "conftest", "json", "numpy", "pandas"):
        (folder / f"{name}.py").write_text("import os; os.mkdir('pwned')")
    for name, target in (
        ("link", "/etc/passwd"),
        ("device", "/dev/zero"),
        ("nothing", "nowhere"),
        ("loop", "loop.json"),
    ):
        (folder / f"{name}.json").symlink_to(target)
    (folder / "folder.json").mkdir()
    os.mkfifo(folder / "pipe.json")
    os.mkfifo(folder / f"{min(folder.glob('mlp*.json')).stem}.failed")
    for field in ("model", "dataset", "corruption"):
        store.save(result(replace(SMALL, **{field: "os.system"})), folder)


def test_strangers_results_are_opened_safely(sweep, places, options):
    """Status, show, table and verify of a folder of traps, watched by an audit hook."""
    min(sweep.glob("*.json")).unlink()  # so that a reason of its failure is looked for
    traps(sweep)
    assert len(list(sweep.iterdir())) > 60
    code = textwrap.dedent(
        """
        import sys
        from rethink_gen.cli import main as cli
        seen = []
        root = sys.argv.pop(1)
        def watch(event, arguments):
            if event in ("pickle.find_class", "os.system", "subprocess.Popen", "socket.connect", "os.exec"):
                seen.append((event, arguments))
            if event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+"):
                seen.append((event, arguments))
            if event == "import" and arguments[1] and str(arguments[1]).startswith(root):
                seen.append((event, arguments))
        sys.addaudithook(watch)
        codes = [cli.main([verb, "labels", *sys.argv[1:]]) for verb in ("status", "show", "table", "verify")]
        sys.exit(f"{seen} {codes}" if seen or codes != [0, 1, 1, 1] else 0)
        """
    )
    done = subprocess.run(
        [sys.executable, "-BP", "-c", code, str(sweep), *options],
        cwd=sweep,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "Traceback" not in done.stderr
    assert "\x1b" not in done.stderr + done.stdout
    assert not (sweep / "pwned").exists()


HOSTILE = [
    "_hidden", "__init__", "$x^{", r"$\frac{1}{$", r"\frac", "a_b<c>&\"d\"", "%s {} [0]", "{0.__class__}", "=1+1", "+1",
    "-1", "@a", "<script>alert(1)</script>", "</td></table>", "<img src=x onerror=alert(1)>", "<!--", "]]>",
    r"\input{/etc/passwd}", r"\end{tabular}", "a|b", "50 % & $x_1$ {#} ~^", "`code`", "**bold**", "[x](y)", "![x](y)",
    "&lt;b&gt;", "&amp;", "{{7*7}}", "{% raise %}", "${HOME}", "$(id)", "../../etc/passwd", r"C:\nul", "a\\",
    "'single'", '"double"', "nan", "None", "True", "1e5", "-0.25", "it's; DROP TABLE runs;--",
    "naïve Ünïcode", "Ελληνικά", "עברית",
]  # fmt: skip


def test_hostile_names_are_shown_as_they_are_in_every_format_and_figure():
    """In cells, checks and notes, and beside the lines of a figure: what is read is what was written."""
    assert len(set(HOSTILE)) >= 40
    frame = frames.frame(result(replace(SMALL, seed=seed)) for seed in range(len(HOSTILE)))
    frame["corruption"] = [HOSTILE[seed] for seed in frame["seed"]]
    table = tables.mean_and_interval(frame, ["corruption"], "test_accuracy")
    checks = [Check(name, True, name) for name in HOSTILE]
    shown = {
        form: rendering.render(table, form, checks=checks, note=f"note: {' '.join(HOSTILE)}")
        for form in rendering.FORMATS
    }
    assert [row["corruption"].removeprefix("'") for row in csv.DictReader(io.StringIO(shown["csv"]))] == [
        name.removeprefix("'") for name in HOSTILE
    ]
    assert [row["corruption"] for row in json.loads(shown["json"])["rows"]] == HOSTILE
    latex = {escaped: c for c, escaped in rendering._LATEX.items() if c != "–"}  # LaTeX itself makes one of --
    plain = {
        "html": html.unescape(re.sub("<[^>]*>", "¦", shown["html"])),
        "markdown": html.unescape(re.sub(r"\\(.)", r"\1", shown["markdown"])),
        "latex": re.sub("|".join(map(re.escape, sorted(latex, key=len)[::-1])), lambda m: latex[m[0]], shown["latex"]),
    }
    for text in plain.values():
        assert f"note: {' '.join(HOSTILE)}" in text
        for name in HOSTILE:
            assert f"{name} ({name})" in text
            assert re.search(rf"^¦*(\| )?{re.escape(label(name))} *[¦|&]", text, re.MULTILINE), name
    for first in range(0, len(HOSTILE), 15):
        some = HOSTILE[first : first + 15]
        figure = figures.curves(frame[frame["corruption"].isin(some)], "epoch", "test_accuracy", hue="corruption")
        assert {label(name) for name in some} <= {text.get_text() for axes in figure.axes for text in axes.texts}
        assert all(figures.draw(figure, kind) for kind in figures.KINDS)


@pytest.mark.parametrize("field", ["schema", "kind", "id", "run", "curves", "provenance"])
@pytest.mark.parametrize("value", ["../../etc/passwd", {"py/object": "os.system"}, "<script>", [], [[]], None, 7])
def test_result_of_another_shape_is_damaged_whatever_its_checksum(field, value, tmp_path):
    path = store.save(result(), tmp_path)
    content = json.loads(path.read_bytes())
    falsify(path, {**content, field: value})
    assert [error.path for error in store.sift(tmp_path)[1]] == [path]


@pytest.mark.parametrize("name", ["", "{run}", "{run}.lock"])
def test_link_where_work_in_progress_belongs_is_refused(name, tmp_path):
    target = tmp_path / "precious"
    target.mkdir()
    (target / ".checkpoint-of-mine").write_text("precious")
    place = tmp_path / "results" / ".work" / name.format(run=SMALL.id)
    place.parent.mkdir(parents=True)
    place.symlink_to(target)
    with pytest.raises(StorageError, match="is a symbolic link"), locks.claim(tmp_path / "results", SMALL.id):
        pass
    assert (target / ".checkpoint-of-mine").exists()


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize(
    "name", ["../../x", "/etc/passwd", "a/b", "a\\b", "..", ".hidden", "a\0b", "a\nb", "ａ", "x" * 65]
)
def test_names_are_not_paths(kind, name):
    texts = [field for field, hint in rg.runs.hints(kind).items() if hint is str]
    if name == "a/b":  # how tfds writes a configuration
        assert kind.draws_data or kind(dataset=name).dataset == "a.b"
        texts.remove("dataset")
    for field in texts:
        with pytest.raises(rg.errors.UsageError, match=field):
            kind(**{field: name})


def test_tests_begin_where_compiled_programs_cannot_be_kept(tmp_path, monkeypatch):
    """conftest.py made the folder whatever came of it: with a home that takes no files, no test was collected."""
    (tmp_path / "no folder").touch()
    monkeypatch.setenv("RETHINK_GEN_CACHE", str(tmp_path / "no folder"))
    assert tfds.compiled_folder() is None
    monkeypatch.setenv("RETHINK_GEN_CACHE", str(tmp_path))
    assert tfds.compiled_folder() == tmp_path / "datasets" / "compiled"
    monkeypatch.setattr(tfds.os, "access", lambda folder, how: False)
    assert tfds.compiled_folder() is None


def test_compiled_programs_are_kept_where_nobody_else_can_write(tmp_path, monkeypatch):
    monkeypatch.setenv("RETHINK_GEN_CACHE", str(tmp_path))
    before = jax.config.jax_compilation_cache_dir
    folder = datasets.cache_folder() / "compiled"
    try:
        for mode, taken in ((None, True), (0o777, False), (0o700, True)):
            jax.config.update("jax_compilation_cache_dir", "")
            if mode:
                folder.chmod(mode)
            compilation.use_compile_cache.__wrapped__()
            assert (jax.config.jax_compilation_cache_dir == str(folder)) == taken
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert folder.is_relative_to(tmp_path)
    finally:
        jax.config.update("jax_compilation_cache_dir", before)
