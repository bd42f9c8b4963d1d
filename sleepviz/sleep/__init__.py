"""Sleep methods: what one must offer, its knobs, and how they are found.

Knows the protocol; does not know any method: a method is one file in this folder with one frozen
dataclass, and nothing else names it.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, dataclass, field, fields
from functools import cache
from random import Random
from typing import Any, ClassVar, Protocol, cast

import numpy as np

from sleepviz import SleepvizError
from sleepviz.context import Context
from sleepviz.events import Dreamed
from sleepviz.llm import Llm
from sleepviz.weights import Delta, DynamicWeights

Value = float | int | str


@dataclass(frozen=True, slots=True)
class Notes:
    """What goes to sleep.

    `texts` were told since the last sleep, `earlier` in the nights before it; `context` is the
    context that holds the new ones, under the dynamic weights of before (fork it; never feed it).
    `held_out` are questions that will be asked afterwards to score the sleep: no method may
    practise them.
    """

    texts: tuple[str, ...]
    earlier: tuple[str, ...]
    context: Context
    held_out: tuple[str, ...] = ()

    def require_earlier(self, base: DynamicWeights) -> None:
        """Raise where beginning from zero would lose what `base` knows.

        The notes of weights that were taken from a file may have stayed with whoever saved them.
        """
        if (base.deltas or base.slots) and not self.earlier:
            raise SleepvizError(
                "This sleep practises all notes from the beginning, and those of the dynamic "
                "weights in force are not here: what they know would be lost.",
                "Take a nap instead, or load weights that were saved with their notes.",
            )


@dataclass(frozen=True, slots=True)
class Step:
    """One step of consolidation. Losses in nats per token. Only the last step carries `weights`.

    `sampled`: the losses are over a sample of the vocabulary, so they are estimates.
    `forming` are deltas in training, as they are now: to be looked at, not kept. `kept_by`
    [layer, kv_head, token] bool: who kept which token of the context, where slots are tokens.
    `practised`: what was practised in it, in a few words.
    """

    phase: str
    done: int
    of: int
    loss: float | None = None
    anchor_loss: float | None = None
    dream: Dreamed | None = None
    optimiser_bytes: int = 0
    weights: DynamicWeights | None = None
    details: str = ""
    forming: Mapping[str, Delta] | None = None
    kept_by: np.ndarray | None = None
    practised: str = ""
    sampled: bool = False


class SleepMethod(Protocol):
    """A frozen dataclass; its docstring is the help text, its knob() fields become the form.

    One that is only there to be compared with says so by `baseline: ClassVar[bool] = True`; one
    after which a token that no head kept is gone, by `drops: ClassVar[bool] = True`; one whose
    weights stand for the context itself, so that talk goes on behind it, by `continues:
    ClassVar[bool] = True`. One that can tell what it will have to compute offers
    `expected(llm, notes) -> Work`; the page and the command line then say what it will take. One
    that cannot work on every model offers `unfit(llm) -> str`: why not on this one, or nothing. One
    that needs something of a model that can be made once offers `prepare(llm)`, an iterator of
    steps in which it is made while nobody waits for the model; a sleep that comes earlier makes
    what is missing. Of one with a knob `bfloat16` the report says how it multiplied (see `half`).
    """

    title: ClassVar[str]  # on its card
    stands_for: ClassVar[str]  # what it stands in for, said where it is chosen
    paper: ClassVar[str]  # name and address
    keeps_notes: ClassVar[bool]  # False for controls that only forget

    def consolidate(
        self, llm: Llm, notes: Notes, base: DynamicWeights, rng: Random
    ) -> Iterator[Step]:
        """Yield steps, often enough to cancel in between; the last has the new dynamic weights."""
        ...


@dataclass(frozen=True, slots=True)
class Knob:
    """One setting of a method: its range (inclusive) and what it does.

    A `technical` one is of how a machine computes, not of what is learnt.
    """

    name: str
    default: Value
    low: float
    high: float
    help: str
    technical: bool = False

    @property
    def is_switch(self) -> bool:
        """Whether it is on or off."""
        return isinstance(self.default, int) and (self.low, self.high) == (0, 1)

    def checked(self, value: object) -> Value:
        """`value` as this knob's type.

        Raises `SleepvizError` when it is no number or out of range.
        """
        kind = type(self.default)
        try:
            number = kind(cast(Any, value))
            exact = float(number) == float(cast(Any, value))
        except (TypeError, ValueError, OverflowError):
            number, exact = self.default, False
        if not exact or not self.low <= float(number) <= self.high:
            what = "a whole number" if kind is int else "a number"
            raise SleepvizError(
                f"{self.name} = {value!r} is out of range: "
                f"expected {what} from {self.low:g} to {self.high:g}.",
                f"The default is {self.default}.",
            )
        return number


def knob(
    default: Value,
    low: float,
    high: float,
    help: str,  # noqa: A002 - as in argparse
    *,
    technical: bool = False,
) -> Any:
    """A dataclass field that a form or the command line may set."""
    said = {"low": low, "high": high, "help": help, "technical": technical}
    return field(default=default, metadata=said)


def knobs(method: type[SleepMethod] | SleepMethod) -> tuple[Knob, ...]:
    """The knobs of a method, in the order of its fields."""
    return tuple(
        Knob(f.name, cast(Value, f.default), **f.metadata)
        for f in fields(cast(Any, method))
        if "help" in f.metadata and f.default is not MISSING
    )


def settings(method: SleepMethod) -> tuple[tuple[str, Value], ...]:
    """The values of a method's knobs."""
    return tuple((k.name, getattr(method, k.name)) for k in knobs(method))


@cache
def methods() -> Mapping[str, type[SleepMethod]]:
    """Every method by name (its file's name), in alphabetical order. A broken file is loud."""
    found: dict[str, type[SleepMethod]] = {}
    for info in pkgutil.iter_modules(__path__):
        module = importlib.import_module(f"{__name__}.{info.name}")
        classes = [
            c
            for c in vars(module).values()
            if isinstance(c, type) and c.__module__ == module.__name__ and hasattr(c, "consolidate")
        ]
        if len(classes) != 1:
            raise SleepvizError(
                f"sleep/{info.name}.py holds {len(classes)} classes with consolidate(); "
                "expected one.",
                "Put one method in each file.",
            )
        found[info.name] = classes[0]
    return found


def baselines() -> frozenset[str]:
    """The names of the methods that are only there to be compared with; controls are among them."""
    return frozenset(
        name
        for name, method in methods().items()
        if getattr(method, "baseline", False) or not method.keeps_notes
    )


def name_of(method: SleepMethod) -> str:
    """The name of a method: that of its file."""
    return type(method).__module__.rsplit(".", 1)[-1]


def make(name: str, values: Mapping[str, object] | None = None) -> SleepMethod:
    """A method by name with some knobs set.

    Raises `SleepvizError` for an unknown name, an unknown knob, or a value out of its range.
    """
    if name not in methods():
        raise SleepvizError(
            f"There is no sleep method {name!r}.",
            f"Choose one of: {', '.join(methods())}.",
        )
    method = methods()[name]
    known = {k.name: k for k in knobs(method)}
    for wrong in set(values or {}) - set(known):
        raise SleepvizError(
            f"{name} has no knob {wrong!r}.",
            f"Its knobs: {', '.join(known) or 'none'}.",
        )
    return method(**{k: known[k].checked(v) for k, v in (values or {}).items()})
