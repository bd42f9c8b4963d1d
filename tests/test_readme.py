"""The README and the house say the same: commands, methods, pages and files, in both directions."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from sleepviz import sleep
from sleepviz.__main__ import _parser
from sleepviz.views import views

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def table_keys(heading: str) -> set[str]:
    """The first cells of the first table under a heading, without marks."""
    section = README.split(f"## {heading}\n", 1)[1].split("\n## ", 1)[0]
    rows = re.findall(r"^\| (.+?) \|", section, re.MULTILINE)[1:]
    return {r.strip("*`") for r in rows}


def commands() -> dict[str, set[str]]:
    """Every subcommand of the command line with its options."""
    choices = next(a.choices for a in _parser()._actions if a.choices)
    return {
        name: {o for action in parser._actions for o in action.option_strings}
        for name, parser in choices.items()
    }


def test_every_command_in_the_readme_exists_and_every_command_is_in_the_readme() -> None:
    shown = re.findall(r"python -m sleepviz (\w+)([^\n#`]*)", README)
    assert {name for name, _ in shown} == set(commands())
    for name, rest in shown:
        for option in re.findall(r"--[a-z-]+", rest):
            assert option in commands()[name], f"{name} {option}"


def test_the_methods_in_the_readme_are_those_that_are_found() -> None:
    assert table_keys("What a sleep is") == set(sleep.methods())


def test_each_method_is_named_with_its_paper() -> None:
    for name, method in sleep.methods().items():
        row = next(line for line in README.splitlines() if line.startswith(f"| `{name}` |"))
        addresses = re.findall(r"https://arxiv\.org/abs/\d{4}\.\d{5}", method.paper)
        assert addresses
        assert all(a in row for a in addresses)


def test_the_pages_in_the_readme_are_those_that_are_found() -> None:
    assert table_keys("What you see") == {v.title for v in views().values()}


def test_the_tree_in_the_readme_is_the_tree() -> None:
    tree = README.split("## The house\n", 1)[1].split("```")[1]
    shown = {line.split()[0] for line in tree.splitlines() if line.startswith("  ")}
    there = {
        f.name + ("/" if f.is_dir() else "")
        for f in (ROOT / "sleepviz").iterdir()
        if f.suffix == ".py" or (f.is_dir() and not f.name.startswith("__"))
    }
    assert shown == there
    for line in tree.splitlines():
        if line and not line.startswith(" "):
            assert (ROOT / line.split()[0]).exists() or line.strip() == "sleepviz/"


@pytest.mark.parametrize("target", sorted(set(re.findall(r"`make ([a-z-]+)`", README))))
def test_every_make_target_exists(target: str) -> None:
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)


def test_files_that_the_readme_links_to_exist() -> None:
    for link in re.findall(r"\]\((?!http)([^)]+)\)", README):
        assert (ROOT / link).exists(), link
