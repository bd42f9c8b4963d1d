"""The nap: compaction of the KV cache in closed form, by Attention Matching.

Zweiger, Fu, Guo, Kim, "Fast KV Compaction via Attention Matching", https://arxiv.org/abs/2602.16284.
Per layer and KV head a few slots (key, value, bias) are found such that reference queries read the
same from them as from the whole cache: the same attention output and the same attention mass. A
compacted head is a small two-layer softmax network computed from the context, which is why it
counts as dynamic weights.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import ClassVar

import torch

from sleepviz.attention import Look, observed_by
from sleepviz.batch import Batch
from sleepviz.dreams import key_phrases, sentences
from sleepviz.llm import CHUNK, Context, Llm
from sleepviz.sleep import Notes, Step, knob
from sleepviz.weights import DynamicWeights, Slots

REPEAT = "Repeat the previous context."
N_LATEST = 3  # the newest tokens always stay: they close the turn
MAX_QUERIES = (
    8192  # reference queries per KV head; thinning them costs recall (docs/experiments.md)
)
LOG_WEIGHT_LIMIT = 3.0  # |bias| at most
N_PROJECTED = 2
RIDGE = 1e-3  # of the mean diagonal


@dataclass(frozen=True)
class Nap:
    """Seconds of linear algebra: each head keeps the few slots that future questions would read.

    No training, no gradients. What is kept are the original keys at the chosen positions, with new
    values and biases that stand in for all that was dropped.
    """

    title: ClassVar[str] = "Nap"
    stands_for: ClassVar[str] = (
        "Compacted attention heads, computed in closed form; "
        "they stand in for the paper's trained fast weights."
    )
    paper: ClassVar[str] = "Attention Matching, arXiv 2602.16284 (https://arxiv.org/abs/2602.16284)"
    keeps_notes: ClassVar[bool] = True

    keep: float = knob(
        0.3, 0.02, 1.0, "Share of the cache's slots to keep, over all heads together"
    )

    def consolidate(
        self, llm: Llm, notes: Notes, base: DynamicWeights, rng: Random
    ) -> Iterator[Step]:
        """Steps: one per pass of re-reading, then one per layer."""
        watched = _Queries(llm.shape.n_layers)
        passes = list(_reference_passes(llm, notes))
        for done, one_pass in enumerate(passes, 1):
            watched.run(*one_pass)
            yield Step("re-read", done, len(passes))
        blocks = _blocks(notes.context)
        importance: dict[tuple[int, int], torch.Tensor] = {}
        for layer in range(llm.shape.n_layers):
            watched.settle(layer, llm.shape.n_kv_heads, rng)
            for head in range(llm.shape.n_kv_heads):
                block = blocks[layer, head]
                shares = torch.softmax(block.scores(watched.of(layer, head)), dim=-1)
                importance[layer, head] = shares.square().mean(0).sqrt()
            yield Step("weigh", layer + 1, llm.shape.n_layers)
        chosen = _chosen(importance, self.keep)
        slots: dict[tuple[int, int], Slots] = {}
        for layer in range(llm.shape.n_layers):
            for head in range(llm.shape.n_kv_heads):
                at = (layer, head)
                slots[at] = _fitted(blocks[at], watched.of(layer, head), chosen[at], llm.dtype)
            done = layer + 1
            if done < llm.shape.n_layers:
                yield Step("fit", done, llm.shape.n_layers)
        sizes = [len(s) for s in slots.values()]
        whole = sum(len(b.bias) for b in blocks.values())
        yield Step(
            "fit",
            llm.shape.n_layers,
            llm.shape.n_layers,
            weights=DynamicWeights(base.deltas, slots, notes.context.position),
            details=f"{sum(sizes):,} of {whole:,} slots kept; "
            f"{min(sizes)} to {max(sizes)} per head",
        )


@dataclass(frozen=True)
class _Block:
    """What one KV head holds of the past: keys, values [slot, head_dim], bias [slot]; float32."""

    keys: torch.Tensor
    values: torch.Tensor
    bias: torch.Tensor

    def scores(self, queries: torch.Tensor) -> torch.Tensor:
        """Attention logits [query, slot]; the queries are scaled already."""
        return queries @ self.keys.T + self.bias


class _Queries:
    """The scaled queries with which the model reads; per layer [head, query, head_dim]."""

    def __init__(self, n_layers: int) -> None:
        self._seen: list[list[torch.Tensor]] = [[] for _ in range(n_layers)]
        self._settled: dict[tuple[int, int], torch.Tensor] = {}
        self._valid: torch.Tensor | None = None

    def run(self, batch: Batch, rows: list[list[int]]) -> None:
        """Feed `rows` and keep every real (unpadded) token's queries."""
        longest = max(len(r) for r in rows)
        self._valid = torch.tensor([[t < len(r) for t in range(longest)] for r in rows])
        with observed_by(self._look):
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
        for head in range(n_kv_heads):
            n = grouped.shape[1]
            kept = sorted(rng.sample(range(n), min(n, MAX_QUERIES)))
            self._settled[layer, head] = grouped[head, kept]

    def of(self, layer: int, head: int) -> torch.Tensor:
        return self._settled[layer, head]


