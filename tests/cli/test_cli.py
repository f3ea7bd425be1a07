import contextlib
import json
import os
import resource
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from frames import own_experiment
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rethink_gen import experiment, registry
from rethink_gen.cli import main, overview, parser
from rethink_gen.results import locks

LINES = [
    tuple(part.strip() for part in line.split("->"))
    for line in Path(__file__).with_name("bad_command_lines.txt").read_text().splitlines()
    if not line.startswith("#")
]


def labels(epochs):
    """The file of an experiment of two runs."""
    return own_experiment(
        f"train_size=64, test_size=50, batch_size=32, epochs={epochs}",
        'corruption=("true_labels", "random_labels")',
        "corruption",
    )


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """A folder of one's own, with a folder of experiments in it."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "labels.py").write_text(labels(2))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def command(*arguments):
    return [sys.executable, "-m", "rethink_gen", *arguments]


def arguments_of(line, folder):
    (folder / "file").touch()
    return [part.format(file=folder / "file", missing=folder / "missing") for part in shlex.split(line)]


@pytest.mark.parametrize(("line", "answer"), LINES, ids=[line for line, _ in LINES])
def test_bad_command_line_gets_one_line_that_helps(line, answer, elsewhere, capsys):
    arguments = arguments_of(line, elsewhere)
    before = sorted(elsewhere.rglob("*"))
    code = main.main(arguments)
    out, err = capsys.readouterr()
    assert code == 2
    assert answer in err
    assert len(err) <= LONGEST
    assert err.startswith("rethink-gen: error: ")
    assert err.count("\n") == 1
    assert not out
    assert sorted(elsewhere.rglob("*")) == before, "a command that is refused leaves nothing behind"


def test_there_are_bad_command_lines_enough():
    assert len({line for line, _ in LINES}) >= 100


LONGEST = 200 + 1  # characters of an answer, and the end of its line

WORDS = [
    *parser.COMMANDS,
    *parser.OPTIONS,
    "quickstart",
    "fig",
    "smoke",
    "digits",
    "mlp_1x512",
    "0..2",
    "seed=0",
    "1/2",
    "-1",
    "1e9",
]


COMMAND_LINES = st.lists(
    st.sampled_from(WORDS) | st.text(max_size=300) | st.floats().map(str) | st.integers().map(str), max_size=7
)
IN_ONE_FOLDER = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@given(words=COMMAND_LINES)
@settings(IN_ONE_FOLDER, max_examples=60)
def test_no_command_line_ends_in_a_traceback(elsewhere, capsys, words):
    check_answer(words, capsys)


@pytest.mark.slow
@given(words=COMMAND_LINES)
@settings(IN_ONE_FOLDER, max_examples=400)
def test_none_of_400_command_lines_ends_in_a_traceback(elsewhere, capsys, words):
    check_answer(words, capsys)


def check_answer(words, capsys):
    """Nothing is trained: a run is only listed, and a data set only named."""
    kept = [word for word in words if word not in ("--output", "prepare", "--debug", "--watch", "doctor")]
    verb = next((word for word in kept if word in parser.COMMANDS), None)
    nothing = ["--model", "nothing"]
    extra = {"run": ["--dry-run"], "train": nothing, "scores": nothing, "randomization-test": nothing}.get(verb, [])
    code = main.main([*kept, *extra])
    err = capsys.readouterr().err
    assert code in (0, 2, 3), (kept, err)
    assert "Traceback" not in err
    assert code == 0 or err.splitlines()[-1].startswith("rethink-gen: error: ")
    assert code != 2 or (err.count("\n") == 1 and len(err) <= LONGEST), (kept, err)


def test_no_bad_command_line_loads_jax(elsewhere):
    lines = [arguments_of(line, elsewhere) for line, _ in LINES]
    load = "import sys; from rethink_gen.cli import main as cli; "
    code = load + f"[cli.main(x) for x in {lines!r}]; sys.exit('jax' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)


@pytest.mark.parametrize("line", ["ruun", "train --model mlp_1x51", "train --dataset cifar11", "run quickstrat"])
def test_bad_command_line_is_answered_in_two_seconds(line, elsewhere):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command(*shlex.split(line)), capture_output=True, text=True, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    # CPU seconds: the clock on the wall also counts what else this machine is doing
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 2


READING = (
    *("--help", "--version", "list", "list models", "list datasets", "list corruptions", "list augmentations"),
    *("show quickstart", "run quickstart --dry-run", "status", "data", "train --help"),
)


def test_commands_that_only_read_load_neither_jax_nor_pandas(elsewhere):
    """One after the other in one process, which names the first that does."""
    code = f"""
