"""Render a table as Markdown, LaTeX, HTML, CSV or JSON."""

from __future__ import annotations

import html
import json
import math
import re
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from rethink_gen import papers
from rethink_gen.errors import unknown
from rethink_gen.experiment import Check
from rethink_gen.results.verdicts import CLOSE, REPRODUCED, Summary, is_fraction

if TYPE_CHECKING:
    import pandas as pd

from rethink_gen.analysis.tables import KEYS, MORE_KEYS, Row


def render(table: pd.DataFrame, format: str = "markdown", *, checks: Iterable[Check] = (), note: str = "") -> str:  # noqa: A002
    """Renders a table as text, with checks and a note below it.

    Text in cells is escaped for the format. CSV has only the table. A table without the columns of `tables` is rendered
    as it is.

    Args:
      table: one row per (setting, metric), from `tables`; or any frame.
      format: a name in FORMATS.
      checks: the evaluated checks of the claim.
      note: a sentence below the table.

    Raises:
      UsageError: the format is unknown.
    """
    if format not in FORMATS:
        raise unknown("format", format, FORMATS)
    return FORMATS[format](table, list(checks), note)


ONE_RUN, OUTSIDE = "¹", "†"  # marks behind a verdict; see `_mark`


class Layout(NamedTuple):
    """The cells of a table as text."""

    headers: list[str]
    rows: list[list[str]]
    numbers: list[bool]  # for each column, whether it is right-aligned
    note: str = ""  # facts that the cells leave out


def lay_out(table: pd.DataFrame) -> Layout:
    """Lays out a table for readers: metrics side by side; keys that are equal in all rows are moved to the note."""
    if not len(table) or not {"metric", *Summary._fields} <= set(table.columns):
        return _plain(table)
    keys, settings = _by_setting(table)
    shown = [key for key in keys if _informative(table, key)]
    rows = [next(iter(by_metric.values())) for by_metric in settings]
    columns = [[_key_header(key), *(_cell(key, row[key]) for row in rows)] for key in shown]
    columns.append(["n", *map(_count, settings)])
    for metric in dict.fromkeys(metric for by_metric in settings for metric in by_metric):
        cells = [by_metric.get(metric) for by_metric in settings]
        columns.append([_header(metric) or "ours, %", *(_ours(row) if row else "" for row in cells)])
        if "paper" in table:
            columns.append(["paper", *(_theirs(row) if row else "" for row in cells)])
            columns.append(["verdict", *(row["verdict"] + _mark(row) if row else "" for row in cells)])
    left = [i < len(shown) or column[0] == "verdict" for i, column in enumerate(columns)]
    lines = [list(line) for line in zip(*(column[1:] for column in columns), strict=True)]
    return Layout([column[0] for column in columns], lines, [not text for text in left], _legend(table, keys))


def _plain(table: pd.DataFrame) -> Layout:
    rows = [[_cell(name, value) for name, value in row.items()] for row in table.to_dict("records")]
    return Layout([*map(_header, table.columns)], rows, [dtype.kind in "iuf" for dtype in table.dtypes])


def _by_setting(table: pd.DataFrame) -> tuple[list[str], list[dict[str, Row]]]:
    """Groups rows by setting: (keys, [metric → row]). If each setting has its own metric, the metric is a key."""
    keys = list(table.columns[: table.columns.get_loc("metric")])
    several = table["metric"].nunique() > 1 and all(map(is_fraction, table["metric"]))
    alone = several and not table.duplicated(keys).any()
    keys += ["metric"] * alone
    settings: dict[tuple[str, ...], dict[str, Row]] = {}
    for row in table.to_dict("records"):
        settings.setdefault(tuple(str(row[key]) for key in keys), {})["" if alone else row["metric"]] = row
    return keys, list(settings.values())


def _informative(table: pd.DataFrame, key: str) -> bool:
    """Whether a key distinguishes rows. A level that follows from the corruption (0 or 1) does not."""
    if key == "corruption_level" and "corruption" in table:
        implied = [0.0 if corruption == "true_labels" else 1.0 for corruption in table["corruption"]]
        return bool((table[key] != implied).any())
    return len(table) < 2 or table[key].nunique(dropna=False) > 1


