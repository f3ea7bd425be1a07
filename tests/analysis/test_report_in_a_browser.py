"""The report in a browser: it answers pointer and keyboard, fits a phone and paper, and asks for nothing."""

import importlib.util
import json
import re

import pytest
from frames import RANDOM
from matplotlib.colors import to_rgb
from reports import ROOT, committed_page, plain_page

from rethink_gen.analysis import page_pictures, report
from rethink_gen.study import studies


@pytest.fixture
def plain():
    return plain_page()


@pytest.fixture
def committed():
    return committed_page()


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