def _reference_passes(llm: Llm, notes: Notes) -> Iterator[tuple[Batch, list[list[int]]]]:
    """The model repeats the notes, chunk by chunk; then it is asked about each sentence.

    The questions come in batches.
    """
    text = "\n".join(notes.texts)
    again = [*llm.user_turn(REPEAT, first=False), *llm.encode_plain(text)]
    batch = Batch(notes.context, 1)
    for at in range(0, len(again), CHUNK * 4):
        yield batch, [again[at : at + CHUNK * 4]]
    asked = [
        llm.user_turn(f"What do you remember about {phrase}?", first=False)
        for sentence in sentences(text)
        for phrase in key_phrases(sentence)[:2]
    ]
    for at in range(0, len(asked), 24):
        rows = asked[at : at + 24]
        yield Batch(notes.context, len(rows)), rows


def _blocks(context: Context) -> dict[tuple[int, int], _Block]:
    """Per layer and KV head: the slots of earlier naps, then the cache."""
    blocks = {}
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
            blocks[layer, head] = _Block(keys, values, bias)
    return blocks


def _chosen(
    importance: dict[tuple[int, int], torch.Tensor], keep: float
) -> dict[tuple[int, int], torch.Tensor]:
    """The slots to keep: the most read over all heads, and the first and newest of every head."""
    for scores in importance.values():
        scores[0] = float("inf")  # the attention sink
        scores[-N_LATEST:] = float("inf")
    everything = torch.cat(list(importance.values()))
    n_forced = int(torch.isinf(everything).sum())
    n_kept = min(len(everything), max(n_forced, round(keep * len(everything))))
    limit = torch.topk(everything, n_kept).values[-1]
    return {at: torch.nonzero(s >= limit).flatten() for at, s in importance.items()}


def _fitted(
    block: _Block, queries: torch.Tensor, chosen: torch.Tensor, dtype: torch.dtype
) -> Slots:
    """Slots at the chosen positions, with the bias and values that best stand for the whole."""
    scores = block.scores(queries)
    shares = torch.softmax(scores, dim=-1)
    log_weights = _log_weights(shares[:, chosen])
    keys, values = block.keys[chosen], block.values[chosen]
    attention = torch.softmax(scores[:, chosen] + log_weights, dim=-1)
    gram = attention.T @ attention
    ridge = RIDGE * gram.diagonal().mean() * torch.eye(len(chosen), device=gram.device)
    missing = attention.T @ (shares @ block.values - attention @ values)
    values = values + torch.linalg.solve(gram + ridge, missing)
    bias = block.bias[chosen] + log_weights
    return Slots(keys.to(dtype), values.to(dtype), bias)


def _log_weights(shares: torch.Tensor) -> torch.Tensor:
    """The log of w >= 0 with shares @ w close to 1.

    The kept slots then weigh as much as the whole block did.
    """
    gram = shares.T @ shares
    target = shares.sum(0)
    ridge = RIDGE * gram.diagonal().mean()
    eye = torch.eye(len(gram), device=gram.device)
    weights = torch.linalg.solve(gram + ridge * eye, target + ridge)
    low, high = (
        torch.tensor(-LOG_WEIGHT_LIMIT).exp(),
        torch.tensor(LOG_WEIGHT_LIMIT).exp(),
    )
    weights = weights.clamp(float(low), float(high))
    step = 1.0 / torch.linalg.matrix_norm(gram, ord=2).clamp_min(1e-12)
    for _ in range(N_PROJECTED):
        weights = (weights - step * (gram @ weights - target)).clamp(float(low), float(high))
    return weights.log()
