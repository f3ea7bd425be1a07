"""Writes the tables of components.md and reference.md from the code: python docs/components.py"""

import dataclasses
import re
from pathlib import Path

from rethink_gen import registry
from rethink_gen.runs import Run

PAGES = [Path(__file__).parent / name for name in ("components.md", "reference.md")]
MARKED = re.compile(r"(<!-- table of (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def table(kind: str) -> str:
    """Every built-in component of a kind, with its description and its options at their defaults; or "fields"."""
    if kind == "fields":
        return table_of_fields()
    lines = ["| name | what it is | options |", "|---|---|---|"]
    for name, component in registry.COMPONENTS[kind].items():
        if component.built_in:
            options = [f"`{text}`" for text in options_of(component)]
            lines.append(f"| `{name}` | {component.about} | {' '.join(options)} |")
    return "\n".join(lines) + "\n"


def table_of_fields() -> str:
    """Every field of a training run with its default and its help."""
    lines = ["| field | default | meaning |", "|---|---|---|"]
    for each in dataclasses.fields(Run):
        default = "none" if each.default in (None, ()) else spelled(each.default)
        lines.append(f"| `{each.name}` | `{default}` | {each.metadata['about']} |")
    return "\n".join(lines) + "\n"


def options_of(component: registry.Component) -> list[str]:
    """`option=default` for each option that a user can set; `option=…` where it must be given."""
    free = {name: value for name, value in component.options.items() if name not in component.fixed}
    return [f"{name}={'…' if isinstance(value, type) else spelled(value)}" for name, value in free.items()]


def spelled(value: object) -> str:
    """A default as it is written in a run."""
    if isinstance(value, tuple):
        return "+".join(map(spelled, value))
    return str(value).lower() if isinstance(value, bool) else f"{value:g}" if isinstance(value, float) else str(value)


def filled(page: str) -> str:
    """The page with its tables as the registry has them now."""
    return MARKED.sub(lambda found: f"{found[1]}{table(found[2])}{found[3]}", page)


if __name__ == "__main__":
    for page in PAGES:
        page.write_text(filled(page.read_text()))
