"""Compress the notes' KV cache with presses of NVIDIA's kvpress, and answer the same questions.

Runs in its own virtual environment (scripts/peer) and imports nothing of sleepviz: it reads a job
of token ids, and writes replies as token ids, their divergence from the whole cache, and seconds.
Query-agnostic: a press sees the notes, never a question. Its bytes are what the kept share stands
for; some presses mask heads instead of dropping keys, and hold the whole cache meanwhile.
"""

from __future__ import annotations

import json
import sys
import time
from contextlib import nullcontext
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

    def logits(self, cache: DynamicCache, ids: list[int], position: int) -> torch.Tensor:
        """Logits [id, vocabulary] after each of the ids; they stay in the cache."""
        positions = torch.arange(position, position + len(ids))[None]
        out = self.model(
            input_ids=torch.tensor([ids]), past_key_values=cache, position_ids=positions
        )
        return out.logits[0]

    def reply(self, cache: DynamicCache, question: list[int], position: int) -> list[int]:
        """The greedy reply; the cache is as before afterwards."""
        lengths = [layer.keys.shape[2] for layer in cache.layers]
        said: list[int] = []
        ids, at = question, position
        while len(said) < self.max_new:
            token = int(self.logits(cache, ids, at)[-1].argmax())
            if token in self.stop:
                break
            said.append(token)
            at, ids = at + len(ids), [token]
        cut(cache, lengths)
        return said

    def logprobs(
        self, cache: DynamicCache, question: list[int], reply: list[int], position: int
    ) -> torch.Tensor:
        """Log-probabilities [token, vocabulary] of a reply; the cache is as before afterwards."""
        lengths = [layer.keys.shape[2] for layer in cache.layers]
        logits = self.logits(cache, [*question, *reply[:-1]], position)
        cut(cache, lengths)
        return torch.log_softmax(logits[len(question) - 1 :], dim=-1)


def cut(cache: DynamicCache, lengths: list[int]) -> None:
    for layer, n in zip(cache.layers, lengths, strict=True):
        layer.keys, layer.values = layer.keys[:, :, :n], layer.values[:, :, :n]


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
    replies = [peer.reply(cache, q, n) for q in story["questions"]]
    said = reference.setdefault("replies", replies)
    met = [
        peer.logprobs(cache, q, r, n) if r else torch.zeros(0)
        for q, r in zip(story["questions"], said, strict=True)
    ]
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
