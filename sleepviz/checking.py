"""The self-check: whether what is shown is true on this machine, with this model and version.

Knows what must hold and how far off it may be; does not know how results are shown. Every check
computes something twice, in two ways, and gives the difference.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from random import Random
from typing import Any, cast

import numpy as np
import torch

from sleepviz import SleepvizError, __version__, last_check, sleep
from sleepviz.context import Context
from sleepviz.events import AttentionCaptured, Checked, Event, Progressed, TokenGenerated
from sleepviz.last_check import LastCheck
from sleepviz.llm import Llm
from sleepviz.looking import captured
from sleepviz.session import Session
from sleepviz.sleep import Notes, SleepMethod
from sleepviz.timeline import Timeline
from sleepviz.trunk import untrainable
from sleepviz.weights import DynamicWeights

NOTES = (
    "The captain of the ferry is Mira Okafor, and her cat is called Pixel. The bell was cast in "
    "Bergen in 1892. The ferry leaves at seven and comes back at nine with letters and bread."
)
QUESTION = "What is the cat called?"
N_SAID = 8
MOST_HEADS = 12  # of one layer
FEW_HEADS = 32  # of a model: all of them are compared
ROUNDING = {torch.float32: 1e-4, torch.float64: 1e-6}  # of an attention weight; else LOW_ROUNDING
LOW_ROUNDING = 3e-2
TOLD_AGAIN = ("kv", "tokens", "turns", "timings", "memory")  # parts of a state


def checking(session: Session) -> Iterator[Event]:
    """Every check on the session's model, told in the session; nothing else of it is used.

    What was found is kept for later sessions on this machine.
    """

    def work() -> Iterator[Event]:
        llm, found = session.llm, []
        for event in checks(llm):
            yield session.tell(event)
            if isinstance(event, Checked):
                found.append(event)
        on = str(llm.device), llm.dtype_name
        last_check.keep(LastCheck(llm.name, *on, versions(), time.time(), tuple(found)))

    return session.job("checking", work())


def checks(llm: Llm) -> Iterator[Event]:
    """Every check, one after another, with progress between them."""
    for done, check in enumerate(_CHECKS):
        yield Progressed("checks", done, len(_CHECKS))
        try:
            yield from check(llm)
        except SleepvizError as error:
            yield Checked(str(check.__doc__).rstrip("."), None, 0.0, "", f"not asked: {error.what}")
    yield Progressed("checks", len(_CHECKS), len(_CHECKS))


def versions() -> dict[str, str]:
    """What the numbers depend on besides the model: the versions that are installed here."""
    packages = ("torch", "transformers", "streamlit", "numpy", "plotly")
    installed = {name: version(name) for name in packages}
    return {"sleepviz": __version__, **installed, "python": platform.python_version()}


def _read(llm: Llm) -> Session:
    session = Session(llm)
    for _ in session.read(NOTES):
        pass
    return session


def _attention(llm: Llm) -> Iterator[Checked]:
    """Our attention is transformers' eager attention."""
    context = _read(llm).context
    eager = _eager(llm, context.ids)
    limit = ROUNDING.get(llm.dtype, LOW_ROUNDING)
    middle, last = llm.shape.n_layers // 2, llm.shape.n_heads - 1
    some = np.linspace(0, last, min(MOST_HEADS, last + 1)).round().astype(int)
    looks = {(middle, int(head)) for head in some}  # of several groups: which keys are whose
    if llm.shape.n_layers * llm.shape.n_heads <= FEW_HEADS:
        looks |= set(np.ndindex(llm.shape.n_layers, llm.shape.n_heads))
    looks |= {
        (at, head) for at in (0, *_sliding(llm), llm.shape.n_layers - 1) for head in (0, last)
    }
    most, rows, n_rows = 0.0, 0.0, 0
    for layer, head in sorted(looks):
        seen = _seen(context, layer, head)
        most = max(most, float(np.abs(seen.weights - eager[layer][head]).max()))
        rows = max(rows, float(np.abs(seen.weights.sum(1) + seen.slot_share - 1.0).max()))
        n_rows += len(seen.weights)
    what = f"{len(looks)} heads over {len(context.ids)} tokens"
    yield Checked("attention = eager", most, limit, "weight", f"largest difference, {what}")
    yield Checked(
        "attention rows sum to 1", rows, limit, "weight", f"largest difference, {n_rows} rows"
    )


def _seen(context: Context, layer: int, head: int) -> AttentionCaptured:
    last = list(captured(context, layer, head))[-1]
    assert isinstance(last, AttentionCaptured)
    return last


@torch.no_grad()
def _eager(llm: Llm, ids: list[int]) -> list[np.ndarray]:
    """[head, query, key] of every layer, by transformers' own eager implementation.

    Taken by hooks of our own: with `output_attentions` transformers leaves hooks on the model.
    """
    before = llm.model.config._attn_implementation
    seen: dict[int, np.ndarray] = {}

    def keep(module: Any, _: object, output: tuple[torch.Tensor, torch.Tensor]) -> None:
        seen[module.layer_idx] = output[1][0].float().cpu().numpy()

    handles: list[Any] = []
    try:
        for module in llm.model.modules():
            if hasattr(module, "layer_idx") and type(module).__name__.endswith("Attention"):
                handles.append(module.register_forward_hook(keep))
        llm.model.set_attn_implementation("eager")
        llm.model(input_ids=torch.tensor([ids], device=llm.device))
    finally:
        llm.model.set_attn_implementation(before)
        for handle in handles:
            handle.remove()
    return [seen[layer] for layer in range(llm.shape.n_layers)]


