"""All heads at a glance: what each of them looks at, in a few numbers, from one more reading.

Knows contexts and our attention function; does not know pictures. The weights of one KV head's
group over one chunk, or of all heads over few tokens, are all that is held at a time; nothing of n²
size for all heads ever is.
"""

from __future__ import annotations

import math
import time
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch

from sleepviz import SleepvizError
from sleepviz.context import Context
from sleepviz.events import (
    EVERY,
    LEAST_COMPARED,
    LOOKED_AT,
    MEASURES,
    MOST_COMPARED,
    Event,
    HeadsFollowed,
    HeadsSeen,
    Progressed,
)
from sleepviz.llm import Llm
from sleepviz.observing import Look, Observer, observed

CHUNK = 256
LEAST_TOKENS, MAX_TOKENS = LEAST_COMPARED, MOST_COMPARED
SMALL = 2**16  # pairs of a query and a key that all heads are measured over at once
LONGEST_CHARACTER = 4  # tokens that one character can take
_ENDS_SENTENCE = (".", "!", "?", ":")


class Glance:
    """Every head of a context, measured over what is in it, and then over some of what comes."""

    def __init__(self, context: Context) -> None:
        """Raises `SleepvizError` for a context of fewer than LEAST_TOKENS or over MAX_TOKENS."""
        n_tokens = context.n_tokens
        if not LEAST_TOKENS <= n_tokens <= MAX_TOKENS:
            raise SleepvizError(
                f"The heads can be compared over {LEAST_TOKENS} to {MAX_TOKENS:,} tokens; "
                f"there are {n_tokens:,}.",
                "Tell the model something first." if n_tokens < LEAST_TOKENS else "Sleep first.",
            )
        self._context = weakref.ref(context)
        self._eyes = _Eyes(context.llm)
        self._told = 0  # queries
        self._texts = [t.text for t in context.llm.tokens(context.ids, 0)]

    def over_all(self) -> Iterator[Event]:
        """Progress, then the measures of every head over what is in the context."""
        context = self._context()
        assert context is not None
        ids, again = context.ids, context.llm.context(context.weights)
        names, seconds = names_among(self._texts), 0.0
        for at in range(0, len(ids), CHUNK):
            began = time.perf_counter()
            end = min(len(ids), at + CHUNK)
            self._eyes.await_pass(ids[:end], names[:end], torch.arange(at, end))
            with observed(Observer(self._eyes.look)):
                again.feed(ids[at:end])
            self._eyes.keep_if_over(end)
            seconds += time.perf_counter() - began
            yield Progressed(LOOKED_AT, end, len(ids))
        began = time.perf_counter()
        means, self._told = self._eyes.means(), self._eyes.n_queries
        yield HeadsSeen(means, len(ids), (seconds + time.perf_counter() - began) * 1e3)

    def follow(self) -> None:
        """See every EVERY-th token from now on, in the passes that read them."""
        context = self._context()
        if context is not None:
            context.observers["heads"] = Observer(self._eyes.look, begin=self._begin)

    def of(self, context: Context) -> bool:
        """Whether this is the context whose heads are followed."""
        return self._context() is context

    def grown(self) -> HeadsFollowed | None:
        """The measures with what was seen since the last time; None where nothing was.

        None as soon as there are more than MAX_TOKENS: it is followed no more.
        """
        context = self._context()
        if context is None:
            return None
        if context.n_tokens > MAX_TOKENS:
            context.observers.pop("heads", None)
            return None
        self._eyes.keep_if_over(context.n_tokens)
        if self._eyes.n_queries == self._told:
            return None
        self._told = self._eyes.n_queries
        return HeadsFollowed(self._eyes.means(), context.n_tokens, self._told)

    def _begin(self, ids: Sequence[int]) -> bool:
        context = self._context()
        assert context is not None
        first = context.n_tokens
        self._eyes.keep_if_over(first)
        due = range(-(-first // EVERY) * EVERY, first + len(ids), EVERY)
        if not due:
            return False
        whole = [*context.ids, *ids]
        del self._texts[first:]  # of a pass that was given up
        n_known = max(0, len(self._texts) - LONGEST_CHARACTER)  # the last may be part of one
        while n_known and not self._texts[n_known - 1]:  # begin where a character begins
            n_known -= 1
        self._texts[n_known:] = [t.text for t in context.llm.tokens(whole[n_known:], n_known)]
        self._eyes.await_pass(whole, names_among(self._texts), torch.tensor(due))
        return True


def glanced(context: Context) -> Iterator[Event]:
    """Progress, then the measures of every head over what is in the context.

    Raises `SleepvizError` as `Glance` does.
    """
    yield from Glance(context).over_all()


def names_among(texts: Sequence[str]) -> np.ndarray:
    """Which tokens are of words with a capital letter within a sentence, [token] bool.

    "I" is no name; a token that goes on with a name's letters belongs to it.
    """
    found = np.zeros(len(texts), dtype=bool)
    begins, inside = True, False
    for at, text in enumerate(texts):
        word = text.strip()
        apart = text[:1].isspace() or at == 0 or not texts[at - 1][-1:].isalnum()
        if not word or not word[0].isalnum():
            inside = False
        elif apart:
            inside = word[0].isupper() and not begins and word != "I"
        found[at] = inside
        if "\n" in text or word.endswith(_ENDS_SENTENCE) or word.startswith("<|"):
            begins = True
        elif word and word[-1].isalnum():
            begins = False
    return found


class _Eyes:
    """Adds up every head's measures over the queries of one pass after another."""

    def __init__(self, llm: Llm) -> None:
        shape = llm.shape
        self.device = llm.device
        self.sums = torch.zeros(len(MEASURES), shape.n_layers, shape.n_heads, device=self.device)
        self.n_queries, self.n_induced = 0, 0
        windows = shape.windows or (0,) * shape.n_layers
        self._reach = torch.tensor([[w or math.inf] for w in windows], device=self.device)
        self._n_reaching = torch.zeros(shape.n_layers, 1, device=self.device)
        self._n_induced_in = torch.zeros_like(self._n_reaching)
        self._has_names = self._names_now = self._has_slots = False
        self._forget()

    def await_pass(self, ids: Sequence[int], names: np.ndarray, queries: torch.Tensor) -> None:
        """What the next pass will have read when it is over, and which of its tokens count.

        `names` as of `names_among`; `queries` are indices of the newest `ids`. What was awaited
        before and not kept is forgotten.
        """
        self._n_awaited, self._queries = len(ids), queries.to(self.device)
        position = torch.arange(len(ids), device=self.device, dtype=torch.float32)
        sink = (position == 0).float()
        named = torch.tensor(names, device=self.device).float()
        self._about_keys = torch.stack([sink, named, position, torch.ones_like(sink)], dim=1)
        follows = _follows_an_earlier(torch.tensor(ids, device=self.device), self._queries)
        self._follows, self._new = follows, torch.zeros_like(self.sums)
        self._counted = (self._queries > 0).float()  # the first can only look at itself
        self._induced = (follows.any(dim=1) & (self._queries > 0)).float()
        last = torch.where(follows, position, -math.inf).amax(dim=1)  # the nearest such key
        self._induced_in = self._induced * (self._queries - last <= self._reach)
        self._names_now = bool(names.any())

    def keep_if_over(self, n_tokens: int) -> None:
        """Add what was seen in the pass that was awaited, if it ended at so many tokens."""
        if self._n_awaited == n_tokens:
            self.sums += self._new
            self.n_queries += int(self._counted.sum())
            self.n_induced += int(self._induced.sum())
            self._n_induced_in += self._induced_in.sum(-1, keepdim=True)
            near = (self._queries > 0) & (self._queries <= self._reach)
            self._n_reaching += near.sum(-1, keepdim=True)
            self._has_names = self._names_now
            self._forget()

    def _forget(self) -> None:
        """No pass is awaited."""
        nothing = torch.empty(0, device=self.device)
        self._n_awaited = 0
        self._queries = self._about_keys = self._follows = self._new = nothing
        self._counted = self._induced = self._induced_in = nothing

    def means(self) -> np.ndarray:
        """[measure, layer, head] over all queries but the first; NaN where there was nothing.

        The share on the first token, and on what followed an earlier occurrence: over those of them
        that can read such a token in a layer that slides.
        """
        counts = np.full((len(MEASURES), len(self._reach), 1), self.n_queries, dtype=np.float64)
        counts[MEASURES.index("induction")] = self._n_induced_in.cpu().numpy()
        counts[MEASURES.index("sink")] = self._n_reaching.cpu().numpy()
        means = (self.sums.cpu().numpy() / np.maximum(1, counts)).astype(np.float32)
        if not self.n_induced:
            means[MEASURES.index("induction")] = np.nan
        if not self._has_names:
            means[MEASURES.index("names")] = np.nan
        if not self._has_slots:
            means[MEASURES.index("slots")] = np.nan
        return means

    def look(self, look: Look) -> None:
        """Measure one layer of the pass: the group of one KV head at a time, or all, if small."""
        n_heads, n_kv_heads = look.query.shape[1], look.key.shape[1]
        self._has_slots |= look.n_slots > 0
        rows = self._queries - (self._n_awaited - look.query.shape[2])
        if len(rows) < look.query.shape[2]:
            bias = look.bias[:, :, rows]
            look = replace(look, query=look.query[:, :, rows], bias=bias)
        n_at_once = n_kv_heads if len(rows) * look.key.shape[2] <= SMALL else 1
        group = n_heads // n_kv_heads
        for first in range(0, n_kv_heads, n_at_once):
            heads = slice(first * group, (first + n_at_once) * group)
            key = look.key[0, first : first + n_at_once].float()
            self._new[:, look.layer, heads] = self._measured(look, key, heads)

    def _measured(self, look: Look, key: torch.Tensor, heads: slice) -> torch.Tensor:
        """Sums over this pass's queries of the measures of some heads, [measure, head].

        `key` [kv_head, key, head_dim] are those that they read.
        """
        query = look.query[0, heads].float() * look.scaling
        bias = look.bias[0, heads if look.bias.shape[1] > 1 else slice(0, 1)].float()
        products = query.reshape(len(key), -1, query.shape[-1]) @ key.transpose(1, 2)
        scores = products.view(len(query), -1, key.shape[1]).add_(bias)
        shares = torch.softmax(scores, dim=-1)  # [head, query, key]
        highest = scores.amax(-1), shares.amax(-1)  # the share of the same key
        total = highest[0] - highest[1].log()  # log of the sum of exponentials
        entropy = (total - scores.mul_(shares).sum(-1)) / math.log(2.0)
        tokens = shares[..., look.n_slots :]
        first_key = self._n_awaited - tokens.shape[-1]  # a layer that slides has fewer keys
        sink, names, position, known = (tokens @ self._about_keys[first_key:]).unbind(-1)
        before = (self._queries - 1 - first_key).clamp_min(0)
        previous = tokens.gather(-1, before.expand(len(tokens), -1)[..., None])[..., 0]
        induction = (tokens * self._follows[:, first_key:]).sum(-1)
        measures = {
            "sink": sink,
            "entropy": entropy,
            "distance": self._queries - position / known.clamp_min(1e-9),
            "previous": previous,
            "induction": induction * self._induced,
            "names": names,
            "slots": 1.0 - known,
        }
        return torch.stack([(measures[m] * self._counted).sum(-1) for m in MEASURES])


def _follows_an_earlier(ids: torch.Tensor, queries: torch.Tensor) -> torch.Tensor:
    """Whether each key so far follows an earlier occurrence of the query's token.

    [query, key] bool; what an induction head looks at (Olsson et al., 2022,
    https://arxiv.org/abs/2209.11895). `queries` are indices of `ids`.
    """
    before = torch.full_like(ids, -1)
    before[1:] = ids[:-1]
    order = torch.arange(len(ids), device=ids.device)
    return (before[None] == ids[queries, None]) & (order[None] <= queries[:, None])
