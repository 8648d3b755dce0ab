"""Writing the trained network as an InternVL2 checkpoint folder: config.json, weights in bf16,
generation_config.json.
"""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from deployer.pocket_vl.network import Sizes


def checkpoint_config(sizes: Sizes, *, bos_id: int, eos_id: int) -> dict[str, Any]:
    """Return config.json in upstream's form."""
    return {
        "architectures": ["InternVLChatModel"],
        "model_type": "internvl_chat",
        "torch_dtype": "bfloat16",
        "template": "internvl2-internlm2",
        "system_message": "",
        "downsample_ratio": 0.5,
        "dynamic_image_size": True,
        "force_image_size": sizes.image,
        "min_dynamic_patch": 1,
        "max_dynamic_patch": sizes.max_tiles,
        "use_thumbnail": True,
        "ps_version": "v2",
        "select_layer": -1,
        "vision_config": {
            "architectures": ["InternVisionModel"],
            "model_type": "intern_vit_6b",
            "torch_dtype": "bfloat16",
            "hidden_size": sizes.vision_hidden,
            "num_hidden_layers": sizes.vision_layers,
            "num_attention_heads": sizes.vision_heads,
            "intermediate_size": sizes.vision_ffn,
            "image_size": sizes.image,
            "patch_size": sizes.patch,
            "num_channels": 3,
            "hidden_act": "gelu",
            "norm_type": "layer_norm",
            "layer_norm_eps": sizes.vision_norm_eps,
            "qkv_bias": True,
            "qk_normalization": False,
            "initializer_factor": 1.0,
        },
        "llm_config": {
            "architectures": ["InternLM2ForCausalLM"],
            "model_type": "internlm2",
            "torch_dtype": "bfloat16",
            "vocab_size": sizes.vocab,
            "hidden_size": sizes.hidden,
            "num_hidden_layers": sizes.layers,
            "num_attention_heads": sizes.heads,
            "num_key_value_heads": sizes.kv_heads,
            "intermediate_size": sizes.ffn,
            "hidden_act": "silu",
            "bias": False,
            "rms_norm_eps": sizes.norm_eps,
            "rope_theta": sizes.rope_theta,
            "rope_scaling": None,
            "max_position_embeddings": sizes.max_positions,
            "tie_word_embeddings": False,
            "bos_token_id": bos_id,
            "eos_token_id": eos_id,
            "pad_token_id": eos_id,
        },
    }


def tokenizer_config() -> dict[str, Any]:
    """Return tokenizer_config.json."""
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<s>",
        "eos_token": "<|im_end|>",
        "unk_token": "<unk>",
        "add_bos_token": True,
        "clean_up_tokenization_spaces": False,
        "model_max_length": 4096,
    }


def write_configs(folder: Path, sizes: Sizes, *, bos_id: int, eos_ids: list[int]) -> None:
    """Write the JSON files beside tokenizer.json."""
    files = {
        "config.json": checkpoint_config(sizes, bos_id=bos_id, eos_id=eos_ids[0]),
        "generation_config.json": {"bos_token_id": bos_id, "eos_token_id": eos_ids, "do_sample": False},
        "tokenizer_config.json": tokenizer_config(),
    }
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content, indent=2) + "\n")


def write_weights(tensors: dict[str, Tensor], folder: Path, *, parts: bool) -> None:
    """Write model.safetensors in bf16, or vision.safetensors and language.safetensors with `parts`."""
    half = {name: tensor.detach().to("cpu", torch.bfloat16).contiguous() for name, tensor in tensors.items()}
    if not parts:
        save_file(half, folder / "model.safetensors", metadata={"format": "pt"})
        return
    language = {name: tensor for name, tensor in half.items() if name.startswith("language_model.")}
    save_file(language, folder / "language.safetensors", metadata={"format": "pt"})
    vision = {name: tensor for name, tensor in half.items() if name not in language}
    save_file(vision, folder / "vision.safetensors", metadata={"format": "pt"})
