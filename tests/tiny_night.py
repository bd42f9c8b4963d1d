"""Small dynamic weights built by hand, where they are from, and a .zip of some files."""

from __future__ import annotations

import io
import warnings
import zipfile

import torch

from sleepviz.keeping import Origin
from sleepviz.llm import Llm
from sleepviz.weights import Delta, DynamicWeights, Slots

SAID = "The captain is Mira Okafor. The cat is Pixel."
DOWN, GATE = "model.layers.1.mlp.down_proj", "model.layers.0.mlp.gate_proj"
ORIGIN = Origin(
    model="tiny",
    provenance="made for tests",
    story="The cat | <b>Pixel</b>",
    notes=(SAID,),
    n_tokens=45,
    method="nap",
    knobs=(("keep", 0.3),),
    seed=7,
    scores=(("right answers", "8 of 9"),),
)


def made(shape: tuple[int, ...], seed: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return (torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * 0.2).to(dtype)


def deltas(dtype: torch.dtype = torch.float32, ranks: tuple[int, int] = (4, 4)) -> dict[str, Delta]:
    return {
        DOWN: Delta(made((ranks[0], 64), 1, dtype), made((32, ranks[0]), 2, dtype)),
        GATE: Delta(made((ranks[1], 32), 3, dtype), made((64, ranks[1]), 4, dtype)),
    }


def slots(llm: Llm, dtype: torch.dtype = torch.float32) -> dict[tuple[int, int], Slots]:
    """Three to six slots a head."""
    heads = [(n, h) for n in range(llm.shape.n_layers) for h in range(llm.shape.n_kv_heads)]
    dim = llm.shape.head_dim
    return {
        at: Slots(
            made((3 + n, dim), n, dtype), made((3 + n, dim), 50 + n, dtype), made((3 + n,), 90 + n)
        )
        for n, at in enumerate(heads)
    }


def same(one: DynamicWeights, other: DynamicWeights) -> bool:
    mine, others = tensors_of(one), tensors_of(other)
    return (
        (one.next_position, one.scale) == (other.next_position, other.scale)
        and mine.keys() == others.keys()
        and all(torch.equal(t, others[n]) and t.dtype == others[n].dtype for n, t in mine.items())
    )


def tensors_of(weights: DynamicWeights) -> dict[object, torch.Tensor]:
    """Every tensor by what it is; the order of deltas means nothing."""
    found: dict[object, torch.Tensor] = {}
    for name, delta in weights.deltas.items():
        found |= {(name, "a"): delta.a, (name, "b"): delta.b}
    for at, kept in weights.slots.items():
        found |= {(at, "k"): kept.keys, (at, "v"): kept.values, (at, "bias"): kept.bias}
    return found | {("words", n): told for n, told in enumerate(weights.words.tensors())}


def zip_of(files: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        warnings.simplefilter("ignore")
        for name, data in files.items():
            archive.writestr(name, data)
    return stream.getvalue()
