"""All heads at a glance: what each of them looks at, in a few numbers, from one more reading.

Knows contexts and our attention function; does not know pictures. The weights of one KV head's
group over one chunk are all that is held at a time; nothing of n² size for all heads ever is.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence

import numpy as np
import torch

from sleepviz import SleepvizError
from sleepviz.attention import Look, Observer, observed
from sleepviz.context import Context
from sleepviz.events import MEASURES, Event, HeadsSeen, Progressed

CHUNK = 256
MAX_TOKENS = 8192
LEAST_TOKENS = 8
_ENDS_SENTENCE = (".", "!", "?", ":")


def glanced(context: Context) -> Iterator[Event]:
    """Progress, then the measures of every head over what is in the context.

    Raises `SleepvizError` for a context of fewer than LEAST_TOKENS or more than MAX_TOKENS.
    """
    ids = context.ids
    if not LEAST_TOKENS <= len(ids) <= MAX_TOKENS:
        raise SleepvizError(
            f"The heads can be compared over {LEAST_TOKENS} to {MAX_TOKENS:,} tokens; "
            f"there are {len(ids):,}.",
            "Tell the model something first." if len(ids) < LEAST_TOKENS else "Sleep first.",
        )
    began, seconds = time.perf_counter(), 0.0
    again = context.llm.context(context.weights)
    texts = [t.text for t in context.llm.tokens(ids, again.weights.start_position)]
    eyes = _Eyes(again, ids, names_among(texts))
    for at in range(0, len(ids), CHUNK):
        eyes.watch(ids[at : at + CHUNK])
        seconds += time.perf_counter() - began
        yield Progressed("tokens looked at", min(len(ids), at + CHUNK), len(ids))
        began = time.perf_counter()
    means = eyes.means()
    seconds += time.perf_counter() - began
    yield HeadsSeen(means, len(ids), seconds * 1e3)


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
    """Adds up every head's measures while the context is read again."""

    def __init__(self, context: Context, ids: list[int], names: np.ndarray) -> None:
        self.context = context
        shape, device = context.llm.shape, context.llm.device
        self.ids = torch.tensor(ids, device=device)
        position = torch.arange(len(ids), device=device, dtype=torch.float32)
        sink = (position == 0).float()
        named = torch.tensor(names, device=device).float()
        self.about_keys = torch.stack([sink, named, position, torch.ones_like(sink)], dim=1)
        self.has_names = bool(names.any())
        self.sums = torch.zeros(len(MEASURES), shape.n_layers, shape.n_heads, device=device)
        self.n_queries, self.n_induced = 0, 0
        self._rows = range(0)

    def watch(self, ids: list[int]) -> None:
        first = self._rows.stop
        self._rows = range(first, first + len(ids))
        self._seen = _follows_an_earlier(self.ids, self._rows)
        self._counted = torch.ones(len(ids), device=self.ids.device)
        if first == 0:
            self._counted[0] = 0.0  # it can only look at itself
        self.n_queries += int(self._counted.sum())
        self._induced = (self._seen.any(dim=1) & (self._counted > 0)).float()
        self.n_induced += int(self._induced.sum())
        with observed(Observer(self._look)):
            self.context.feed(ids)

    def means(self) -> np.ndarray:
        """[measure, layer, head] over all queries but the first; NaN where there was nothing."""
        counts = [max(1, self.n_queries)] * len(MEASURES)
        counts[MEASURES.index("induction")] = self.n_induced
        means = (self.sums.cpu().numpy() / np.maximum(1, counts)[:, None, None]).astype(np.float32)
        if not self.n_induced:
            means[MEASURES.index("induction")] = np.nan
        if not self.has_names:
            means[MEASURES.index("names")] = np.nan
        return means

    def _look(self, look: Look) -> None:
        group = look.query.shape[1] // look.key.shape[1]
        for kv_head in range(look.key.shape[1]):
            heads = slice(kv_head * group, (kv_head + 1) * group)
            self.sums[:, look.layer, heads] += self._measured(look, kv_head, heads)

    def _measured(self, look: Look, kv_head: int, heads: slice) -> torch.Tensor:
        """Sums over this pass's queries of the measures of one KV head's group, [measure, head]."""
        query, key = look.query[0, heads].float() * look.scaling, look.key[0, kv_head].float()
        bias = look.bias[0, heads if look.bias.shape[1] > 1 else slice(0, 1)].float()
        scores = torch.baddbmm(bias, query, key.T.expand(len(query), -1, -1))
        shares = torch.softmax(scores, dim=-1)  # [head, query, key]
        highest = scores.amax(-1), shares.amax(-1)  # the share of the same key
        total = highest[0] - highest[1].log()  # log of the sum of exponentials
        entropy = (total - scores.mul_(shares).sum(-1)) / math.log(2.0)
        tokens = shares[..., look.n_slots :]
        first_key = self._rows.stop - tokens.shape[-1]  # a layer that slides has fewer keys
        sink, names, position, known = (
            tokens @ self.about_keys[first_key : self._rows.stop]
        ).unbind(-1)
        queries = torch.arange(self._rows.start, self._rows.stop, device=shares.device)
        before = (queries - 1 - first_key).clamp_min(0)
        previous = tokens.gather(-1, before.expand(len(tokens), -1)[..., None])[..., 0]
        induction = (tokens * self._seen[:, first_key:]).sum(-1)
        measures = {
            "sink": sink,
            "entropy": entropy,
            "distance": queries - position / known.clamp_min(1e-9),
            "previous": previous,
            "induction": induction * self._induced,
            "names": names,
            "slots": 1.0 - known,
        }
        return torch.stack([(measures[m] * self._counted).sum(-1) for m in MEASURES])


def _follows_an_earlier(ids: torch.Tensor, rows: range) -> torch.Tensor:
    """Whether each key so far follows an earlier occurrence of the query's token.

    [query, key] bool; what an induction head looks at (Olsson et al., 2022,
    https://arxiv.org/abs/2209.11895).
    """
    n = rows.stop
    before = torch.full((n,), -1, dtype=ids.dtype, device=ids.device)
    before[1:] = ids[: n - 1]
    order = torch.arange(n, device=ids.device)
    queries = order[rows.start :]
    return (before[None] == ids[rows.start : n, None]) & (order[None] <= queries[:, None])
