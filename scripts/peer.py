"""Compress the notes' KV cache with presses of NVIDIA's kvpress, and answer the same questions.

Runs in its own virtual environment (scripts/peer) and imports nothing of sleepviz: it reads a job
of token ids, and writes replies as token ids, their divergence from the whole cache, and seconds.
Query-agnostic: a press sees the notes, never a question. Its bytes are what the kept share stands
for; some presses mask heads instead of dropping keys, and hold the whole cache meanwhile.
"""

from __future__ import annotations

import copy
import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import kvpress
import torch
from transformers import AutoModelForCausalLM, DynamicCache


class Peer:
    """One model whose cache can be filled under a press, and asked again and again."""

    def __init__(self, job: dict[str, Any]) -> None:
        self.model = AutoModelForCausalLM.from_pretrained(job["model"], dtype=torch.float32).eval()
        self.stop, self.max_new = set(job["stop"]), job["max_new"]

    def filled(self, context: list[int], press: Any) -> DynamicCache:
        """A cache of the context's ids, compressed by the press."""
        cache = DynamicCache()
        with press(self.model) if press is not None else nullcontext():
            self.model.model(input_ids=torch.tensor([context]), past_key_values=cache)
        return cache

    def run(
        self, cache: DynamicCache, n: int, asked: list[list[int]], position: int
    ) -> tuple[DynamicCache, torch.Tensor, torch.Tensor]:
        """Feed one row of ids per question to copies of the cache, padded on the left.

        `n` entries of the cache stand for `position` tokens. Returns the copies, the mask of what
        is real [row, entry] and the logits [row, token, vocabulary].
        """
        rows, longest = len(asked), max(map(len, asked))
        ids = torch.tensor([[0] * (longest - len(a)) + a for a in asked])
        real = torch.tensor([[0] * (longest - len(a)) + [1] * len(a) for a in asked])
        mask = torch.cat([torch.ones(rows, n, dtype=torch.long), real], dim=1)
        positions = position + (real.cumsum(-1) - 1).clamp_min(0)
        copies = copy.deepcopy(cache)
        copies.batch_repeat_interleave(rows)
        out = self.model(
            input_ids=ids, attention_mask=mask, position_ids=positions, past_key_values=copies
        )
        return copies, mask, out.logits

    def replies(
        self, cache: DynamicCache, questions: list[list[int]], position: int
    ) -> list[list[int]]:
        """The greedy reply to each question; the cache stays as it is."""
        n = cache.layers[0].keys.shape[2]
        with for_rows(self.model, len(questions)):
            copies, mask, logits = self.run(cache, n, questions, position)
            said: list[list[int]] = [[] for _ in questions]
            at = torch.tensor([[position + len(q)] for q in questions])
            going = [True] * len(questions)
            for _ in range(self.max_new):
                tokens = logits[:, -1].argmax(-1)
                for row, token in enumerate(tokens.tolist()):
                    going[row] = going[row] and token not in self.stop
                    if going[row]:
                        said[row].append(token)
                if not any(going):
                    break
                mask = torch.cat([mask, torch.ones_like(mask[:, :1])], dim=1)
                logits = self.model(
                    input_ids=tokens[:, None],
                    attention_mask=mask,
                    position_ids=at,
                    past_key_values=copies,
                ).logits
                at = at + 1
        return said

    def logprobs(
        self,
        cache: DynamicCache,
        questions: list[list[int]],
        replies: list[list[int]],
        position: int,
    ) -> list[torch.Tensor]:
        """Log-probabilities [token, vocabulary] of each reply; the cache stays as it is."""
        n = cache.layers[0].keys.shape[2]
        rows = [[*q, *r[:-1]] for q, r in zip(questions, replies, strict=True)]
        with for_rows(self.model, len(questions)):
            _, _, logits = self.run(cache, n, rows, position)
        return [
            torch.log_softmax(row[len(row) - len(r) :].float(), dim=-1)
            for row, r in zip(logits, replies, strict=True)
        ]


@contextmanager
def for_rows(model: Any, n: int) -> Iterator[None]:
    """Let keys that a press masks head by head (KVzip) be masked in every row of a batch."""
    modules = [m for m in model.modules() if getattr(m, "masked_key_indices", None) is not None]
    single = [m.masked_key_indices for m in modules]
    for module, (row, head, entry) in zip(modules, single, strict=True):
        rows = torch.arange(n, device=row.device).repeat_interleave(len(row))
        module.masked_key_indices = (rows, head.repeat(n), entry.repeat(n))
    yield
    for module, before in zip(modules, single, strict=True):
        module.masked_key_indices = before


def kl(full: list[torch.Tensor], other: list[torch.Tensor]) -> float:
    """KL(full || other), nat per token: the mean over questions of the means over tokens."""
    each = [
        float((f.exp() * (f - o)).sum(-1).mean())
        for f, o in zip(full, other, strict=True)
        if len(f)
    ]
    return sum(each) / len(each) if each else 0.0


def run(peer: Peer, story: dict[str, Any], press: Any, reference: dict[str, Any]) -> dict[str, Any]:
    """One press on one story: replies to its questions, their divergence, seconds."""
    context, n = story["context"], len(story["context"])
    began = time.perf_counter()
    cache = peer.filled(context, press)
    seconds = time.perf_counter() - began
    replies = peer.replies(cache, story["questions"], n)
    said = reference.setdefault("replies", replies)
    met = peer.logprobs(cache, story["questions"], said, n)
    full = reference.setdefault("logprobs", met)
    return {
        "replies": replies,
        "kl": kl(full, met),
        "seconds": seconds,
    }


@torch.inference_mode()
def main() -> None:
    job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    peer = Peer(job)
    results = []
    for story in job["stories"]:
        reference: dict[str, Any] = {}
        whole = run(peer, story, None, reference)
        results.append({"story": story["id"], "press": "", "keep": 1.0, **whole})
        for name in job["presses"]:
            for keep in job["keep"]:
                press = getattr(kvpress, name)(compression_ratio=1.0 - keep)
                got = run(peer, story, press, reference)
                results.append({"story": story["id"], "press": name, "keep": keep, **got})
                print(f"{story['id']} {name} {keep:.0%}", file=sys.stderr, flush=True)
    Path(sys.argv[2]).write_text(json.dumps(results), encoding="utf-8")


if __name__ == "__main__":
    main()
