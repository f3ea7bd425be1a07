"""Draws the pictures of this folder: python docs/pictures.py

The first page of `rethink-gen report` on the committed results and one of its sections, through Chromium; images of
CIFAR-10 under every corruption; the figures of double descent; the answers of a network with half of its labels drawn
at random; digits with suspicious labels; and digits that are memorized, of committed results. Needs CIFAR-10, MNIST,
the extra `dev`, and a Chromium that the shell finds.
"""

import shutil
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

import rethink_gen as rg
from rethink_gen.analysis import figures
from rethink_gen.cli.main import main as command
from rethink_gen.study import ranking

DOCS = Path(__file__).parent
DESCENT = {  # experiment → scale of its figure
    "advani2020_more_data_hurts": "paper",
    "belkin2020_weak_features": "paper",
    "belkin2019_double_descent": "laptop",
    "belkin2019_networks": "laptop",
    "gu2024_mlp_label_noise": "paper",
    "nakkiran2019_deep_double_descent": "laptop",
    "belkin2019_trees": "laptop",
    "curth2023_u_turn": "laptop",
    "belkin2018_kernel_noise": "laptop",
    "power2022_grokking": "laptop",
}
HALF_RANDOM = (
    *("--dataset", "digits", "--model", "mlp_3x512", "--corruption", "random_labels", "--corruption-level", "0.5"),
    *("--learning-rate", "0.03", "--epochs", "40"),
)
WRONG_LABELS = ("--dataset", "digits", "--corruption", "uniform_wrong", "--corruption-level", "0.1")
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
QUIET = (
    *("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"),
    *("--disable-sync", "--no-first-run"),
)


def browser() -> str | None:
    """The Chromium of this machine."""
    return next(filter(None, map(shutil.which, BROWSERS)), None)


def screenshots(chromium: Browser, report: Path, folder: Path) -> None:
    """Leaves two pictures of a report in a folder: of its first screen, and of Figure 1a as its curves answer."""
    page = chromium.new_page(viewport={"width": 1280, "height": 800})
    page.goto(report.resolve().as_uri())
    page.screenshot(path=folder / "report-first-screen.png")
    page.set_viewport_size({"width": 1000, "height": 1160})
    page.goto(report.resolve().as_uri() + "#fig1a_learning_curves")
    box = page.locator("#fig1a_learning_curves svg").first.bounding_box()
    assert box
    page.mouse.move(box["x"] + 0.34 * box["width"], box["y"] + 0.25 * box["height"])  # near random labels
    page.screenshot(path=folder / "report-experiment.png")
    page.close()


def memorization(folder: Path) -> None:
    """Leaves two pictures in a folder: the most memorized digits, and pairs of large influence."""
    study = rg.load("feldman2020_long_tail", scale="laptop", only={"order": "subset", "corruption": "true_labels"})
    memorized = ranking.MemorizationRanking(study, by="memorization")
    figures.save(memorized.figure(32), folder / "memorized.png")
    figures.save(memorized.figure_of_pairs(20), folder / "influence.png")


def main() -> int:
    """Draws them all; the exit code of the command that failed, if one did."""
    images = ["plot", "corruptions", "--dataset", "cifar10", "--output", str(DOCS / "corruptions.png")]
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as driver:
        report = Path(folder) / "report.html"
        commands = (
            images,  # before experiments add corruptions of their own
            ["report", "--output", str(report)],
            *(["plot", name, "--scale", DESCENT[name], "--output", str(DOCS / f"{name}.png")] for name in DESCENT),
            ["train", *HALF_RANDOM, "--keep-weights", "--results", folder],
            ["plot", "confusion", "--results", folder, "--output", str(DOCS / "confusion.png")],
            ["scores", *WRONG_LABELS, "--results", folder],
        )
        if wrong := next(filter(None, map(command, commands)), 0):
            return wrong
        shutil.copy(Path(folder) / "suspicious-digits.png", DOCS / "wrong_labels.png")
        memorization(DOCS)
        chromium = driver.chromium.launch(executable_path=browser(), args=QUIET)
        screenshots(chromium, report, DOCS)
        chromium.close()
        return 0


if __name__ == "__main__":
    sys.exit(main())
