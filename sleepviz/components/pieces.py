"""The small pieces that every page is made of: metric cards, notices, bars, explanations.

Knows how they are built; does not know what a session is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from sleepviz.components.markup import Node, el, sparkline, tag
from sleepviz.figures import theme
from sleepviz.quantities import Kind, Quantity, Series

_MOST_DRAWN = 120  # values of a card's small line
SIGNS = {"orange": "!", "green": "✓", "violet": "☾", "blue": "i", "plain": "·"}


@dataclass(frozen=True, slots=True)
class Card:
    """One number with its unit, what it is (None: no measurement), and a remark."""

    name: str
    value: str
    unit: str = ""
    note: str = ""
    kind: Kind | None = field(kw_only=True)
    series: Series | None = None  # how it came to be so: drawn small, without axes
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
        series: Series | None = None,
        tone: str = "violet",
    ) -> Card:
        """A card of a number that brings its unit and kind along; bytes in a unit that suits."""
        value, unit = f"{float(amount):,.{digits}f}", amount.unit
        if unit == "B":
            value, unit = split(float(amount))
        return cls(name, sign + value, unit, note, kind=amount.kind, series=series, tone=tone)


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar: an amount, of which `of` fills the row; its unit is that of `limit`, too.

    `words`: the amount in words, where a number with its unit does not say it.
    """

    label: str
    amount: Quantity
    of: float
    words: str = ""
    tone: str = "violet"
    limit: float | None = None  # a line across
    hover: str = ""
    code: bool = False
    pick: str = ""  # what `choice` of markup returns when it is clicked


def cards(shown: Sequence[Card]) -> Node:
    """Numbers side by side, two or one in a row where there is little room."""
    return el("div", "cards", *[_card(card) for card in shown])


def _card(card: Card) -> Node:
    return el(
        "div",
        "card",
        None if card.series is None else _line(card.name, card.series, card.tone),
        el("div", "name", el("span", "", card.name), tag(card.kind)),
        el("div", "value", card.value, el("span", "unit", card.unit) if card.unit else None),
        el("div", "note", card.note or "\u00a0"),
    )


def _line(name: str, series: Series, tone: str) -> Node | None:
    """The last of the values as a small line; nothing of less than two."""
    last = series[-_MOST_DRAWN:]
    if len(last) < 2:
        return None
    highest = last.at(int(np.argmax(last.values)))
    first, most, now = (in_words(one, 1) for one in (last.at(0), highest, last.at(-1)))
    words = f"{name}, the last {len(last)} values, {last.kind}: from {first} to {now}"
    return sparkline(last.values.tolist(), f"{words}, the highest {most}.", tone)


def told(words: str, number: Quantity, digits: int = 0) -> Node:
    """Words with a number in the place of their `{}`, and what that number is."""
    text = words.replace("{}", number.told(digits), 1)
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
    """Bars under each other, with their amounts in words and what these are.

    That is said of each of them, or where all are alike once, beneath them.
    """
    kinds = {bar.amount.kind for bar in shown}
    alike = el("div", "alike", tag(kinds.pop())) if len(kinds) == 1 else None
    return el("div", "bars", *[_bar(bar, alike is None) for bar in shown], alike)


def _bar(bar: Bar, tagged: bool) -> Node:
    full = bar.of or 1.0
    limit = None
    if bar.limit is not None:
        limit = el("div", "limit", left=f"{min(bar.limit / full, 0.995):.2%}")
    line = el("div", "track", _fill(float(bar.amount) / full, bar.tone), limit)
    label = el("div", "label code" if bar.code else "label", bar.label, title=bar.label)
    words = bar.words or in_words(bar.amount)
    amount = el(
        "div", "amount", words, " " if tagged else None, tag(bar.amount.kind if tagged else None)
    )
    return el("div", "bar", label, line, amount, title=bar.hover, pick=bar.pick)


def in_words(amount: Quantity, digits: int = 0) -> str:
    """A number with its unit; bytes in a unit that suits."""
    return theme.size(float(amount)) if amount.unit == "B" else amount.told(digits)


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