def _legend(table: pd.DataFrame, keys: list[str]) -> str:
    """The note below a table: the keys that all rows share, the meaning of brackets, the rule of the verdicts."""
    shared = [key for key in keys if not _informative(table, key) and table[key].nunique(dropna=False) == 1]
    same = ", ".join(f"{_key_header(key)} {_cell(key, table[key].iloc[0])}" for key in shared)
    used = set(table["verdict"]) if "verdict" in table else set()
    marks = {_mark(row) for row in table.to_dict("records")} if used else set()
    near = f"reproduced is within {100 * REPRODUCED:g} percentage point of the paper, close within {100 * CLOSE:g}"
    sentences = {
        f"In all rows: {same}.": bool(shared),
        "In brackets: 95 % interval over n seeds (Student's t).": bool((table["n"] > 1).any()),
        f"Verdicts: {near}.": bool(used & {"reproduced", "close", "off"}),
        f"{ONE_RUN} Of one run: nothing is known of the spread over seeds.": ONE_RUN in marks,
        f"{OUTSIDE} The paper's number lies outside our interval.": OUTSIDE in marks,
        "Other scale than the paper's: no verdict.": "other scale" in used,
        "Smoke scale: no verdict.": "smoke scale" in used,
        "From memory: not checked against a source, so there is no verdict.": "confidence" in table
        and bool(table["confidence"].eq("memory").any()),
    }
    return " ".join(sentence for sentence, applies in sentences.items() if applies)


def _mark(row: Row) -> str:
    """What the verdict of a cell leaves out: that it rests on one run, or that our seeds are sure of another value."""
    if row["verdict"] not in ("reproduced", "close", "off"):
        return ""
    if row["n"] + row["censored"] + row["diverged"] == 1:
        return ONE_RUN
    if row["verdict"] != "reproduced" or row["n"] < 2 or isinstance(row["paper"], str):
        return ""
    low, high = (round(row[name], 4) for name in ("low", "high"))  # as papers print them: 99.998 % is 100.00
    return "" if low <= row["paper"] <= high else OUTSIDE


def _ours(row: Row) -> str:
    def show(value: Any) -> str:
        return _cell(row["metric"], value)

    without = "never fitted" if row["metric"].endswith("_to_fit") else "without a value"
    if not row["n"]:
        return "diverged" if row["diverged"] else without if row["censored"] else "not run"
    interval = f" [{show(row['low'])}, {show(row['high'])}]" if row["n"] > 1 else ""
    return show(row["mean"]) + interval + (f" ({row['censored']} {without})" if row["censored"] else "")


def _theirs(row: Row) -> str:
    return _cell(row["metric"], row["paper"]) + " (from memory)" * (row.get("confidence") == "memory")


def _count(by_metric: dict[str, Row]) -> str:
    """The number of runs that finished, and of those that diverged."""
    row = max(by_metric.values(), key=lambda row: row["n"])
    return f"{row['n'] + row['censored']}" + (f" ({row['diverged']} diverged)" if row["diverged"] else "")


def _header(name: str) -> str:
    return papers.label(name) + ", %" * is_fraction(name)


def _key_header(key: str) -> str:
    readable = {"corruption": "data", "corruption_level": "level", "augmentations": "augmentation"}
    return readable.get(key, papers.label(key))


def _cell(column: str, value: Any) -> str:
    """Formats a value of a column: fractions as per cent, names as in the paper."""
    if isinstance(value, str):
        return (papers.label(value) or "none") if column in (*MORE_KEYS, *KEYS, "metric") else value
    if value is None or value != value:
        return ""
    if isinstance(value, float) and is_fraction(column):
        return f"{100 * value:.2f}"
    if isinstance(value, float):
        return f"{value:,.0f}" if 1000 <= abs(value) < 1e15 else f"{value:.3g}"
    return str(value)


def _markdown(table: pd.DataFrame, checks: list[Check], note: str) -> str:
    layout = lay_out(table)
    cells = [[_inert(_MARKDOWN, text) for text in row] for row in (layout.headers, *layout.rows)]
    widths = [max(3, *(len(row[i]) for row in cells)) for i in range(len(layout.headers))]

    def align(text: str, i: int) -> str:
        return text.rjust(widths[i]) if layout.numbers[i] else text.ljust(widths[i])

    lines = ["| " + " | ".join(align(text, i) for i, text in enumerate(row)) + " |" for row in cells]
    rule = ("-" * (width - 1) + (":" if number else "-") for width, number in zip(widths, layout.numbers, strict=True))
    lines.insert(1, "| " + " | ".join(rule) + " |")
    lines *= bool(layout.rows)  # of a table without rows the note says all
    items = [f"- **{_word(c)}** · {_inert(_MARKDOWN, _said(c))}" for c in checks]
    notes = [_inert(_MARKDOWN, text) for text in (layout.note, note) if text]
    return "\n\n".join("\n".join(block) for block in (lines, items, *([text] for text in notes)) if block) + "\n"


