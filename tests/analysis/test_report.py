"""The report says what the results say, stays one page that asks for nothing, and answers pointer and keyboard."""

import base64
import hashlib
import importlib.util
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
from matplotlib.colors import to_rgb

from rethink_gen import experiment
from rethink_gen.analysis import page_pictures, report, standing
from rethink_gen.analysis.declare import by, lines
from rethink_gen.cli import main
from rethink_gen.experiment import Check, Experiment
from rethink_gen.study import studies
from rethink_gen.study.studies import Study

ROOT = Path(__file__).parents[2]
ZHANG = "Understanding deep learning requires rethinking generalization"
SHOWN = ("fig1a_learning_curves", "table4_random_labels_regularized")
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


def two_are_done(study):
    """Two are done."""
    return study.runs["run"].nunique() == 2, "counted"


def study(name="mine", results=None, **changes):
    """A study of two runs, drawn and tabled by the plainest functions."""
    results = [result(MLP, (0.1, 0.6, 1.0)), result(RANDOM, (0.1, 0.2, 0.99))] if results is None else results
    plain = Experiment(
        claim="Labels matter.",
        locator="Section 2, in a footnote",
        runs=(MLP, RANDOM, replace(RANDOM, seed=1)),
        laptop=(),
        table=by("corruption", metrics=["test_accuracy"]),
        figure=lines(x="epoch", y="train_accuracy", hue="corruption"),
        checks=[two_are_done],
        name=name,
        doc="Two runs.\n\nFound: both are `fitted`.",
    )
    return Study(replace(plain, **changes), tuple(results), Path("nowhere"))


@pytest.fixture(scope="module")
def plain():
    return report.render([study()])


@pytest.fixture(scope="module")
def committed():
    return report.render(studies.survey(SHOWN, results=ROOT / "results"))


def test_the_map_leads_to_every_experiment_and_its_claim(tmp_path):
    page = Reader(report.render(studies.survey(results=tmp_path)))
    tiles = [
        attributes["href"] for tag, attributes in page.tags if tag == "a" and "tile" in attributes.get("class", "")
    ]
    assert sorted(tiles) == [f"#{name}" for name in experiment.names()]
    assert set(tiles) <= {f"#{name}" for name in page.attributes("id")}
    claims = [experiment.find(name).claim for name in experiment.names()]
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


# In a browser.


@pytest.fixture(scope="module")
def pictures():
    """The script that draws what the documentation shows."""
    pytest.importorskip("playwright", reason="playwright is not installed: pip install playwright")
    spec = importlib.util.spec_from_file_location("pictures", ROOT / "docs" / "pictures.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if module.browser() is None:
        pytest.skip(f"no browser is installed; any of {', '.join(module.BROWSERS)} would do")
    return module


@pytest.fixture(scope="module")
def chromium(pictures):
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=pictures.browser(), args=pictures.QUIET)
        yield browser
        browser.close()


