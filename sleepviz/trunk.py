"""A model cut in two: lower layers run once, upper layers again and again with trainable weights.

Knows decoder layers of the Llama family; does not know dreams or losses. Rows are packed behind one
shared beginning (the conversation's opening, or slots that stand for one), so that no padding is
computed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import Any, cast

import torch
from torch import nn

from sleepviz import SleepvizError
from sleepviz.attention import packed, slots_mounted
from sleepviz.batch import Batch
from sleepviz.context import NO_WEIGHTS
from sleepviz.fused import Fused
from sleepviz.half import Halves, multiplying
from sleepviz.llm import Llm
from sleepviz.packing import Pack
from sleepviz.weights import DynamicWeights


def untrainable(llm: Llm) -> str:
    """Why a model's layers cannot be run one by one, and so not trained; nothing where they can."""
    if llm.trainable:
        return ""
    return (
        f"Practice cannot train {llm.name}: its layers are not those of the Llama family, all "
        "alike."
    )


def attends_in_one(llm: Llm) -> bool:
    """Whether the attention of a layer that is trained through is one operator here."""
    if untrainable(llm):
        return False
    body: Any = llm.model.base_model
    return Fused(llm.model, list(body.layers)[-1:], body.rotary_emb).attends


def mlp_matrices(llm: Llm, first_layer: int) -> Iterator[tuple[str, nn.Linear]]:
    """The MLP matrices from a layer on, by module name; none where layers are built otherwise."""
    upper = {id(layer) for layer in list(getattr(llm.model.base_model, "layers", ()))[first_layer:]}
    for prefix, layer in llm.model.named_modules():
        if id(layer) in upper:
            for name, module in layer.named_modules():
                if isinstance(module, nn.Linear) and ".mlp." in f".{name}":
                    yield f"{prefix}.{name}", module


def delta_numbers(llm: Llm, first_layer: int, rank: int) -> int:
    """How many numbers low-rank deltas of these matrices are; none where nothing can be trained."""
    if untrainable(llm):
        return 0
    return sum(rank * sum(m.weight.shape) for _, m in mlp_matrices(llm, first_layer))


class Trunk:
    """A model cut at a layer: `hidden` runs what is below it, `predictions` what is above.

    `worn` are the dynamic weights in force below the cut; where slots stand for a context, rows
    continue that context and there is no opening. With `halves`, the layers multiply in bfloat16.

    Raises `SleepvizError` for an architecture whose layers cannot be run one by one.
    """

    def __init__(
        self,
        llm: Llm,
        first_layer: int,
        worn: DynamicWeights = NO_WEIGHTS,
        halves: Halves | None = None,
    ) -> None:
        self.llm = llm
        self.first_layer = first_layer
        self.halves = halves
        self._worn = worn
        if reason := untrainable(llm):
            raise SleepvizError(reason, "Use a nap, or a model such as SmolLM2, Qwen or Llama.")
        body: Any = llm.model.base_model
        self._layers: Sequence[nn.Module] = list(body.layers)
        self._norm: nn.Module = body.norm
        self._rotary: nn.Module = body.rotary_emb
        self._fused = Fused(llm.model, self._layers[first_layer:], self._rotary)
        self._opening = self.hidden_of_opening()

    @property
    def bare(self) -> bool:
        """Whether nothing is worn below the cut: the states there are the base model's."""
        return self._worn.empty

    @property
    def starts_afresh(self) -> bool:
        """Whether rows begin a conversation; where slots stand for a context, they continue it."""
        return self._worn.start_position == 0

    def mlp_matrices(self) -> Iterator[tuple[str, nn.Linear]]:
        """The MLP matrices of the upper layers, by module name."""
        return mlp_matrices(self.llm, self.first_layer)

    def hidden_of_opening(self) -> torch.Tensor:
        """Hidden states [token, hidden] of the conversation's opening at the cut; none of slots."""
        context = self.llm.context(self._worn)
        if context.position > 0:
            embedding = cast(nn.Embedding, self.llm.model.get_input_embeddings())
            return embedding.weight[:0].detach()
        return self._run_below(context, [self.llm.opening_turn()])[0]

    def hidden(self, rows: Sequence[Sequence[int]]) -> list[torch.Tensor]:
        """Hidden states [token, hidden] at the cut of rows that each follow the beginning."""
        return self._run_below(self.llm.context(self._worn).opened(), rows)

    def _run_below(self, context: Any, rows: Sequence[Sequence[int]]) -> list[torch.Tensor]:
        with multiplying(self.halves), self.passing(go_on=False) as seen, suppress(_Reached):
            Batch(context, len(rows)).feed(rows)
        return [seen[0][i, : len(row)].clone() for i, row in enumerate(rows)]

    @contextmanager
    def passing(self, *, go_on: bool = True) -> Iterator[list[torch.Tensor]]:
        """Within, the states [row, token, hidden] with which a pass comes to the cut are kept.

        A pass ends there, with `_Reached`, unless it may `go_on`.
        """
        seen: list[torch.Tensor] = []

        def keep(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            seen.append(args[0] if args else kwargs["hidden_states"])
            if not go_on:
                raise _Reached

        handle = self._layers[self.first_layer].register_forward_pre_hook(keep, with_kwargs=True)
        try:
            yield seen
        finally:
            handle.remove()

    def predictions(
        self,
        weights: DynamicWeights,
        rows: Sequence[torch.Tensor],
        n_answer: Sequence[int],
    ) -> list[torch.Tensor]:
        """Logits [answer, vocabulary] for the last `n_answer[i]` tokens of each row.

        Rows are hidden states at the cut; each sees the beginning and itself, none sees another.
        Gradients reach the weights.
        """
        states = self.final(weights, rows, n_answer)
        return list(self.llm.model.get_output_embeddings()(states).split(list(n_answer)))

    def final(
        self,
        weights: DynamicWeights,
        rows: Sequence[torch.Tensor],
        n_answer: Sequence[int],
    ) -> torch.Tensor:
        """The states [token, hidden] that `predictions` are made of, row after row."""
        states, ends = self.above(weights, rows)
        wanted = [torch.arange(e - n, e) for e, n in zip(ends, n_answer, strict=True)]
        at = torch.cat(wanted).to(states.device) + len(self._opening)
        normed: torch.Tensor = self._norm(states[at])
        return normed

    def above(
        self, weights: DynamicWeights, rows: Sequence[torch.Tensor]
    ) -> tuple[torch.Tensor, list[int]]:
        """The last layer's states [token, hidden] of the opening and the rows, one after another.

        With each row's end, counted from the end of the opening.
        """
        states = torch.cat([self._opening, *rows])[None]
        lengths, start = [len(r) for r in rows], self._worn.start_position
        pack = Pack(len(self._opening), lengths, start, states)
        rotary = self._rotary(states, pack.positions)
        with ExitStack() as stack:
            stack.enter_context(multiplying(self.halves))
            rest = stack.enter_context(self._fused.used(weights, self.halves, pack))
            stack.enter_context(rest.deltas_added(self.llm.model))
            stack.enter_context(slots_mounted(weights.banks))
            stack.enter_context(packed(pack))
            for layer in self._layers[self.first_layer :]:
                out = layer(
                    states,
                    attention_mask=None,
                    position_ids=pack.positions,
                    position_embeddings=rotary,
                    past_key_values=None,
                    use_cache=False,
                )
                states = out[0] if isinstance(out, tuple) else out
        return states[0], pack.ends


class _Reached(Exception):  # noqa: N818 - control flow, not an error
    """The forward pass came to the cut; nothing above it is wanted."""
