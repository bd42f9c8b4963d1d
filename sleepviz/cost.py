"""What a piece of work will cost here: counted in tokens before, in seconds by this machine's pace.

Knows how long a token takes, as measured in the first seconds; does not know sleep methods. All of
it is an ESTIMATE until the work has been done.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass, replace
from functools import partial
from statistics import median
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch

from sleepviz import half
from sleepviz.attention import settled
from sleepviz.counting import Tally
from sleepviz.forward_selection import ordered, swept
from sleepviz.llm import Llm

LONG = 256  # tokens of a pass that tells the pace of a sleep's passes: most are as long
SHORT = 64  # of one that tells how a text is read, piece by piece
TRIALS = 2
FEWEST_TOKENS = 48  # of a pass of reading that tells the pace: below, reading the weights counts
FEWEST_PASSES = 3  # of reading, before they tell it
RECENT = 7  # such passes
MOST_USUAL = 1.5  # times that they take as long as the trials say, on a machine that is as quick
ATTENDED_BACK = 2.5  # of attention's products in a forward pass: five products for two
BACKWARD = 1.6  # of a forward pass: gradients of the states, and of a few small matrices
SAVED_BACK = 0.45  # of what bfloat16 saves in a forward pass
SWEPT_SHAPE = (6, 220)  # heads and slots that tell what forward selection takes: some 200 tokens
SWEPT_WIDTH = 64  # their head_dim
TRIAL_TEXT = "The days get longer, the snow melts, and many birds come back to build their nests. "


@dataclass(frozen=True, slots=True)
class Work:
    """Tokens to be computed, by how they go through the model.

    forward: many in one pass, through all layers (half the layers count half). decoded: one by one.
    trained: forward and back. predicted: rows of the vocabulary's matrix, forward. attended: pairs
    of a query and a key that it is held against, in every layer (in half the layers: half).
    passes: those tokens go in so many, each of which starts every layer's operations once (a
    training step: `step_passes`). swept: bytes of matrices that forward selection goes
    through. And what is left of it: `numbers` in the dynamic weights. `peak`: the most bytes of
    tensors that it holds at once (see `peaks`); of one piece of work after another, those of the
    larger. `in_halves`: passes of a token that multiply in bfloat16; back counts what it saves.
    """

    forward: float = 0.0
    decoded: float = 0.0
    trained: float = 0.0
    predicted: float = 0.0
    numbers: float = 0.0
    attended: float = 0.0
    peak: float = 0.0
    in_halves: float = 0.0
    passes: float = 0.0
    swept: float = 0.0

    def __add__(self, other: Work) -> Work:
        return Work(
            self.forward + other.forward,
            self.decoded + other.decoded,
            self.trained + other.trained,
            self.predicted + other.predicted,
            self.numbers + other.numbers,
            self.attended + other.attended,
            max(self.peak, other.peak),
            self.in_halves + other.in_halves,
            self.passes + other.passes,
            self.swept + other.swept,
        )

    def halved(self, llm: Llm, wanted: object, *, kept: bool = True) -> Work:
        """The same in bfloat16, where that is wanted and faster (see `half.Halves`)."""
        if not wanted or not half.bfloat16_is_faster(llm):
            return self
        passes = self.forward + (1.0 + SAVED_BACK) * self.trained
        return replace(self, in_halves=passes, peak=self.peak + kept * half.n_bytes(llm))

    def flops(self, llm: Llm) -> float:
        """ESTIMATE of the floating-point operations."""
        outer: Any = llm.model.get_output_embeddings()
        passes = self.forward + self.decoded + 2.0 * self.trained  # back: gradients of the states
        products = 2.0 * (_body(llm) * passes + outer.weight.numel() * self.predicted)
        return products + _pair_flops(llm) * self.attended


@dataclass(frozen=True, slots=True)
class Forecast:
    """ESTIMATE of what a sleep will take and leave, before it.

    `dynamic_bytes`: of the dynamic weights; `kv_token_equivalents`: as many tokens of KV cache take
    the same room. `peak_bytes`: of tensors at once, while it sleeps.
    """

    seconds: float
    flops: float
    dynamic_bytes: float
    kv_token_equivalents: float
    peak_bytes: float


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds that work takes on this machine, measured.

    `launch`: of a pass, whatever it reads: on a processor that is mostly reading the weights, on an
    accelerator starting the operations. `forward`: of each token of it. `decoded`: of a pass of one
    token. `counted`: what counting its operations adds to a pass. `swept`: of a byte that forward
    selection goes through. `attended` are those of a pair of a query and a key, derived: as long as
    so many operations of a forward pass take. `saved` are those that bfloat16 saves for a token in
    a pass, where it is faster.
    """

    launch: float
    forward: float
    decoded: float
    predicted: float
    attended: float = 0.0
    saved: float = 0.0
    counted: float = 0.0
    swept: float = 0.0

    def pass_seconds(self, n_tokens: int, n_cached: int) -> float:
        """ESTIMATE of the seconds of a pass of so many tokens, which read as many cached ones."""
        return self.launch + self.forward * n_tokens + self.attended * n_tokens * n_cached

    def seconds(self, work: Work) -> float:
        """ESTIMATE of the seconds that the work will take, counted."""
        trained = (1.0 + BACKWARD) * self.forward
        return (
            work.passes * (self.launch + self.counted)
            + work.forward * self.forward
            + work.decoded * (self.decoded + self.counted)
            + work.trained * trained
            + work.predicted * self.predicted
            + work.attended * self.attended
            + work.swept * self.swept
            - work.in_halves * self.saved
        )


