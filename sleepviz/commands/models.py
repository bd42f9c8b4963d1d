"""run, fetch and models: getting a model here, and what fits.

Knows where models come from and how to draw their progress; does not know sessions.
"""

from __future__ import annotations

import os
import subprocess
import sys
from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table

from sleepviz import models
from sleepviz.commands.drawing import MIB, bar, console

if TYPE_CHECKING:
    from sleepviz.llm import Llm


def run(arguments: Namespace) -> int:
    """Get the model, then hand the process over to the server."""
    name = arguments.model or models.default_name()
    obtained(name)
    app = Path(__file__).resolve().parents[2] / "app.py"
    url = f"http://{arguments.address}:{arguments.port}"
    console.print(f"\n  [bold]sleepviz[/bold] is at [link={url}]{url}[/link]   (Ctrl+C stops it)\n")
    command = [sys.executable, "-m", "streamlit", "run", str(app)]
    command += [f"--server.address={arguments.address}", f"--server.port={arguments.port}"]
    environment = {**os.environ, "SLEEPVIZ_MODEL": name}
    return subprocess.run(command, cwd=app.parent, env=environment, check=False).returncode


def fetch(arguments: Namespace) -> int:
    """Get the model's weights and say where they are from."""
    folder = obtained(arguments.model or models.default_name())
    console.print(f"{folder.name}: here ({models.provenance(folder)}).")
    return 0


def models_table(_arguments: Namespace) -> int:
    """The catalogue with sizes, and whether each model fits."""
    table = Table(title="Models (download, memory: ESTIMATE; KV per token: DERIVED, float32)")
    for column in ("name", "parameters", "download", "memory needed", "free", "KV / token", "here"):
        is_name = column == "name"
        table.add_column(column, justify="left" if is_name else "right", no_wrap=is_name)
    for name in models.CATALOGUE:
        flight = models.preflight(name)
        table.add_row(
            name,
            f"{flight.n_params / 1e6:,.0f} M",
            f"{models.card(name).download_bytes / MIB:,.0f} MiB",
            f"{flight.memory_needed / MIB:,.0f} MiB" + ("" if flight.fits else " (too much)"),
            f"{flight.memory_free / MIB:,.0f} MiB",
            f"{flight.kv_bytes_per_token / 1024:,.0f} KiB",
            "yes" if models.locate(name) else "no",
        )
    console.print(table)
    return 0


def obtained(name: str) -> Path:
    flight = models.preflight(name)
    console.print(
        f"[bold]{flight.name}[/bold]: {flight.n_params / 1e6:,.0f} M parameters, "
        f"{flight.download_bytes / MIB:,.0f} MiB to download, "
        f"{flight.memory_needed / MIB:,.0f} of {flight.memory_free / MIB:,.0f} MiB free "
        f"{flight.memory_of} memory, {flight.kv_bytes_per_token / 1024:,.4g} KiB of KV per token"
    )
    if flight.caveat:
        console.print(f"[yellow]{flight.caveat}[/yellow]")
    flight.require_fits()
    with bar() as (progress, task):

        def report(step: models.Progress) -> None:
            known = step.total is not None
            progress.update(
                task,
                description=step.stage,
                completed=step.done / MIB,
                total=step.total / MIB if step.total is not None else None,
                detail=f"{step.done / MIB:,.0f} MiB" if known or step.done else "",
            )

        return models.obtain(name, report)


def loaded(name: str | None) -> Llm:
    name = name or models.default_name()
    folder = obtained(name)
    from transformers.utils import logging

    logging.disable_progress_bar()
    from sleepviz.llm import Llm

    return Llm.load(folder, name=models.card(name).name, provenance=models.provenance(folder))