def _sliding(llm: Llm) -> list[int]:
    """The first layer that looks back over a window only, if there is one."""
    return [n for n, window in enumerate(llm.shape.windows) if window][:1]


def _kv_bytes(llm: Llm) -> Iterator[Checked]:
    """The cache's bytes are those of the formula."""
    session = _read(llm)
    for _ in session.say(QUESTION, max_new=N_SAID):
        pass
    context = session.context
    derived = llm.shape.kv_layer_bytes(context.n_tokens)
    most = max(abs(a - b) for a, b in zip(context.kv_layer_bytes(), derived, strict=True))
    note = (
        f"largest difference of a layer; {context.kv_bytes:,} B in all, {context.n_tokens} tokens"
    )
    yield Checked("KV bytes = formula", most, 0.0, "B", note)


def _generate(llm: Llm) -> Iterator[Checked]:
    """The tokens said are those of transformers' own greedy loop."""
    session = _read(llm)
    prompt = [*session.context.ids, *llm.user_turn(QUESTION, first=False)]
    said = [
        e.token.id for e in session.say(QUESTION, max_new=N_SAID) if isinstance(e, TokenGenerated)
    ]
    before = llm.model.config._attn_implementation
    llm.model.set_attn_implementation("sdpa")
    try:
        ids = torch.tensor([prompt], device=llm.device)
        # mypy takes the decorated method of a module for a tensor
        output = cast(Any, llm.model).generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=N_SAID,
            do_sample=False,
            eos_token_id=sorted(llm.stop_ids) or None,
            pad_token_id=min(llm.stop_ids, default=0),
        )
    finally:
        llm.model.set_attn_implementation(before)
    told = [i for i in output[0, len(prompt) :].tolist() if i not in llm.stop_ids]
    differ = sum(a != b for a, b in zip(said, told, strict=False)) + abs(len(said) - len(told))
    yield Checked("tokens = generate", differ, 0.0, "tokens", f"that differ, of {len(told)} said")


def _sleep(llm: Llm) -> Iterator[Checked]:
    """A sleep leaves the base model as it was, and strength 0 is the base model."""
    before = llm.fingerprint()
    session = _read(llm)
    notes = Notes((NOTES,), (), session.context.fork())
    method: SleepMethod = sleep.make("nap", {})
    for _ in session.sleep(method, keep_anyway=True):
        pass
    made = {"a nap's slots": session.weights}
    if not untrainable(llm):
        made["trained deltas"] = _trained(llm, notes)
    changed = float(llm.fingerprint() != before)
    after = "of the model's parameters, after a nap" + (" and training" if len(made) > 1 else "")
    note = after if not changed else "something wrote to them"
    yield Checked("base model unchanged", changed, 0.0, "hashes", note)
    ids = [*llm.opening_turn(), *llm.user_turn(QUESTION, first=True)]
    plain = llm.context().feed(ids)
    differ, moved = 0.0, []
    for what, weights in made.items():
        off = llm.context(weights.scaled(0.0)).feed(ids)
        on = llm.context(weights).feed(ids)
        differ = max(differ, float((plain - off).abs().max()))
        moved.append(f"{float((plain - on).abs().max()):.2g} with {what}")
    note = f"largest difference of a logit; at strength 1 it is {', '.join(moved)}"
    yield Checked("strength 0 = no dynamic weights", differ, 0.0, "logit", note)


def _trained(llm: Llm, notes: Notes) -> DynamicWeights:
    """Low-rank deltas, after the shortest training that there is."""
    method: SleepMethod = sleep.make("raw_text", {"epochs": 1})
    *_, last = method.consolidate(llm, notes, DynamicWeights(), Random(0))
    assert last.weights is not None
    return last.weights


def _replay(llm: Llm) -> Iterator[Checked]:
    """What is read again is what was lived, and what is told again."""
    session, live = _read(llm), []
    for _ in session.say(QUESTION, max_new=N_SAID):
        live.append(session.timeline.at())  # event by event, as a page sees it
    again = llm.context(session.context.weights)
    for ids in session.context.fed:
        again.feed(ids)
    assert again.logits is not None
    assert session.context.logits is not None
    differ = float((again.logits - session.context.logits).abs().max())
    yield Checked("read again = lived", differ, 0.0, "logit", "largest difference of a logit")
    told = Timeline()
    for entry in session.timeline.since(0):
        told.append(entry.event, entry.at_s)
    apart = sum(
        any(getattr(told.at(then.position), part) != getattr(then, part) for part in TOLD_AGAIN)
        for then in live
    )
    note = f"that differ, of {len(live)} as they were seen and told again from the first event on"
    yield Checked("replay = live", apart, 0.0, "moments", note)


_CHECKS: tuple[Callable[[Llm], Iterator[Checked]], ...] = (
    _attention,
    _kv_bytes,
    _generate,
    _sleep,
    _replay,
)
