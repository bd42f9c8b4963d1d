"""check: is what is shown true on this machine, with this model and these versions?

Knows how results are shown; checks nothing itself.
"""

from __future__ import annotations

from argparse import Namespace

from rich.table import Table

from sleepviz import events as ev
from sleepviz.commands import models
from sleepviz.commands.drawing import console, drawn


def check(arguments: Namespace) -> int:
    """Run the self-check and print a table; the exit status is 1 where something does not hold."""
    from sleepviz import checking
    from sleepviz.session import Session

    llm = models.loaded(arguments.model)
    session = Session(llm)
    drawn("check", checking.checking(session))
    found = session.timeline.at().checks
    versions = ", ".join(f"{name} {number}" for name, number in checking.versions().items())
    table = Table(title=f"{llm.name}, {llm.device}, {llm.dtype_name} (MEASURED)")
    for column in ("", "what must hold", "off by", "may be off by", "compared"):
        table.add_column(column)
    for one in found:
        table.add_row(*_row(one))
    console.print(table)
    console.print(versions, style="dim")
    left = [one.name for one in found if one.off is None]
    console.print(f"{sum(one.ok for one in found)} of {len(found)} hold")
    if left:
        console.print(f"Could not be asked of this model: {', '.join(left)}.")
    return 1 if any(one.failed for one in found) or not any(one.ok for one in found) else 0


def _row(one: ev.Checked) -> tuple[str, ...]:
    if one.off is None:
        return ("–", one.name, "", "", one.note)
    sign = "[green]✓[/green]" if one.ok else "[red]✗[/red]"
    return (sign, one.name, f"{one.off:.3g} {one.unit}", f"{one.limit:.3g}", one.note)