@pytest.fixture
def visit(chromium, tmp_path):
    """Opens a page of HTML, and says at the end that it asked for nothing and complained of nothing."""
    said, asked, pages = [], [], []

    def open_page(html, **options):
        file = tmp_path / "report.html"
        file.write_text(html)
        page = chromium.new_page(**options)
        pages.append(page)
        for event in ("console", "pageerror", "dialog"):
            page.on(event, lambda what: said.append(getattr(what, "text", what)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(file.as_uri())
        return page

    yield open_page
    for page in pages:
        page.close()
    assert said == []
    assert set(asked) == {(tmp_path / "report.html").as_uri()}


def test_a_curve_answers_the_pointer_with_run_epoch_and_value(visit, plain):
    page = visit(plain)
    plot = page.locator("#mine .plot").nth(1)
    plot.scroll_into_view_if_needed()
    lines = json.loads(plot.locator("script").text_content())
    x, y, epoch, value = next(line for line in lines if line["run"] == RANDOM.id)["points"][1]
    box, size = plot.locator("svg").bounding_box(), plot.locator("svg").get_attribute("viewBox").split()
    page.mouse.move(box["x"] + x * box["width"] / float(size[2]), box["y"] + y * box["height"] / float(size[3]))
    answer = plot.locator("output").inner_text()
    assert answer.split("\n") == ["random labels", f"epoch: {epoch:g}", f"training accuracy: {value:g}", RANDOM.id]
    page.mouse.move(0, 0)
    assert not plot.locator("output").is_visible()


def test_a_curve_answers_the_arrow_keys(visit, plain):
    page = visit(plain)
    plot = page.locator("#mine .plot").first
    plot.locator(".canvas").focus()
    for key, words in (("Right", "epoch: 0"), ("Right", "epoch: 1"), ("Down", "random labels"), ("Left", "epoch: 0")):
        page.keyboard.press(f"Arrow{key}")
        assert words in plot.locator("output").inner_text()
    page.keyboard.press("Escape")
    assert not plot.locator("output").is_visible()


def test_a_switch_takes_a_line_out_and_brings_it_back(visit, plain):
    page = visit(plain)
    plot = page.locator("#mine .plot").first
    box = plot.get_by_label("random labels")
    index = box.evaluate("input => [...input.closest('fieldset').querySelectorAll('input')].indexOf(input)")
    parts = plot.locator(f"[data-line='{index}']")
    assert parts.count() > 1
    box.focus()
    page.keyboard.press("Space")
    assert not any(part.is_visible() for part in parts.all())
    page.keyboard.press("Space")
    assert parts.first.is_visible()


def test_without_scripts_everything_is_shown_and_no_switch_that_would_do_nothing(visit, plain):
    page = visit(plain, java_script_enabled=False)
    assert page.locator("#mine svg").first.is_visible()
    assert not any(box.is_visible() for box in page.locator("input, button").all())
    assert page.get_by_text("true labels").first.is_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_fits_a_narrow_screen_in_the_colors_of_the_reader(visit, committed, scheme):
    page = visit(committed, viewport={"width": 400, "height": 800}, color_scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth") == 400
    color = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", color))) > 3 * 128) == (scheme == "light")
    line = page.locator("#fig1a_learning_curves svg [style*='--0072b2'][style*='stroke-linecap']").first
    true_labels = "#0072b2" if scheme == "light" else page_pictures.dark_page("#0072b2")
    stroke = re.findall(r"\d+", line.evaluate("line => getComputedStyle(line).stroke"))
    assert [int(part) for part in stroke] == [round(255 * part) for part in to_rgb(true_labels)]


PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}


def test_points_that_the_keys_walk_to_are_on_the_screen_of_a_phone(visit, committed):
    page = visit(committed, **PHONE)
    plot = page.locator("#fig1a_learning_curves .plot").first
    plot.locator(".canvas").focus()
    right = 0
    for _ in range(200):
        page.keyboard.press("ArrowRight")
    for key in ("ArrowRight", "ArrowDown", *["ArrowLeft"] * 3):
        page.keyboard.press(key)
        dot, note = plot.locator(".dot").bounding_box(), plot.locator("output").bounding_box()
        assert 0 <= dot["x"] < dot["x"] + dot["width"] <= 390
        canvas = plot.locator(".canvas").bounding_box()
        assert canvas["x"] <= note["x"] < note["x"] + note["width"] <= canvas["x"] + canvas["width"]
        right = max(right, plot.locator(".canvas").evaluate("canvas => canvas.scrollLeft"))
    assert right > 0, "the picture is wider than the screen"


@pytest.mark.parametrize("screen", [PHONE, {}])
def test_way_to_every_claim_stays_on_the_screen_and_says_where_the_reader_is(visit, committed, screen):
    page = visit(committed, **screen)
    names = [section.get_attribute("id") for section in page.locator("section:not(.protocol)").all()]
    assert [link.get_attribute("href") for link in page.locator(".stay a").all()] == [
        f"#{name}" for name in ("map", *names)
    ]
    page.evaluate(f"document.getElementById('{names[-1]}').scrollIntoView()")
    here = page.locator(f".stay a[href='#{names[-1]}'][aria-current]")
    here.wait_for()
    box = here.bounding_box()
    assert box["y"] < 60, "the bar stays at the top"
    assert 0 <= box["x"] <= page.viewport_size["width"] - box["width"], "and shows the current claim"
    assert page.locator(f"#{names[-1]} h2").bounding_box()["y"] > box["y"] + box["height"], "the bar hides no heading"
    page.locator(".stay a").first.focus()
    page.keyboard.press("Enter")
    page.locator(".stay a[href='#map'][aria-current]").wait_for()


def test_paper_shows_all_of_a_wide_table_on_a_page_that_is_turned_in_the_colors_of_a_light_one(visit):
    page = visit(report.render(studies.survey(["table2"], results=ROOT / "results")), color_scheme="dark")
    page.emulate_media(media="print")
    assert page.locator("table th[scope=col]").count() > 20
    page.set_viewport_size({"width": 941, "height": 700})  # 249 mm, a letter without its margins, turned for this table
    assert page.evaluate("document.documentElement.scrollWidth") == 941
    assert {b"0 0 612 792", b"0 0 792 612"} == set(re.findall(rb"/MediaBox \[([\d ]+)\]", page.pdf(format="letter")))
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.get_by_text("label smoothing").first.is_visible(), "what is folded on a screen is open on paper"
    assert not page.locator(".stay").is_visible()


def test_the_script_of_the_documentation_draws_its_pictures(pictures, chromium, committed, tmp_path):
    (tmp_path / "report.html").write_text(committed)
    pictures.screenshots(chromium, tmp_path / "report.html", tmp_path)
    for name in ("report-first-screen.png", "report-experiment.png"):
        for file in (tmp_path / name, ROOT / "docs" / name):
            assert 20_000 < file.stat().st_size < 250_000
