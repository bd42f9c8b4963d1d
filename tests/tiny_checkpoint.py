"""A folder that looks like a model to all that does not load it: a few numbers in three files."""

import json
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 8,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "num_hidden_layers": 3,
    "max_position_embeddings": 64,
    "tie_word_embeddings": True,
}


def make_model(folder: Path, **config: object) -> Path:
    """Write config, tokenizer and weights into `folder`; `config` changes or adds keys."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps({**CONFIG, **config}))
    (folder / "tokenizer.json").write_text("{}")
    weights = {"a": np.zeros((4, 8), np.float32), "lm_head.weight": np.zeros(10, np.float32)}
    save_file(weights, folder / "model.safetensors")
    return folder
