"""The JSON files of the checkpoint, in upstream's form."""

from typing import Any

from deployer.pocket_vl.sizes import Sizes


def checkpoint_config(sizes: Sizes, *, bos_id: int, eos_id: int) -> dict[str, Any]:
    """Return config.json."""
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
        "vision_config": _vision(sizes),
        "llm_config": _language(sizes)
        | {"bos_token_id": bos_id, "eos_token_id": eos_id, "pad_token_id": eos_id},
    }


def generation_config(*, bos_id: int, eos_ids: list[int]) -> dict[str, Any]:
    """Return generation_config.json."""
    return {"bos_token_id": bos_id, "eos_token_id": eos_ids, "do_sample": False}


def tokenizer_config(sizes: Sizes) -> dict[str, Any]:
    """Return tokenizer_config.json."""
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<s>",
        "eos_token": "<|im_end|>",
        "unk_token": "<unk>",
        "add_bos_token": True,
        "clean_up_tokenization_spaces": False,
        "model_max_length": sizes.max_positions,
    }


def _vision(sizes: Sizes) -> dict[str, Any]:
    return {
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
    }


def _language(sizes: Sizes) -> dict[str, Any]:
    return {
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
    }
