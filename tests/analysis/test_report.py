"""The report says what the results say, and stays one page that asks for nothing."""

import base64
import hashlib
import json
import re
import shutil
import socket
import time
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest
from frames import MLP, RANDOM, result
from reports import ROOT, SHOWN, committed_page, plain_page, study

from rethink_gen import experiment
from rethink_gen.analysis import report, standing
from rethink_gen.analysis.declare import by, lines
from rethink_gen.cli import main
from rethink_gen.experiment import Check
from rethink_gen.study import studies

ZHANG = "Understanding deep learning requires rethinking generalization"
HOSTILE = """<script>alert("1")</script><img src=x onerror=alert(2)></title>{{ 777 * 777 }}' onload='alert(3)"""


class Reader(HTMLParser):
    """What a browser sees: the tags with their attributes, the text, and the text of scripts apart."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.texts, self.scripts, self.inside = [], [], [], ""
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.inside = tag
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        self.inside = ""

    def handle_data(self, data):
        (self.scripts if self.inside == "script" else self.texts).append(data)

    def attributes(self, name):
        return [attributes[name] for _, attributes in self.tags if name in attributes]


@pytest.fixture
def plain():
    return plain_page()


@pytest.fixture
def committed():
    return committed_page()


def test_the_map_leads_to_every_experiment_and_its_claim(tmp_path):
    page = Reader(report.render(studies.survey(results=tmp_path)))
    tiles = [
        attributes["href"] for tag, attributes in page.tags if tag == "a" and "tile" in attributes.get("class", "")
    ]
    assert sorted(tiles) == [f"#{name}" for name in experiment.names()]
    assert set(tiles) <= {f"#{name}" for name in page.attributes("id")}
    claims = [found.claim for found in experiment.find_each()]
    assert [claim for claim in claims if page.texts.count(claim) != 2] == [], "on its tile, and above its section"
    assert page.texts.count("not run") == 2 * len(claims), "without results nothing has a verdict"


@pytest.mark.parametrize(
    ("counts", "word"),
    [
        ((0, 0, 0, 0, 9), "not run"),
        ((0, 0, 0, 1, 8), "no verdict"),
        ((1, 0, 0, 2, 9), "reproduced"),
        ((3, 0, 1, 0, 0), "close"),
        ((1, 1, 1, 0, 3), "close"),
        ((0, 1, 0, 0, 0), "close"),
        ((1, 0, 1, 0, 0), "off"),
    ],
)
def test_a_claim_is_reproduced_if_all_that_is_known_is_and_off_if_half_of_it_is(counts, word):
    assert standing.verdict(dict(zip(standing.VERDICTS, counts, strict=True))) == word


def test_cells_and_checks_are_counted_alike():
    table = pd.DataFrame({"verdict": ["reproduced", "close", "not run", "other scale", "smoke scale", "no verdict"]})
    checks = [Check("a", True, ""), Check("b", False, ""), Check("c", None, "")]
    assert standing.count(table, checks) == {
        "reproduced": 2,
        "close": 1,
        "off": 1,
        "no verdict": 3,
        "not run": 2,
    }


def test_runs_at_smoke_scale_have_no_verdict():
    quick = {"results": [result(MLP), result(RANDOM)], "figure": None}
    assert report._section(study(**quick)).standing.verdict == "reproduced"
    shown = report._section(study(**quick, scale="smoke")).standing
    assert (shown.verdict, shown.told) == ("no verdict", "smoke scale: no verdict")
    words = Reader(report.render([study(**quick, scale="smoke")])).texts
    assert not {"holds", "does not hold"} & set(words)
    same = study(**quick, scale="smoke", laptop=(MLP, RANDOM, replace(RANDOM, seed=1)))
    assert report._section(same).standing.verdict == "reproduced", "an experiment that is no larger at other scales"


def test_no_section_with_curves_says_not_run():
    missing = study(checks=[], table=by("corruption", metrics=["test_accuracy"]))
    assert report._section(missing).standing.verdict == "no verdict"


def test_a_study_that_is_not_complete_counts_its_runs():
    assert report._section(study()).standing.told == "2 of 3 runs, 1 sentence known, one seed"
    assert (
        report._section(study(scale="laptop")).standing.told == "2 of 3 runs, 1 sentence known, laptop scale, one seed"
    )
    assert report._section(study(results=[])).standing.told == "no results yet"


def test_a_larger_scale_that_is_not_complete_stands_beside_a_complete_one():
    complete = study(scale="laptop", runs=(MLP, RANDOM))
    page = Reader(report.render([complete, study(scale="paper")]))
    assert "At paper scale, 2 of 3 runs" in page.texts
    assert page.attributes("id").count("mine") == 1


def test_survey_prefers_the_largest_complete_scale(tmp_path):
    name = "fig1c_generalization_error"
    found = {(each.experiment.name, each.experiment.scale) for each in studies.survey([name], results=ROOT / "results")}
    assert found == {(name, "laptop"), (name, "paper")}
    [main, *_] = studies.survey([name], results=ROOT / "results")
    assert (main.experiment.scale, main.missing) == ("laptop", ())


def test_experiments_are_grouped_by_paper_and_own_ones_are_called_by_their_name():
    ours = study(locator="Table 1, as we see it")
    theirs = study("theirs", paper="zhang2017")
    page = Reader(report.render([ours, theirs]))
    assert "Memorization and generalization" in page.texts
    assert "Papers with one or two claims" in page.texts
    assert {"Zhang 2017", "mine"} <= set(page.texts), "who is meant, on the tiles of the shared map"
    told = {" ".join(text.split()) for text in page.texts}
    assert {"Papers with one or two claims, 2 of them:", "2 reproduced"} <= told, "counted in one line"
    large = [study(f"theirs_{number}", paper="zhang2017") for number in range(3)]
    page = Reader(report.render([ours, *large]))
    assert [text for text in page.texts if text in (ZHANG, "Papers with one or two claims")] == [
        ZHANG,
        "Papers with one or two claims",
    ]
    assert report._section(ours).place == "mine"
    assert report._section(theirs).place == "Section 2"
    assert ZHANG in Reader(report.render([theirs])).texts


def test_a_section_says_how_it_was_run_what_was_found_and_what_fills_the_gap():
    shown = report._section(study())
    assert shown.about["runs"] == "2 of 3 done"
    assert shown.about["time"] == "6 s in all, 3 s a run"
    assert shown.about["device"] == "a device"
    assert (shown.notes, shown.found) == ([], ["Found: both are `fitted`."])
    assert shown.commands == ["rethink-gen run mine --scale paper"]
    assert (shown.settings["train size"], shown.settings["stop at train accuracy"]) == ("all", "none")


def hostile_check(study):
    return False, HOSTILE


hostile_check.__doc__ = HOSTILE


def hostile_corruption(frame):
    return frame.replace({"corruption": {"random_labels": HOSTILE[:30]}})


def test_text_of_others_stays_text(plain):
    hostile = study(
        HOSTILE,
        [replace(made, provenance=made.provenance | {"device": HOSTILE}) for made in study().results],
        claim=HOSTILE,
        locator=HOSTILE,
        doc=f"{HOSTILE}\n\n    {HOSTILE}\n\n* {HOSTILE} `{HOSTILE}`",
        table=lambda study: pd.DataFrame({HOSTILE: [HOSTILE], "verdict": [HOSTILE]}),
        checks=[hostile_check],
        figure=lines(x="epoch", y="train_accuracy", hue="corruption", derive=hostile_corruption),
        runs=(MLP, RANDOM),
    )
    page = Reader(report.render([hostile]))
    assert [tag for tag, _ in page.tags if tag in ("script", "img")] == ["script"] * 3, "two figures, one script"
    assert [name for _, attributes in page.tags for name in attributes if name.startswith("on")] == []
    assert "603729" not in "".join(page.texts)
    assert sum(HOSTILE in text for text in page.texts) >= 10
    assert page.scripts[-1] == Reader(plain).scripts[-1]
    assert [json.loads(text) for text in page.scripts[:-1]], "what stands in a script is JSON, whole"


def test_the_page_forbids_itself_all_but_its_one_script(committed):
    page = Reader(committed)
    policy = next(content for content in page.attributes("content") if "default-src" in content)
    digest = base64.b64encode(hashlib.sha256(page.scripts[-1].encode()).digest()).decode()
    assert f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'" in policy
    assert page.attributes("src") == []
    assert [link for link in page.attributes("href") if not link.startswith("#")] == []


def test_no_id_is_given_twice_and_each_that_is_meant_is_there(committed):
    ids = Reader(committed).attributes("id")
    assert len(ids) == len(set(ids))
    meant = re.findall(r'(?:href="#|url\(#|aria-labelledby=")([^")]+)', committed)
    assert set(meant) <= set(ids)


def test_the_same_results_give_the_same_bytes_wherever_they_are(committed, tmp_path):
    for name in SHOWN:
        shutil.copytree(ROOT / "results" / name, tmp_path / name)
    assert report.render(studies.survey(reversed(SHOWN), results=tmp_path)) == committed
    assert [word for word in (str(ROOT), str(tmp_path), socket.gethostname()) if word in committed] == []


def test_prose_of_a_docstring():
    assert report._prose("a `b`\n c <d>") == "<p>a <code>b</code> c &lt;d&gt;</p>"
    assert report._prose("* one\n  more\n* two") == "<ul><li>one more</li><li>two</li></ul>"
    assert report._prose("    rethink-gen list") == "<pre>rethink-gen list</pre>"


def test_the_command_writes_a_page_into_a_folder(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main.main(["report", "thm1", "table4", "--output", "a/b"]) == 0
    assert capsys.readouterr().out == "a/b/report.html\n"
    assert Path("a/b/report.html").read_text() == report.render(studies.survey(["table4", "thm1"]))  # without results
    assert main.main(["report", "table9"]) == 2
    assert "no experiment named 'table9'" in capsys.readouterr().err


@pytest.mark.slow
def test_the_report_of_all_committed_results_is_small_and_built_in_seconds():
    begin = time.process_time()
    page = report.render(studies.survey(results=ROOT / "results"))
    assert time.process_time() - begin < 20  # on an idle core; a quarter of it is matplotlib's layout
    assert len(page.encode()) < 3_000_000