_paces: WeakKeyDictionary[Llm, Pace] = WeakKeyDictionary()
_first: WeakKeyDictionary[Llm, Pace] = WeakKeyDictionary()  # as measured at the first call
_recent: WeakKeyDictionary[Llm, deque[float]] = WeakKeyDictionary()
_usual: WeakKeyDictionary[Llm, float] = WeakKeyDictionary()  # the first of these, their median


def known_pace(llm: Llm) -> Pace | None:
    """The pace, if it has been measured."""
    return _paces.get(llm)


def pace(llm: Llm) -> Pace:
    """The pace; measured at the first call, which runs the model: call it where it is run.

    What is read from then on keeps it up to date (`passed`).
    """
    if llm not in _paces:
        ids = (llm.encode_plain(TRIAL_TEXT) * LONG)[:LONG]
        head = llm.model.get_output_embeddings()
        assert isinstance(head, torch.nn.Linear)
        states = torch.zeros(SHORT, head.in_features, device=llm.device, dtype=llm.dtype)
        long, short, decoded, counted, predicted = [], [], [], [], []
        for _ in range(TRIALS):
            context = llm.context()
            short.append(_seconds(partial(context.feed, ids[:SHORT])))
            decoded.append(_seconds(partial(context.feed, ids[:1])))
            with Tally().counted():
                counted.append(_seconds(partial(context.feed, ids[:1])))
            long.append(_seconds(partial(llm.context().feed, ids)))
            with torch.inference_mode():
                predicted.append(_seconds(lambda: head(states).log_softmax(-1)) / SHORT)
        one, further = min(decoded), (min(long) - min(short)) / (LONG - SHORT)
        launch = min(max(min(long) - LONG * further, one / 2), one)  # two noisy ones tell it badly
        forward = max(0.0, min(long) - launch) / LONG
        _paces[llm] = _first[llm] = Pace(
            launch=launch,
            forward=forward,
            decoded=one,
            predicted=min(predicted),
            attended=forward * _pair_flops(llm) / (2.0 * _body(llm)),
            saved=max(0.0, min(long) / LONG - _in_halves(llm, ids)),
            counted=max(0.0, min(counted) - one),
            swept=_swept(),
        )
    return _paces[llm]


def _swept() -> float:
    """Seconds of a byte that forward selection goes through: of made-up heads of some 200 slots."""
    n_heads, n = SWEPT_SHAPE
    rng = np.random.default_rng(0)
    read = np.exp(3.0 * rng.standard_normal((n_heads, 2 * n, n)))
    read /= read.sum(-1, keepdims=True)
    gram = read.transpose(0, 2, 1) @ read
    cross = gram @ rng.standard_normal((n_heads, n, SWEPT_WIDTH))
    seconds = min(_seconds(lambda: ordered(gram, cross)) for _ in range(TRIALS))
    return seconds / (n_heads * swept(n, n))


def _in_halves(llm: Llm, ids: list[int]) -> float:
    """Seconds of a token in a pass that multiplies in bfloat16; infinite where none does."""
    halves = half.halves(llm, kept=False)
    if halves is None:
        return math.inf
    with halves.used():
        seconds = [_seconds(partial(llm.context().feed, ids)) for _ in range(TRIALS)]
    return min(seconds) / len(ids)


def passed(llm: Llm, n_tokens: int, n_cached: int, seconds: float) -> None:
    """A pass that read a text took so long: the newest ones tell the pace of what comes next.

    A shared machine is not as fast now as when its pace was first measured: by as much as such
    passes take longer than the first of them did. Not than the trials did: these ran one after
    another, at their quickest, and short passes lose more by what comes between than long ones.
    `n_cached`: tokens that were in the cache before it.
    """
    first = _first.get(llm)
    if first is None or n_tokens < FEWEST_TOKENS:
        return
    recent = _recent.setdefault(llm, deque(maxlen=RECENT))
    recent.append(seconds / first.pass_seconds(n_tokens, n_cached))
    if len(recent) >= FEWEST_PASSES:
        if llm not in _usual:  # on a processor near 1: what is far from it is the machine's pace
            most = MOST_USUAL if llm.device.type == "cpu" else math.inf
            _usual[llm] = min(most, max(1 / most, median(recent)))
        by = median(recent) / _usual[llm]
        _paces[llm] = Pace(*(seconds * by for seconds in astuple(first)))


def _body(llm: Llm) -> int:
    """The parameters that every token meets: all but those of the vocabulary."""
    inner: Any = llm.model.get_input_embeddings()
    outer: Any = llm.model.get_output_embeddings()
    tied = inner.weight is outer.weight
    return llm.shape.n_params - inner.weight.numel() - (0 if tied else outer.weight.numel())


def _pair_flops(llm: Llm) -> float:
    """Operations for one more key that a query is held against, in all layers and heads."""
    return 4.0 * llm.shape.n_layers * llm.shape.n_heads * llm.shape.head_dim


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    settled()
    return time.perf_counter() - began


def padded(lengths: Sequence[int], rows: int) -> int:
    """Tokens that batches of so many rows compute, padding included."""
    return sum(
        max(lengths[at : at + rows]) * len(lengths[at : at + rows])
        for at in range(0, len(lengths), rows)
    )