import sys
from rethink_gen.cli import main as cli

for line in {READING}:
    assert cli.main(line.split()) == 0, line
    assert not {{'jax', 'pandas', 'tensorflow_datasets'}} & sys.modules.keys(), line
    print("end", "of", line)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    shown = done.stdout
    for line in READING:
        printed, _, shown = shown.partition(f"end of {line}\n")
        assert printed, line


def test_experiment_of_ones_own_from_run_to_table(elsewhere, no_other_results, capsys):
    own = ["--experiments", "mine"]
    assert main.main(["run", "labels", "--scale", "smoke", "--seeds", "0..1", "--dry-run", "--json", *own]) == 0
    planned = json.loads(capsys.readouterr().out)
    assert [(run["corruption"], run["seed"]) for run in planned] == [
        (corruption, seed) for corruption in ("true_labels", "random_labels") for seed in (0, 1)
    ]

    assert main.main(["run", "lab", *own]) == 0
    out, err = capsys.readouterr()
    folder = Path("results/labels/laptop")
    assert "2 of 2 runs" in out
    assert str(folder / "table.md") in out
    assert "(2/2) mlp_1x512-random_labels" in err
    assert (folder / "table.md").read_text() in out

    assert main.main(["status", "labels", "--json", *own]) == 0
    status = {row["scale"]: (row["done"], row["missing"]) for row in json.loads(capsys.readouterr().out)}
    assert status == {"smoke": (0, 2), "laptop": (2, 0), "paper": (0, 2)}

    assert main.main(["show", "labels", *own]) == 0
    assert " on cpu" in capsys.readouterr().out, "the cost of the other scales is known from the runs of this one"

    code = (
        "import sys; from rethink_gen.cli import main as cli; "
        "assert cli.main(['table', 'labels', '--json', '--experiments', 'mine']) == 0; sys.exit('jax' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    rows = json.loads(done.stdout)["rows"]
    assert [row["n"] for row in rows] == [1, 1]

    assert main.main(["table", "labels", "--format", "csv", "--output", "table.csv", *own]) == 0
    assert Path("table.csv").read_text().startswith("corruption,metric,")
    assert main.main(["plot", "labels", *own]) == 2, "it draws no figure"


def test_a_broken_file_is_named_and_does_not_hide_the_others(elsewhere, capsys):
    (elsewhere / "mine" / "broken.py").write_text("EXPERIMENT = 1 / 0\n")
    for verb, shown in (("list", "labels"), ("status", "no results in results yet")):
        assert main.main([verb, "--experiments", "mine"]) == 2
        out, err = capsys.readouterr()
        assert shown in out
        assert err == "rethink-gen: error: mine/broken.py: line 1: ZeroDivisionError: division by zero\n"


def test_experiments_are_listed_by_paper(elsewhere, capsys):
    assert main.main(["list"]) == 0
    heading, empty, columns, *_ = capsys.readouterr().out.splitlines()
    assert heading.startswith("Zhang, Bengio, Hardt, Recht and Vinyals 2017: Understanding deep learning")
    assert (empty, columns.split()) == ("", ["name", "about"])
    assert main.main(["list", "--json", "--experiments", "mine"]) == 0
    assert json.loads(capsys.readouterr().out) == [{"paper": "", "name": "labels", "about": "Labels matter."}]


def test_train_keeps_its_result_and_does_not_repeat_it(elsewhere, capsys):
    sizes = ["--train-size", "64", "--test-size", "50", "--batch-size", "32", "--epochs", "1"]
    line = ["train", "--dataset", "digits", *sizes, "--json"]
    assert main.main(line) == 0
    first = json.loads(capsys.readouterr().out)
    path = Path("results/train") / f"{first['id']}.json"
    before = path.stat().st_mtime_ns
    assert main.main(line) == 0
    assert json.loads(capsys.readouterr().out) == first
    assert path.stat().st_mtime_ns == before


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 75), (signal.SIGINT, 130)])
def test_stopped_command_names_the_one_that_continues(number, code, elsewhere):
    (elsewhere / "mine" / "labels.py").write_text(labels(100_000))
    line = ["run", "labels", "--experiments", "mine"]
    with subprocess.Popen(command(*line), stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr
        while not list((elsewhere / "results").rglob("*.lock")):  # it trains
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(number)
        _, err = process.communicate(timeout=60)
    assert process.returncode == code
    assert err.splitlines()[-1] == "rethink-gen run labels --experiments mine"


def test_reader_who_has_read_enough_is_no_error(elsewhere):
    done = subprocess.run(
        f"{shlex.join(command('train', '--help'))} | head -n 1", shell=True, capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("usage: rethink-gen train")
    assert not done.stderr


def test_unforeseen_error_is_one_line_and_a_traceback_on_request(elsewhere, capsys):
    broken = labels(1).replace('metrics=["test_accuracy"]', "metrics=[1 / 0]")
    (elsewhere / "mine" / "labels.py").write_text(broken.replace("table=by(", "table=lambda study: by("))
    assert main.main(["run", "labels", "--experiments", "mine"]) != 0
    err = capsys.readouterr().err
    assert "Traceback" not in err
    assert err.splitlines()[-1].startswith("rethink-gen: error: ")
    assert main.main(["--debug", "table", "labels", "--experiments", "mine"]) != 0
    assert "Traceback" in capsys.readouterr().err


def test_code_that_calls_sys_exit_is_an_error_not_a_success(elsewhere, capsys, monkeypatch):
    """In a plug-in, a table, and a component; as an experiment file it is in test_experiment.py."""
    code = labels(1)
    monkeypatch.setitem(registry.COMPONENTS, "corruption", dict(registry.COMPONENTS["corruption"]))
    Path("quits.py").write_text("raise SystemExit(0)")
    assert main.main(["list", "models", "--plugin", "quits.py"]) == 2
    assert "quits.py: line 1: SystemExit: 0" in capsys.readouterr().err
    (elsewhere / "mine" / "labels.py").write_text(code.replace("table=by(", "table=lambda study: exit(0) or by("))
    assert main.main(["table", "labels", "--experiments", "mine"]) == 2, "there are no results"
    assert main.main(["run", "labels", "--experiments", "mine"]) == 2
    assert "error: labels: its table fails: SystemExit: 0 (" in capsys.readouterr().err
    Path("component.py").write_text(
        "import rethink_gen as rg\n@rg.register.corruption\ndef quits(key, dataset, level):\n    raise SystemExit\n"
    )
    line = ["train", "--dataset", "digits", "--corruption", "quits", "--epochs", "1", "--plugin", "component.py"]
    assert main.main(line) == 1
    assert "corruption 'quits' failed: SystemExit" in capsys.readouterr().err


def test_disk_without_room_is_a_matter_of_storage():
    assert main._explain(OSError(28, "No space left on device", "results/x.json")) == (
        4,
        "results/x.json: No space left on device",
    )


def test_output_to_a_closed_pipe_ends_as_other_tools_do(elsewhere):
    read, write = os.pipe()
    os.close(read)
    process = subprocess.run(command("list", "models"), stdout=write, stderr=subprocess.PIPE, text=True, check=False)
    os.close(write)
    assert process.returncode == main.BROKEN_PIPE
    assert not process.stderr


def test_status_is_shown_again_whenever_it_changes(tmp_path, monkeypatch, capsys):
    """Until it is stopped, which here is at the third look; the second finds a run that a process is at."""
    folder = tmp_path / "quickstart" / "smoke"
    folder.mkdir(parents=True)
    run = experiment.find("quickstart").at("smoke").runs[0]
    looks, claimed = [], contextlib.ExitStack()

    def next_look(seconds):
        looks.append(seconds)
        if len(looks) == 1:
            claimed.enter_context(locks.claim(folder, run.id))
        elif len(looks) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(overview.time, "sleep", next_look)
    with claimed:
        assert main.main(["status", "quickstart", "--watch", "--json", "--results", str(tmp_path)]) == 130
    shown = capsys.readouterr().out
    assert shown.startswith("[]\n[\n")
    [row] = json.loads(shown.removeprefix("[]\n"))
    assert (row["scale"], row["running"], row["done"]) == ("smoke", 1, 0)


@pytest.mark.parametrize(
    ("line", "word"),
    [
        ("rethink-gen ver", "verify"),
        ("rethink-gen run fig1b", "fig1b_convergence_slowdown"),
        ("rethink-gen table fig1b --scale pa", "paper"),
        ("rethink-gen run fig1b --only learning_rate_d", "learning_rate_decay="),
        ("rethink-gen train --corruption random_si", "random_signs"),
        ("rethink-gen train --weight-", "--weight-decay"),
        ("rethink-gen randomization-test --corruptions random_si", "random_signs"),
        ("rethink-gen train --schedule 'step(fac", "step(factor="),
        ("rethink-gen train --schedule 'step(at=3,fac", "step(at=3,factor="),
    ],
)
def test_tab_completes_verbs_experiments_and_fields(line, word, tmp_path):
    """As bash asks: the words come back in a file that it names."""
    asked = {"_ARGCOMPLETE": "1", "COMP_LINE": line, "COMP_POINT": str(len(line)), "_ARGCOMPLETE_IFS": "\n"}
    asked["_ARGCOMPLETE_STDOUT_FILENAME"] = str(tmp_path / "words")
    subprocess.run([sys.executable, "-m", "rethink_gen"], env={**os.environ, **asked}, check=True)
    assert (tmp_path / "words").read_text().split() == [word]


@pytest.mark.parametrize("verb", parser.COMMANDS)
def test_every_help_ends_in_an_example_that_is_a_command(verb, capsys):
    assert main.main([verb, "--help"]) == 0
    example = " ".join(capsys.readouterr().out.partition("for example: ")[2].split())
    assert example.startswith(f"rethink-gen {verb}")
    parser.parse(shlex.split(example)[1:])


def test_the_tables_of_a_paper_of_several_experiments_are_printed_together(capsys):
    results = str(Path(__file__).parents[2] / "results")
    assert main.main(["table", "belkin2019", "--results", results]) == 0
    shown = [line for line in capsys.readouterr().out.splitlines() if line.startswith("# ")]
    assert shown == [
        "# belkin2019_double_descent, paper scale",
        "# belkin2019_networks, laptop scale",
        "# belkin2019_trees, laptop scale",
    ]
    assert main.main(["table", "belkin2019", "--results", results, "--json"]) == 2
    assert "name one of belkin2019_double_descent, belkin2019_networks, belkin2019_trees" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--scale", "papr"], "no scale named 'papr'"),
        (["--results", "empty"], "no results of belkin2019 in empty; "),
        (["--metrics", "test_accuracy"], "--metrics is for one table"),
    ],
)
def test_a_mistake_beside_the_name_of_a_paper_is_told_and_not_the_name(options, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    results = str(Path(__file__).parents[2] / "results")
    assert main.main(["table", "belkin2019", "--results", results, *options]) == 2
    assert said in capsys.readouterr().err


def test_the_folder_of_experiments_is_no_paper(capsys):
    assert main.main(["table", "experiments"]) == 2
    assert "no experiment named 'experiments'" in capsys.readouterr().err


@pytest.mark.parametrize(("name", "meant"), [("tabel1", "table1_regularizers"), ("fgi1a", "fig1a_learning_curves")])
def test_the_mistyped_beginning_of_an_experiment_is_answered_with_its_name(name, meant, capsys):
    assert main.main(["table", name]) == 2
    assert f"did you mean '{meant}'" in capsys.readouterr().err
