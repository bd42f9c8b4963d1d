"""The small pieces that every page is made of: metric cards, notices, bars, explanations.

Knows how they are built; does not know what a session is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from sleepviz.components.markup import Node, el, sparkline, tag
from sleepviz.figures import theme
from sleepviz.quantities import Kind, Quantity

SIGNS = {"orange": "!", "green": "✓", "violet": "☾", "blue": "i", "plain": "·"}


@dataclass(frozen=True, slots=True)
class Card:
    """One number with its unit, what it is (None: no measurement), and a remark."""

    name: str
    value: str
    unit: str = ""
    note: str = ""
    kind: Kind | None = field(kw_only=True)
    series: tuple[float, ...] = ()
    tone: str = "violet"

    @classmethod
    def of(
        cls,
        name: str,
        amount: Quantity,
        note: str = "",
        *,
        digits: int = 0,
        sign: str = "",
        series: tuple[float, ...] = (),
        tone: str = "violet",
    ) -> Card:
        """A card of a number that brings its unit and kind along; bytes in a unit that suits."""
        value, unit = f"{float(amount):,.{digits}f}", amount.unit
        if unit == "B":
            value, unit = split(float(amount))
        return cls(name, sign + value, unit, note, kind=amount.kind, series=series, tone=tone)


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar: `share` of the row from 0 to 1; `limit` likewise, as a line across."""

    label: str
    share: float
    amount: str
    tone: str = "violet"
    limit: float | None = None
    hover: str = ""
    code: bool = False
    pick: str = ""  # what `choice` of markup returns when it is clicked


def cards(shown: Sequence[Card]) -> Node:
    """Numbers side by side, two or one in a row where there is little room."""
    return el("div", "cards", *[_card(card) for card in shown])


def _card(card: Card) -> Node:
    line = sparkline(list(card.series[-120:]), card.tone) if len(card.series) > 1 else None
    return el(
        "div",
        "card",
        line,
        el("div", "name", el("span", "", card.name), tag(card.kind)),
        el("div", "value", card.value, el("span", "unit", card.unit) if card.unit else None),
        el("div", "note", card.note or "\u00a0"),
    )


def told(words: str, number: Quantity, digits: int = 0) -> Node:
    """Words with a number in the place of their `{}`, and what that number is."""
    text = words.replace("{}", number.told(digits))
    return el("span", "", f"{text} ", tag(number.kind))


def chip(text: str, tone: str = "plain", *, hover: str = "", dot: str = "") -> Node:
    """A short word on a coloured ground; `dot` is "still" or "pulse"."""
    mark = el("span", f"dot {dot}") if dot else None
    return el("span", f"chip {tone}", mark, el("span", "long", text), title=hover)


def notice(what: str, hint: str = "", tone: str = "orange") -> Node:
    """Something to know: what it is, and what to do about it."""
    return el(
        "div",
        f"notice {tone}",
        el("div", "sign", SIGNS.get(tone, "·")),
        el("div", "", el("div", "what", what), el("div", "hint", hint) if hint else None),
        role="status",
    )


def empty(what: str, hint: str = "") -> Node:
    """An empty state: what is missing, and what to do next."""
    return el("div", "empty", el("div", "what", what), el("div", "", hint) if hint else None)


def bars(shown: Sequence[Bar]) -> Node:
    """Bars under each other, with their amounts in words."""
    return el("div", "bars", *[_bar(bar) for bar in shown])


def _bar(bar: Bar) -> Node:
    limit = None
    if bar.limit is not None:
        limit = el("div", "limit", left=f"{min(bar.limit, 0.995):.2%}")
    line = el("div", "track", _fill(bar.share, bar.tone), limit)
    label = el("div", "label code" if bar.code else "label", bar.label, title=bar.label)
    amount = el("div", "amount", bar.amount)
    return el("div", "bar", label, line, amount, title=bar.hover, pick=bar.pick)


def track(share: float, tone: str = "violet") -> Node:
    """A thin bar that is filled to `share`."""
    return el("div", "track", _fill(share, tone))


def split(n_bytes: float) -> tuple[str, str]:
    """Bytes as a number and its unit, for a card."""
    value, _, unit = theme.size(n_bytes).partition(" ")
    return value, unit


def _fill(share: float, tone: str) -> Node:
    shown = min(share, 1.0) if share > 0 else 0.0  # also for a NaN
    return el("div", f"fill {tone}" + ("" if shown else " none"), width=f"{shown:.2%}")
