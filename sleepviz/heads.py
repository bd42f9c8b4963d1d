"""What each KV head holds of the past, and the queries that read it.

Knows keys, values and attention; does not know sleep methods. A slot here is one key and value of
the past: a cached token's, or one that an earlier sleep left.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from random import Random

import numpy as np
import torch

from sleepviz import peaks
from sleepviz.batch import Batch, row_groups
from sleepviz.context import CHUNK, Context
from sleepviz.cost import Work
from sleepviz.dreams import ABOUT, key_phrases, sentences
from sleepviz.llm import Llm
from sleepviz.observing import Look, Observer, observed
from sleepviz.weights import Slots

REPEAT = "Repeat the previous context."
AGAIN = CHUNK * 4  # tokens of the repeated notes in one pass
ROWS = 24  # questions in one pass, at most
ANSWER_COUNT = 3.0  # what a query of an answered question counts, beside one of the repeated notes
MAX_QUERIES = 8192  # reference queries per KV head; thinning costs recall (docs/experiments.md)

At = tuple[int, int]
"""A layer and a KV head of it."""


@dataclass(frozen=True)
class Head:
    """What one KV head holds of the past: keys, values [slot, head_dim], bias [slot]; float32."""

    keys: torch.Tensor
    values: torch.Tensor
    bias: torch.Tensor

    def __len__(self) -> int:
        return len(self.bias)

    def scores(self, queries: torch.Tensor) -> torch.Tensor:
        """Attention logits [query, slot]; the queries are scaled already."""
        return queries @ self.keys.T + self.bias

    def at(self, chosen: torch.Tensor) -> Head:
        """Only the slots at these indices."""
        return Head(self.keys[chosen], self.values[chosen], self.bias[chosen])

    def slots(self, dtype: torch.dtype) -> Slots:
        """The slots as they are."""
        return Slots(self.keys.to(dtype), self.values.to(dtype), self.bias)


class Queries:
    """The scaled queries with which the model reads; per layer [head, query, head_dim]."""

    def __init__(self, n_layers: int) -> None:
        self._seen: list[list[torch.Tensor]] = [[] for _ in range(n_layers)]
        self._counts: list[torch.Tensor] = []  # [token], of each pass
        self._settled: dict[At, tuple[torch.Tensor, torch.Tensor]] = {}
        self._valid: torch.Tensor | None = None

    def run(self, batch: Batch, rows: list[list[int]], count: float = 1.0) -> None:
        """Feed `rows` and keep every real (unpadded) token's queries; each counts so much."""
        longest = max(len(r) for r in rows)
        self._valid = torch.tensor([[t < len(r) for t in range(longest)] for r in rows])
        self._counts.append(torch.full((int(self._valid.sum()),), count, device=batch.llm.device))
        with observed(Observer(self._look)):
            batch.feed(rows)

    def _look(self, look: Look) -> None:
        assert self._valid is not None
        by_head = look.query.transpose(0, 1).float() * look.scaling  # [head, row, token, head_dim]
        self._seen[look.layer].append(by_head[:, self._valid.to(by_head.device)])

    def settle(self, layer: int, n_kv_heads: int, rng: Random) -> None:
        """Gather one layer's queries by KV head, thinned to at most MAX_QUERIES each."""
        queries = torch.cat(self._seen[layer], dim=1)
        self._seen[layer] = []
        grouped = queries.reshape(n_kv_heads, -1, queries.shape[-1])
        counts = torch.cat(self._counts).repeat(queries.shape[0] // n_kv_heads)
        for head in range(n_kv_heads):
            n = grouped.shape[1]
            if n <= MAX_QUERIES:
                self._settled[layer, head] = (grouped[head], counts)
                continue
            kept = sorted(rng.sample(range(n), MAX_QUERIES))
            self._settled[layer, head] = (grouped[head, kept], counts[kept])

    def of(self, layer: int, head: int) -> torch.Tensor:
        """The queries [query, head_dim] of one KV head, once its layer is settled."""
        return self._settled[layer, head][0]

    def counts_of(self, layer: int, head: int) -> torch.Tensor:
        """How much each of them counts, [query]."""
        return self._settled[layer, head][1]


def rereadings(
    llm: Llm, context: Context, texts: tuple[str, ...]
) -> Iterator[tuple[Batch, list[list[int]], float]]:
    """What the queries are taken from: the model repeats the notes, then answers about them.

    The texts come chunk by chunk; a question a sentence, with the sentence as its answer, in
    batches: the queries of an answer are those that read the facts, and count ANSWER_COUNT times.
    """
    again, asked = _reread(llm, texts)
    batch = Batch(context, 1)
    for at in range(0, len(again), AGAIN):
        yield batch, [again[at : at + AGAIN]], 1.0
    for group in row_groups(context, len(asked), ROWS):
        rows = asked[group]
        yield Batch(context, len(rows)), rows, ANSWER_COUNT


def expected_rereading(llm: Llm, context: Context, texts: tuple[str, ...]) -> Work:
    """What `rereadings` will have to compute."""
    again, asked = _reread(llm, texts)
    lengths = [[len(row) for row in asked[g]] for g in row_groups(context, len(asked), ROWS)]
    passes = [(1, min(len(again), AGAIN)), *((len(some), max(some)) for some in lengths)]
    answered = sum(n_rows * longest for n_rows, longest in passes[1:])
    read = len(again) + answered
    return Work(
        forward=read,
        passes=math.ceil(len(again) / AGAIN) + len(lengths),
        attended=read * context.position
        + len(again) ** 2 / 2
        + answered**2 / 2 / max(1, len(asked)),
        peak=peaks.of_queries(llm, len(again) + sum(map(sum, lengths)))
        + max(peaks.of_pass(llm, *one, context.n_tokens) for one in passes),
    )


def _reread(llm: Llm, texts: tuple[str, ...]) -> tuple[list[int], list[list[int]]]:
    """The ids that repeat the notes, and those of every question with its answer."""
    text = "\n".join(texts)
    again = [*llm.user_turn(REPEAT, first=False), *llm.encode_plain(text)]
    asked = [
        [
            *llm.user_turn(ABOUT[n % len(ABOUT)].format(phrases[0]), first=False),
            *llm.encode_plain(sentence),
        ]
        for n, sentence in enumerate(sentences(text))
        if (phrases := key_phrases(sentence))
    ]
    return again, asked


def heads_of(context: Context) -> dict[At, Head]:
    """Every KV head's past: the slots of earlier sleeps at their strength, then the cache."""
    heads = {}
    old = {} if context.weights.empty else context.weights.slots
    strength = torch.tensor(context.weights.scale or 1.0).log()
    for layer, cached in enumerate(context.layers):
        for head in range(cached.keys.shape[1]):
            keys, values = cached.keys[0, head].float(), cached.values[0, head].float()
            bias = torch.zeros(len(keys), device=keys.device)
            if (layer, head) in old:
                before = old[layer, head]
                keys = torch.cat([before.keys.float(), keys])
                values = torch.cat([before.values.float(), values])
                bias = torch.cat([before.bias.float() + strength.to(bias.device), bias])
            heads[layer, head] = Head(keys, values, bias)
    return heads


def sizes_of(context: Context) -> list[int]:
    """How many slots each of these heads has, layer after layer."""
    old = {} if context.weights.empty else context.weights.slots
    return [
        cached.keys.shape[2] + (len(old[layer, head]) if (layer, head) in old else 0)
        for layer, cached in enumerate(context.layers)
        for head in range(cached.keys.shape[1])
    ]


def kept_by(chosen: Mapping[At, torch.Tensor], context: Context) -> np.ndarray:
    """Which tokens of the context each KV head keeps, [layer, kv_head, token] bool.

    `chosen` are the indices that each head keeps: they count the slots of earlier sleeps first,
    then what it has cached.
    """
    shape = context.llm.shape
    kept = np.zeros((shape.n_layers, shape.n_kv_heads, context.n_tokens), dtype=bool)
    for (layer, head), indices in chosen.items():
        old = context.weights.slots.get((layer, head)) if not context.weights.empty else None
        n_cached = context.layers[layer].keys.shape[2]
        at = indices.cpu().numpy() - (len(old) if old is not None else 0)
        kept[layer, head, at[at >= 0] + context.n_tokens - n_cached] = True
    return kept


def tally(slots: Mapping[At, Slots], heads: Mapping[At, Head]) -> str:
    """How many slots of how many were kept, as a sentence for the report."""
    sizes = [len(s) for s in slots.values()]
    whole = sum(len(h) for h in heads.values())
    return (
        f"{sum(sizes):,} of {whole:,} slots kept; {min(sizes)} to {max(sizes)} per head (measured)"
    )
