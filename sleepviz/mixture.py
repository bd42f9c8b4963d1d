"""One reply of two contexts, one with slots and one without: each has the say that it earns.

Knows predictions and how likely it is beforehand that a message is in the slots' scope (scope.py);
does not know sessions. The reply's probability is w P(reply | slots) + (1 - w) P(reply | none), a
Bayesian mixture: token by token both predictions are mixed, and w follows Bayes' rule from what was
said. Whichever of the two is right, all of a reply costs at most -ln w (or -ln(1 - w)) nats more
than by itself (Cesa-Bianchi and Lugosi, "Prediction, Learning, and Games", 2006, chapter 9), but
where one of them was left out (odds.SURE).

Greedily, a reply is said by whoever leads: the likeliest words of both together, one after another,
make sentences that neither would say (docs/experiments.md).
"""

from __future__ import annotations

import math
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import replace

import torch
from torch.nn.functional import logsigmoid

from sleepviz.attention import settled
from sleepviz.batch import Batch, logprobs_many
from sleepviz.context import Context, Said
from sleepviz.odds import SURE


class Mixture:
    """Rows of two predictions, mixed; `log_odds` [row]: by how many nats the slots' one leads."""

    def __init__(self, log_odds: torch.Tensor) -> None:
        self.log_odds = log_odds.float()
        self._both: tuple[torch.Tensor, torch.Tensor] | None = None

    def of(self, worn: torch.Tensor, plain: torch.Tensor) -> torch.Tensor:
        """Log-probabilities [row, vocabulary] of both logits (or log-probabilities) together."""
        one, other = (t.float().log_softmax(-1) for t in (worn, plain))
        odds = self.log_odds[:, None]
        return torch.logaddexp(logsigmoid(odds) + one, logsigmoid(-odds) + other)

    def leading(self, worn: torch.Tensor, plain: torch.Tensor) -> torch.Tensor:
        """Log-probabilities [row, vocabulary] of whichever of both leads, from their logits."""
        one, other = self._both = worn.float().log_softmax(-1), plain.float().log_softmax(-1)
        return torch.where(self.log_odds[:, None] >= 0, one, other)

    def said(self, tokens: torch.Tensor) -> None:
        """Each row has said a token [row], of what `leading` gave last."""
        assert self._both is not None, "nobody leads yet"
        one, other = (t.gather(-1, tokens[:, None])[:, 0] for t in self._both)
        self.log_odds = self.log_odds + one - other

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with only these rows."""
        which = torch.tensor(rows, device=self.log_odds.device)
        self.log_odds = self.log_odds[which]
        if self._both is not None:
            self._both = self._both[0][which], self._both[1][which]


def spoken(speakers: Sequence[Context], log_odds: float, max_new: int) -> Iterator[Said]:
    """What one context says, or the one with slots and the one without together."""
    first, *others = speakers
    left = max_new
    for other in others:
        left = yield from saying(first, other, log_odds, max_new)
    yield from first.say(left)


def saying(
    worn: Context, plain: Context, log_odds: float, max_new: int
) -> Generator[Said, None, int]:
    """Who leads goes on greedily; both hold every token said. Both have read what is answered.

    Ends early where `worn` leads by more than SURE: it returns how many tokens are left to it
    alone. Raises `SleepvizError` where one of them has no room.
    """
    assert worn.logits is not None
    assert plain.logits is not None
    mixture = Mixture(torch.tensor([log_odds], device=worn.logits.device))
    plain.logits = mixture.leading(worn.logits[None], plain.logits[None])[0]
    said = 0
    with closing(plain.say(max_new)) as replies:
        for one in replies:  # it has fed what it says, be it by its own prediction or the other's
            began = time.perf_counter()
            mixture.said(torch.tensor([one.id], device=mixture.log_odds.device))
            logits = worn.feed((one.id,))
            plain.logits = mixture.leading(logits[None], plain.logits[None])[0]
            settled()
            said += 1
            yield replace(one, ms=one.ms + (time.perf_counter() - began) * 1e3)
            if float(mixture.log_odds) > SURE:
                return max_new - said
    return 0


class Both:
    """A batch of questions to two contexts, as `batch.Batch` is one of questions to one of them."""

    def __init__(
        self,
        worn: Context,
        plain: Context,
        prompts: Sequence[Sequence[int]],
        log_odds: Sequence[float],
    ) -> None:
        """`prompts`: those of the `plain` context, where a conversation may only begin."""
        self._worn, self._plain = Batch(worn, len(prompts)), Batch(plain, len(prompts))
        self._prompts, self._rows = prompts, list(range(len(prompts)))
        self._mixture = Mixture(torch.tensor(log_odds, device=worn.llm.device))
        self.n_beside = [0] * len(prompts)  # tokens of each reply that were said by both

    @property
    def kv_bytes(self) -> int:
        """Measured bytes of the keys and values of all rows of both."""
        return self._worn.kv_bytes + self._plain.kv_bytes

    @property
    def n_held(self) -> int:
        """Tokens that the cache of every row with slots holds; with padding."""
        return self._worn.n_held

    def begun(self, prompts: Sequence[Sequence[int]]) -> torch.Tensor:
        """Read the prompts; log-probabilities [row, vocabulary] of what who leads says next."""
        return self._leading(self._worn.begun(prompts), self._plain.begun(self._prompts))

    def went_on(self, tokens: Sequence[int]) -> torch.Tensor:
        """Every row says a token; log-probabilities as of `begun`."""
        self._mixture.said(torch.tensor(tokens, device=self._mixture.log_odds.device))
        lead = self._mixture.log_odds
        self._mixture.log_odds = lead.masked_fill(lead > SURE, math.inf)  # from then on it alone
        return self._leading(self._worn.went_on(tokens), self._plain.went_on(tokens))

    def _leading(self, worn: torch.Tensor, plain: torch.Tensor) -> torch.Tensor:
        for row, lead in zip(self._rows, self._mixture.log_odds.tolist(), strict=True):
            self.n_beside[row] += lead < math.inf
        return self._mixture.leading(worn, plain)

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with only these rows."""
        self._rows = [self._rows[at] for at in rows]
        for part in (self._worn, self._plain, self._mixture):
            part.keep(rows)


Prompts = Sequence[Sequence[Sequence[int]]]
"""The questions as each of the speakers reads them, [speaker, question, token]."""


def rows_of(
    speakers: Sequence[Context], prompts: Prompts, log_odds: Sequence[float]
) -> Batch | Both:
    """A batch of questions to one context, or to the one with slots and the one without."""
    first, *others = speakers
    if not others:
        return Batch(first, len(prompts[0]))
    [plain] = others
    return Both(first, plain, prompts[1], log_odds)


def logprobs_of(
    speakers: Sequence[Context],
    prompts: Prompts,
    continuations: Sequence[Sequence[int]],
    log_odds: Sequence[float],
) -> list[torch.Tensor]:
    """As `batch.logprobs_many`: how one, or both together, meet each continuation."""
    one_by_one = [
        logprobs_many(c, p, continuations) for c, p in zip(speakers, prompts, strict=True)
    ]
    if len(one_by_one) == 1:
        return one_by_one[0]
    found = []
    for one, other, ids, odds in zip(*one_by_one, continuations, log_odds, strict=True):
        tokens = torch.tensor(ids, device=one.device, dtype=torch.long)[:, None]
        gained = (one.gather(-1, tokens) - other.gather(-1, tokens))[:, 0]
        before = torch.cat([gained.new_tensor([odds]), odds + gained.cumsum(0)])[:-1]  # each token
        found.append(Mixture(before).of(one, other))
    return found
