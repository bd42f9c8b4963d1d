"""Imports point down: only from lower floors, and heavy libraries only where they belong."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FLOORS = {
    "__init__": 0,
    "formulas": 0,
    "quantities": 0,
    "odds": 0,
    "events": 0,
    "state": 1,
    "fates": 1,
    "growing": 1,
    "fold": 1,
    "timeline": 1,
    "chronicle": 1,
    "stories": 1,
    "telling": 1,
    "english": 1,
    "clauses": 1,
    "asking": 1,
    "figures": 1,
    "measured": 1,
    "last_check": 1,
    "fetching": 1,
    "checkpoint": 1,
    "families": 1,
    "catalogue": 1,
    "hub": 1,
    "wheel": 1,
    "models": 2,
    "prompts": 2,
    "packing": 2,
    "observing": 2,
    "attention": 2,
    "weights": 2,
    "words": 2,
    "memory": 2,
    "counting": 2,
    "cost": 2,
    "forward_selection": 2,
    "peaks": 2,
    "llm": 2,
    "half": 2,
    "fused": 2,
    "products": 2,
    "context": 2,
    "batch": 2,
    "trunk": 2,
    "looking": 2,
    "together": 2,
    "rooms": 2,
    "rows": 2,
    "glancing": 2,
    "clocking": 2,
    "mapping": 2,
    "anchors": 3,
    "dreams": 3,
    "lessons": 3,
    "vocabulary": 3,
    "practising": 3,
    "practice_cost": 3,
    "familiar": 3,
    "probes": 3,
    "gate": 3,
    "heads": 3,
    "selection": 3,
    "sleep": 3,
    "mixture": 3,
    "scope": 3,
    "retold": 3,
    "comparing": 3,
    "dialling": 3,
    "attempt": 3,
    "keeping": 3,
    "nights": 4,
    "core": 4,
    "conversing": 4,
    "sleeping": 4,
    "session": 4,
    "jobs": 5,
    "worker": 5,
    "studio": 5,
    "runs": 5,
    "bench": 5,
    "results": 5,
    "many_nights": 5,
    "peer": 5,
    "frontier": 5,
    "awake": 5,
    "at_once": 5,
    "stacked": 2,
    "checking": 5,
    "each_night": 5,
    "inspecting": 5,
    "visitor": 6,
    "waiting": 6,
    "frame": 6,
    "commands": 6,
    "__main__": 6,
    "serving": 6,
    "controls": 6,
    "components": 6,
    "views": 6,
}
LOWEST = {"streamlit": 6, "starlette": 6, "torch": 2, "transformers": 2, "rich": 6, "plotly": 1}


def _floor(path: Path) -> int:
    part = path.relative_to(ROOT / "sleepviz").parts[0].removesuffix(".py")
    assert part in FLOORS, f"give sleepviz/{part} a floor"
    return FLOORS[part]


def _imports(path: Path) -> set[str]:
    """Every module named in an import, also inside functions."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


FILES = sorted((ROOT / "sleepviz").rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_down(path: Path) -> None:
    floor = _floor(path)
    for name in _imports(path):
        top, _, rest = name.partition(".")
        if top == "sleepviz" and rest:
            other = FLOORS.get(rest.split(".")[0])
            assert other is None or other <= floor, (
                f"{path.name} ({floor}) imports {name} ({other})"
            )
        elif top in LOWEST and path.name not in ("wheel.py", "checkpoint.py"):
            assert floor >= LOWEST[top], f"{path.name} ({floor}) imports {name}"


def test_app_file_has_no_logic() -> None:
    assert len((ROOT / "app.py").read_text(encoding="utf-8").splitlines()) < 60


def test_no_file_is_called_by_a_name_that_says_nothing() -> None:
    empty = {"utils", "helpers", "common", "config", "misc", "manager"}
    assert not [p for p in FILES if p.stem in empty]
