"""Many short continuations of one context at once: replies and logits for a batch of prompts.

Knows padding and positions; does not know what is asked or why. Reading the weights once for many
rows is what makes this several times faster than one row after another; the context itself is left
as it was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch

from sleepviz import products
from sleepviz.context import Context
from sleepviz.llm import Llm

ROOM = 256 * 2**20  # bytes of KV cache that one batch of questions may take
MOST_ROWS = 16  # of such a batch
HEAD_NUMBERS = 2**24  # logits that are made log-probabilities at once


class Batch:
    """Rows that continue one context, padded on the right; padding is never attended to."""

    def __init__(self, context: Context, n_rows: int) -> None:
        self.llm, self.weights = context.llm, context.weights
        self._fork, self._n_shared = context.fork(), context.n_tokens
        for layer in self._fork.layers:
            if layer.is_initialized:
                layer.keys = layer.keys.expand(n_rows, -1, -1, -1)
                layer.values = layer.values.expand(n_rows, -1, -1, -1)
        device = self.llm.device
        self.seen = torch.ones(n_rows, context.n_tokens, dtype=torch.bool, device=device)
        self.position = torch.full((n_rows, 1), context.position, device=device)

    @property
    def kv_bytes(self) -> int:
        """Measured bytes of the keys and values of all rows."""
        return sum(
            tensor.numel() * tensor.element_size()
            for layer in self._fork.layers
            if layer.is_initialized
            for tensor in (layer.keys, layer.values)
        )

    @property
    def n_held(self) -> int:
        """Tokens that the cache of every row holds, asked of the cache; with padding."""
        return int(self._fork.cache.get_seq_length())

    @property
    def can_go_back(self) -> bool:
        """Whether `back_to` works: not where a layer has dropped tokens that left its window."""
        return not self.llm.shape.windows

    @torch.no_grad()
    def feed(self, rows: Sequence[Sequence[int]]) -> torch.Tensor:
        """Read one piece per row, each of at least one token.

        Returns the final hidden states [row, token, hidden].
        """
        device = self.llm.device
        lengths = torch.tensor([len(r) for r in rows], device=device)
        longest = int(lengths.max())
        ids = torch.tensor([[*r, *([0] * (longest - len(r)))] for r in rows], device=device)
        steps = torch.arange(longest, device=device)[None]
        self.seen = torch.cat([self.seen, steps < lengths[:, None]], dim=1)
        with self.weights.applied(self.llm.model), products.few(self.llm, ids.numel()):
            hidden = self.llm.model.base_model(
                input_ids=ids,
                attention_mask=self.seen,
                position_ids=self.position + steps,
                past_key_values=self._fork.cache,
                use_cache=True,
            ).last_hidden_state
        self.position = self.position + lengths[:, None]
        return hidden

    def begun(self, prompts: Sequence[Sequence[int]]) -> torch.Tensor:
        """Read the prompts; the logits [row, vocabulary] of what comes next."""
        hidden = self.feed(prompts)
        ends = torch.tensor([len(p) - 1 for p in prompts], device=hidden.device)
        return self.logits(hidden[torch.arange(len(prompts), device=hidden.device), ends])

    def went_on(self, tokens: Sequence[int]) -> torch.Tensor:
        """Every row says a token; the logits [row, vocabulary] of what comes next."""
        return self.logits(self.feed([[token] for token in tokens])[:, -1])

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with only these rows."""
        index = torch.tensor(rows, device=self.llm.device)
        for layer in self._fork.layers:
            layer.keys = layer.keys.index_select(0, index)
            layer.values = layer.values.index_select(0, index)
        self.seen, self.position = self.seen[index], self.position[index]

    def back_to(self, lengths: Sequence[int]) -> None:
        """Forget what each row was fed after its first so many tokens."""
        wanted = torch.tensor(lengths, device=self.llm.device)[:, None]
        own = self.seen[:, self._n_shared :]
        dropped = own & (own.cumsum(1) > wanted)
        self.position = self.position - dropped.sum(1, keepdim=True)
        self.seen[:, self._n_shared :] = own & ~dropped

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """The head applied to hidden states; float32."""
        return products.predicted(self.llm, hidden)


class Rows(Protocol):
    """Who answers a batch of questions: one context (`Batch`), or more than one."""

    @property
    def kv_bytes(self) -> int: ...
    @property
    def n_held(self) -> int: ...
    def begun(self, prompts: Sequence[Sequence[int]]) -> torch.Tensor: ...
    def went_on(self, tokens: Sequence[int]) -> torch.Tensor: ...
    def keep(self, rows: Sequence[int]) -> None: ...