def _latex(table: pd.DataFrame, checks: list[Check], note: str) -> str:
    layout = lay_out(table)

    def line(cells: list[str]) -> str:
        return " & ".join(_inert(_LATEX, text) for text in cells) + r" \\"

    body = [
        r"% \usepackage{booktabs}",
        r"\begin{tabular}{" + "".join("r" if number else "l" for number in layout.numbers) + "}",
        *(r"\toprule", line(layout.headers), r"\midrule", *map(line, layout.rows), r"\bottomrule"),
        r"\end{tabular}",
    ]
    if checks:
        items = (rf"\item \textbf{{{_word(c)}}}: {_inert(_LATEX, _said(c))}" for c in checks)
        body += [r"\begin{itemize}", *items, r"\end{itemize}"]
    body += [rf"\par {_inert(_LATEX, text)}" for text in (layout.note, note) if text]
    return "\n".join(body) + "\n"


def _html(table: pd.DataFrame, checks: list[Check], note: str) -> str:
    layout = lay_out(table)
    side = [' style="text-align:right"' if number else ' style="text-align:left"' for number in layout.numbers]

    def row(tag: str, cells: list[str]) -> str:
        return "".join(f"<{tag}{s}>{_inert(_HTML, c)}</{tag}>" for s, c in zip(side, cells, strict=True))

    lines = [f"<table>\n<thead><tr>{row('th', layout.headers)}</tr></thead>\n<tbody>"]
    lines += [*(f"<tr>{row('td', cells)}</tr>" for cells in layout.rows), "</tbody>\n</table>"]
    if checks:
        items = (f"<li><b>{_word(c)}</b> · {_inert(_HTML, _said(c))}</li>" for c in checks)
        lines += ["<ul>", *items, "</ul>"]
    lines += [f"<p>{_inert(_HTML, text)}</p>" for text in (layout.note, note) if text]
    return "\n".join(lines) + "\n"


def _csv(table: pd.DataFrame, checks: list[Check], note: str) -> str:
    # A spreadsheet would execute a text cell that begins like a formula. Numbers stay as they are.
    def guard(value: Any) -> Any:
        return "'" + value if isinstance(value, str) and re.match(r"[=+\-@\t\r\n]", value) else value

    return table.rename(columns=guard).map(guard).to_csv(index=False, lineterminator="\n")


def _json(table: pd.DataFrame, checks: list[Check], note: str) -> str:
    def strict(value: Any) -> Any:
        return None if isinstance(value, float) and not math.isfinite(value) else value

    rows = [{key: strict(value) for key, value in row.items()} for row in table.to_dict("records")]
    content = {"rows": rows, "checks": [check._asdict() for check in checks], "note": note}
    return json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False, default=str) + "\n"


def _word(check: Check) -> str:
    return {True: "holds", False: "does not hold", None: "not known"}[check.holds]


def _said(check: Check) -> str:
    return f"{check.statement} ({check.evidence})"


def _inert(escapes: Mapping[str, str], text: str) -> str:
    """Escapes text, so that no character of it has a meaning in the format."""
    printable = "".join(c if c.isprintable() else " " for c in text)
    escaped = "".join(escapes.get(c, c) for c in printable)
    return escaped.replace("](", "]\\(") if escapes is _MARKDOWN else escaped  # breaks Markdown links


_MARKDOWN = {c: "\\" + c for c in "\\|`*"} | {"<": "&lt;", "&": "&amp;"}


_HTML = {c: html.escape(c) for c in "&<>\"'"}


_LATEX = {c: "\\" + c for c in "{}$&#_%"} | {
    "[": "{[}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
}


_LATEX |= {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}


_LATEX |= {"ℓ": r"$\ell$", "γ": r"$\gamma$", "λ": r"$\lambda$", "²": r"$^2$"}


_LATEX |= {
    "×": r"$\times$",
    "·": r"$\cdot$",
    "–": "--",
    "≥": r"$\geq$",
    "≤": r"$\leq$",
    "±": r"$\pm$",
    "…": r"\ldots{}",
    ONE_RUN: r"$^1$",
    OUTSIDE: r"$^\dagger$",
}


_Format = Callable[["pd.DataFrame", list[Check], str], str]


FORMATS: dict[str, _Format] = {"markdown": _markdown, "latex": _latex, "html": _html, "csv": _csv, "json": _json}
