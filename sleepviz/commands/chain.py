"""chain: read a story, sleep on it, and ask in the four arms.

Knows a session's verbs and how their outcome is drawn; measures nothing itself.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from sleepviz import events as ev
from sleepviz.commands import models
from sleepviz.commands.arguments import knob_values, story
from sleepviz.commands.drawing import MIB, console, drawn
from sleepviz.odds import say


def chain(arguments: Namespace) -> int:
    """Read, ask, sleep, ask again; the four arms as a table."""
    from sleepviz import sleep
    from sleepviz.session import Session
    from sleepviz.stories import Probe

    told = story(arguments.story)
    values = knob_values(arguments.set, [arguments.method])
    method = sleep.make(arguments.method, values[arguments.method])
    probes = (*told.probes, *(Probe(q) for q in arguments.ask))
    llm = models.loaded(arguments.model)
    session = Session(llm, seed=arguments.seed)
    drawn("reading", session.read(told.text))
    state = session.timeline.at()
    console.print(
        f"read [bold]{told.title}[/bold]: {state.n_cached} tokens, KV cache "
        f"{state.kv_bytes / MIB:.2f} MiB measured, "
        f"{state.kv[-1].predicted_bytes / MIB:.2f} by formula"
    )
    held_out = tuple(p.question for p in probes)
    drawn("sleeping", session.sleep(method, held_out=held_out))
    night = session.timeline.at().nights[-1]
    if night.refusal is not None:
        console.print(f"[bold]refused[/bold]: {night.refusal.reason} Nothing has changed.")
    if night.report is not None:
        _print_report(night.report)
    if probes:
        drawn("asking", session.compare(probes))
        console.print(_arms_table(session.timeline.at().answers))
    return 0


def _print_report(report: ev.SleepReport) -> None:
    console.print(
        f"slept ({report.method}, {report.seconds:.1f} s): "
        f"cache {report.kv_bytes / MIB:.2f} -> 0 MiB, "
        f"dynamic weights {report.dynamic_bytes / MIB:.2f} MiB = "
        f"{report.kv_token_equivalents:.0f} KV tokens, at most "
        f"{report.peak_tensor_bytes / MIB:.0f} MiB of tensors at once. {report.details}"
    )
    for reading in report.gate:
        console.print(f"  gate: {reading.name} {reading.told}")


def _arms_table(answers: Sequence[tuple[int, ev.Answered]]) -> Table:
    table = Table(title="Four arms, greedy", show_lines=True)
    table.add_column("question", width=26)
    arms = list(dict.fromkeys(a.arm for _, a in answers))
    for arm in arms:
        some = [a for _, a in answers if a.arm == arm]
        right = sum(bool(a.counted) for a in some)
        asked = sum(a.counted is not None for a in some)
        table.add_column(f"{arm}  {right}/{asked}")
    for question in dict.fromkeys(a.question for _, a in answers):
        cells = {a.arm: a for _, a in answers if a.question == question}
        table.add_row(question, *(_arm_cell(cells.get(arm)) for arm in arms))
    return table


def _arm_cell(answer: ev.Answered | None) -> Text:
    if answer is None:
        return Text("-")
    mark = {True: "✓ ", False: "✗ ", None: ""}[answer.counted]
    mark = "! " if answer.leaked else mark
    cell = Text(mark + answer.reply)
    gold = f"{answer.gold_logprob:.1f} nat, " if answer.gold_logprob is not None else ""
    score = answer.scope_score
    took = f"{answer.ms:,.0f} ms, " if answer.ms else ""  # one of many has no time of its own
    cell.append(
        f"\n{gold}{took}KV {answer.kv_bytes / MIB:.2f} MiB{'' if answer.ms else ' (derived)'}"
        + ("" if score is None else f", slots with {say(score):.0%} of the say at first")
        + (f", dynamic {answer.dynamic_bytes / MIB:.2f} MiB" if answer.dynamic_bytes else ""),
        style="dim",
    )
    return cell