def reply_many(
    context: Context,
    prompts: Sequence[Sequence[int]],
    max_new: int,
    over: Callable[[list[int]], bool] | None = None,
) -> list[list[int]]:
    """Greedy replies to several prompts that each continue `context`, as ids.

    They come without the end-of-turn token. `over` ends a reply early when it says so of the ids so
    far. Rows that have ended are computed no further.
    """
    said = Replies.to(prompts)
    for _ in replying(said, context, prompts, max_new, over):
        pass
    return said.ids


@dataclass(slots=True)
class Replies:
    """Greedy replies as far as they have come, a row a prompt: ids, and how likely each was.

    n_cached: tokens that each row had in its cache when its prompt was read; kv_bytes: measured
    bytes of the rows' caches, while they are being computed.
    """

    ids: list[list[int]]
    p: list[list[float]]
    n_cached: list[int] = field(default_factory=list)
    kv_bytes: int = 0

    @classmethod
    def to(cls, prompts: Sequence[object]) -> Replies:
        """Nothing said yet."""
        return cls([[] for _ in prompts], [[] for _ in prompts])


def replying(
    said: Replies,
    context: Context,
    prompts: Sequence[Sequence[int]],
    max_new: int,
    over: Callable[[list[int]], bool] | None = None,
    batch: Rows | None = None,
) -> Iterator[int]:
    """As `reply_many`, into `said`, token by token: how many there are at each step.

    `batch`, where one is given, answers: by itself a fresh one of the context.
    """
    if not prompts:
        return
    replies = said.ids
    batch = Batch(context, len(prompts)) if batch is None else batch
    logits = batch.begun(prompts)
    longest, held = max(map(len, prompts)), batch.n_held
    said.n_cached = [held - (longest - len(p)) for p in prompts]  # without a row's padding
    rows = list(range(len(prompts)))
    for step in range(1, max_new + 1):
        highest, chosen = logits.max(-1)
        best, p = chosen.tolist(), (highest - logits.logsumexp(-1)).exp().tolist()
        going = []
        for at, row in enumerate(rows):
            if best[at] in context.llm.stop_ids:
                continue
            replies[row].append(best[at])
            said.p[row].append(p[at])
            if len(replies[row]) < max_new and not (over and over(replies[row])):
                going.append(at)
        said.kv_bytes = batch.kv_bytes
        yield step
        if not going:
            break
        if len(going) < len(rows):
            batch.keep(going)
        rows = [rows[at] for at in going]
        logits = batch.went_on([best[at] for at in going])
    said.kv_bytes = 0


def rows_at_once(llm: Llm, n_cached: int, at_most: int = MOST_ROWS) -> int:
    """How many rows that continue so many cached tokens ROOM allows for at once."""
    per_row = (n_cached + 64) * llm.shape.kv_bytes_per_token
    return max(1, min(at_most, ROOM // per_row))


def row_groups(context: Context, n_rows: int, at_most: int = MOST_ROWS) -> Iterator[slice]:
    """As many rows at once as ROOM allows for their copies of the cache."""
    size = rows_at_once(context.llm, context.n_tokens, at_most)
    for at in range(0, n_rows, size):
        yield slice(at, at + size)


def logprobs_many(
    context: Context,
    prompts: Sequence[Sequence[int]],
    continuations: Sequence[Sequence[int]],
    batch: Batch | None = None,
) -> list[torch.Tensor]:
    """Log-probabilities [token, vocabulary] with which each prompt's continuation is met.

    Row t is the distribution *before* the continuation's token t; an empty continuation gives no
    rows. `batch`, where one is given, reads them: a fresh one of the context with as many rows.
    """
    if not prompts:
        return []
    pairs = list(zip(prompts, continuations, strict=True))
    hidden = (batch or Batch(context, len(prompts))).feed([[*p, *c[:-1]] for p, c in pairs])
    wanted = torch.cat(
        [hidden[row, len(p) - 1 : len(p) - 1 + len(c)] for row, (p, c) in enumerate(pairs)]
    )
    head = context.llm.model.get_output_embeddings()
    at_once = max(1, HEAD_NUMBERS // head.weight.shape[0])
    with torch.no_grad():
        parts = [
            torch.log_softmax(products.predicted(context.llm, some), dim=-1)
            for some in wanted.split(at_once)
        ]
    return list(torch.cat(parts).split([len(c) for c in continuations]))
