"""The models that sleepviz offers by name, as data.

Knows their published figures; it does not know whether or where their weights are.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class ModelCard:
    """What is known of a model before its weights are here."""

    name: str
    hub_id: str  # "" for a local folder
    n_params: int
    download_bytes: int  # on the hub, about
    layers: int
    kv_heads: int
    head_dim: int
    context: int  # tokens
    licence: str
    note: str = ""
    caveat: str = ""  # what sleepviz cannot do with it, or has not checked

    @property
    def kv_bytes_per_token_f32(self) -> int:
        """Bytes that one cached token takes in float32: keys and values of every layer and head."""
        return self.kv_bytes_per_token(4)

    def kv_bytes_per_token(self, dtype_bytes: int) -> int:
        """Bytes that one cached token takes at `dtype_bytes` per number."""
        return 2 * self.layers * self.kv_heads * self.head_dim * dtype_bytes


_CARDS = (
    ModelCard(
        name="SmolLM2-135M-Instruct",
        hub_id="HuggingFaceTB/SmolLM2-135M-Instruct",
        n_params=134_515_008,
        download_bytes=272_600_000,
        layers=30,
        kv_heads=3,
        head_dim=64,
        context=8_192,
        licence="Apache-2.0",
        note="The default: small enough for two CPU cores. Also comes as a package of 93 MB.",
    ),
    ModelCard(
        name="SmolLM2-360M-Instruct",
        hub_id="HuggingFaceTB/SmolLM2-360M-Instruct",
        n_params=361_821_120,
        download_bytes=727_200_000,
        layers=32,
        kv_heads=5,
        head_dim=64,
        context=8_192,
        licence="Apache-2.0",
        note="The default's larger sister: 2.7 times the weights.",
    ),
    ModelCard(
        name="Qwen2.5-0.5B-Instruct",
        hub_id="Qwen/Qwen2.5-0.5B-Instruct",
        n_params=494_032_768,
        download_bytes=999_600_000,
        layers=24,
        kv_heads=2,
        head_dim=64,
        context=32_768,
        licence="Apache-2.0",
        note="Only two KV heads: the lightest cache per token of all.",
    ),
    ModelCard(
        name="Qwen3-0.6B",
        hub_id="Qwen/Qwen3-0.6B",
        n_params=596_049_920,
        download_bytes=1_519_200_000,
        layers=28,
        kv_heads=8,
        head_dim=128,
        context=40_960,
        licence="Apache-2.0",
        note="The heaviest cache per token of all: five times that of the default.",
    ),
    ModelCard(
        name="Llama-3.2-1B-Instruct",
        hub_id="meta-llama/Llama-3.2-1B-Instruct",
        n_params=1_235_814_400,
        download_bytes=2_480_800_000,
        layers=16,
        kv_heads=8,
        head_dim=64,
        context=131_072,
        licence="Llama 3.2 Community",
        note="Gated on the hub: accept the licence there and run `hf auth login` first.",
    ),
)
CATALOGUE: Mapping[str, ModelCard] = MappingProxyType({card.name: card for card in _CARDS})
"""The models that sleepviz offers by name. Any hub id "org/name" or local folder works as well."""

DEFAULT = "SmolLM2-135M-Instruct"


def default_name() -> str:
    """The model to start with: $SLEEPVIZ_MODEL (a name, a hub id or a folder), else `DEFAULT`."""
    return os.environ.get("SLEEPVIZ_MODEL") or DEFAULT
