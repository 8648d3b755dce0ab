"""A whole checkpoint folder of a tiny random InternVL2, in upstream's layout: config, weights, vocabulary.

It answers nonsense, but the same nonsense each time, and everything from HTTP to sampling runs on it.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

TOKENIZER = Path(__file__).parents[1] / "fixtures" / "tokenizers" / "byte_level"
VOCAB = 440  # a few more rows than the tokenizer has ids, as released models have
HIDDEN, FFN, LAYERS, HEADS, KV_HEADS = 32, 48, 2, 4, 2
TOWER_HIDDEN, TOWER_FFN, TOWER_LAYERS, TOWER_HEADS = 32, 48, 2, 2
SIDE, PATCH = 28, 7  # 16 patches a tile, 4 tokens after pixel shuffle
MAX_POSITIONS = 2048

CONFIG: dict[str, Any] = {
    "architectures": ["InternVLChatModel"],
    "model_type": "internvl_chat",
    "template": "internlm2-chat",
    "downsample_ratio": 0.5,
    "dynamic_image_size": True,
    "force_image_size": SIDE,
    "max_dynamic_patch": 4,
    "min_dynamic_patch": 1,
    "use_thumbnail": True,
    "ps_version": "v2",
    "select_layer": -1,
    "torch_dtype": "float32",
    "vision_config": {
        "architectures": ["InternVisionModel"],
        "hidden_act": "gelu",
        "hidden_size": TOWER_HIDDEN,
        "image_size": SIDE,
        "intermediate_size": TOWER_FFN,
        "layer_norm_eps": 1e-6,
        "norm_type": "layer_norm",
        "num_attention_heads": TOWER_HEADS,
        "num_hidden_layers": TOWER_LAYERS,
        "patch_size": PATCH,
        "qk_normalization": False,
        "qkv_bias": True,
    },
    "llm_config": {
        "architectures": ["InternLM2ForCausalLM"],
        "model_type": "internlm2",
        "bias": False,
        "hidden_act": "silu",
        "hidden_size": HIDDEN,
        "intermediate_size": FFN,
        "max_position_embeddings": MAX_POSITIONS,
        "num_attention_heads": HEADS,
        "num_hidden_layers": LAYERS,
        "num_key_value_heads": KV_HEADS,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000,
        "tie_word_embeddings": False,
        "vocab_size": VOCAB,
    },
}


def write_tiny_checkpoint(folder: Path) -> Path:
    """Write the checkpoint into `folder`, which is made, and return it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(CONFIG))
    for file in TOKENIZER.iterdir():
        shutil.copy(file, folder / file.name)
    save_file(_weights(), folder / "model.safetensors")
    return folder


def _weights() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        name: torch.ones(shape)
        if name.endswith(("norm.weight", "norm1.weight", "norm2.weight"))
        else torch.randn(shape, generator=generator) * 0.2
        for name, shape in _shapes().items()
    }


def _shapes() -> dict[str, tuple[int, ...]]:
    rows = 4 * TOWER_HIDDEN
    shapes: dict[str, tuple[int, ...]] = {
        "mlp1.0.weight": (rows,),
        "mlp1.0.bias": (rows,),
        "mlp1.1.weight": (HIDDEN, rows),
        "mlp1.1.bias": (HIDDEN,),
        "mlp1.3.weight": (HIDDEN, HIDDEN),
        "mlp1.3.bias": (HIDDEN,),
    }
    tower = {
        "embeddings.class_embedding": (1, 1, TOWER_HIDDEN),
        "embeddings.position_embedding": (1, 1 + (SIDE // PATCH) ** 2, TOWER_HIDDEN),
        "embeddings.patch_embedding.weight": (TOWER_HIDDEN, 3, PATCH, PATCH),
        "embeddings.patch_embedding.bias": (TOWER_HIDDEN,),
    }
    for layer in range(TOWER_LAYERS):
        tower |= {f"encoder.layers.{layer}.{name}": shape for name, shape in _TOWER_LAYER.items()}
    decoder = {
        "model.tok_embeddings.weight": (VOCAB, HIDDEN),
        "model.norm.weight": (HIDDEN,),
        "output.weight": (VOCAB, HIDDEN),
    }
    for layer in range(LAYERS):
        decoder |= {f"model.layers.{layer}.{name}": shape for name, shape in _DECODER_LAYER.items()}
    shapes |= {f"vision_model.{name}": shape for name, shape in tower.items()}
    shapes |= {f"language_model.{name}": shape for name, shape in decoder.items()}
    return shapes


_TOWER_LAYER: dict[str, tuple[int, ...]] = {
    "attn.qkv.weight": (3 * TOWER_HIDDEN, TOWER_HIDDEN),
    "attn.qkv.bias": (3 * TOWER_HIDDEN,),
    "attn.proj.weight": (TOWER_HIDDEN, TOWER_HIDDEN),
    "attn.proj.bias": (TOWER_HIDDEN,),
    "mlp.fc1.weight": (TOWER_FFN, TOWER_HIDDEN),
    "mlp.fc1.bias": (TOWER_FFN,),
    "mlp.fc2.weight": (TOWER_HIDDEN, TOWER_FFN),
    "mlp.fc2.bias": (TOWER_HIDDEN,),
    "norm1.weight": (TOWER_HIDDEN,),
    "norm1.bias": (TOWER_HIDDEN,),
    "norm2.weight": (TOWER_HIDDEN,),
    "norm2.bias": (TOWER_HIDDEN,),
    "ls1": (TOWER_HIDDEN,),
    "ls2": (TOWER_HIDDEN,),
}
_DECODER_LAYER: dict[str, tuple[int, ...]] = {
    "attention_norm.weight": (HIDDEN,),
    "ffn_norm.weight": (HIDDEN,),
    "attention.wqkv.weight": ((HEADS + 2 * KV_HEADS) * (HIDDEN // HEADS), HIDDEN),
    "attention.wo.weight": (HIDDEN, HIDDEN),
    "feed_forward.w1.weight": (FFN, HIDDEN),
    "feed_forward.w3.weight": (FFN, HIDDEN),
    "feed_forward.w2.weight": (HIDDEN, FFN),
}
