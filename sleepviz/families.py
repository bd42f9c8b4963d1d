"""What is known of a family of models before one is loaded: what cannot be shown, or not trained.

Knows what a config.json says; opens no file, imports no torch.
"""

from __future__ import annotations

from collections.abc import Mapping

from sleepviz import SleepvizError

_OTHER_ATTENTION = {"gemma2", "gpt_oss", "gpt_neo", "gptj", "codegen", "bloom", "mpt", "xglm"}
_CACHED_LAYERS = {"full_attention", "sliding_attention"}
_CHECKED = {"llama", "qwen2", "qwen3", "gemma3_text", "gpt2"}  # the self-check passes on these
_BUILT_OTHERWISE = {  # than Llama: practice cannot run their layers one by one
    "gemma3_text", "gpt2", "gpt_bigcode", "gpt_neox", "opt", "phi", "persimmon", "biogpt", "falcon",
}  # fmt: skip
_LLAMA_LIKE = "Choose a Llama-like model, such as SmolLM2, Qwen or Llama."
SLOTS_STAY = (
    "Slots of a layer with a window stay in sight where its own cache would have dropped them: "
    "even a nap that keeps them all changes what the model says next."
)
"""What a nap does to a model with sliding layers."""

Json = Mapping[str, object]


def require_usual_attention(config: Json, where: str) -> None:
    """Refuse layers that do not all cache the keys and values of heads, or attend otherwise."""
    kinds = config.get("layer_types")
    strange = sorted({str(k) for k in kinds} - _CACHED_LAYERS) if isinstance(kinds, list) else []
    if "kv_lora_rank" in config:
        strange = ["keys and values compressed into one (kv_lora_rank)"]
    if not any("head" in key for key in config):
        strange = ["no attention heads"]
    if strange:
        raise SleepvizError(
            f"{where} describes {config['model_type']!r} layers with {', '.join(strange)}; "
            "sleepviz shows attention layers that cache the keys and values of every head.",
            _LLAMA_LIKE,
        )
    if config.get("attn_logit_softcapping") or config["model_type"] in _OTHER_ATTENTION:
        raise SleepvizError(
            f"{where} describes {config['model_type']!r} layers, which transformers does not run "
            "through the attention function that sleepviz looks into.",
            _LLAMA_LIKE,
        )
    if all(config.get(name) is None for name in ("max_position_embeddings", "n_positions")):
        raise SleepvizError(
            f"{where} says no number of positions (max_position_embeddings), as that of a "
            f"{config['model_type']!r} model need not; sleepviz counts a context against it.",
            _LLAMA_LIKE,
        )


def caveat(config: Json) -> str:
    """What is to be known before a model of this family is loaded; nothing of most."""
    family, slides = str(config.get("model_type")), _slides(config)
    said = []
    if family in _BUILT_OTHERWISE or slides:
        why = "some of its layers keep only a window of the tokens"
        if not slides:
            why = "its layers are built otherwise than those of Llama"
        said.append(
            f"A deep sleep, a cartridge and raw text cannot train this model, because {why}. "
            "Naps, pictures and comparisons work."
        )
    if slides:
        said.append(SLOTS_STAY)
    if family not in _CHECKED:
        said.append(
            f"Models of the family {family!r} have not been checked here: run the self-check on "
            "About before you trust what is shown."
        )
    return " ".join(said)


def _slides(config: Json) -> bool:
    """Whether some layers keep a window of the tokens only."""
    kinds = config.get("layer_types")
    if isinstance(kinds, list):
        return "sliding_attention" in kinds
    asked = config.get("use_sliding_window", config.get("model_type") not in ("qwen2", "qwen3"))
    return bool(config.get("sliding_window") and asked)
