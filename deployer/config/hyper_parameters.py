"""What checks and plans need of an upstream config.json, whatever it is nested in. Torch-free and forgiving.

The families' readers (`engines/families/`) are the authority; they exist only for families that can run. This
looks at the few keys that every decoder has, under the names that upstream uses, and answers None where a key
is not there.
"""

from collections.abc import Mapping
from typing import Any

from deployer.errors import ConfigError

TOWER_KEY = "mm_vision_tower"  # of LLaVA and its kin
_DECODER_SECTIONS = ("llm_config", "text_config", "language_config")


def decoder_section(hyper_parameters: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the mapping that holds the decoder's keys: a nested one, or the whole."""
    for name in _DECODER_SECTIONS:
        section = hyper_parameters.get(name)
        if isinstance(section, Mapping):
            return section
    return hyper_parameters


def num_kv_heads(hyper_parameters: Mapping[str, Any]) -> int | None:
    """Return the number of KV heads of the decoder."""
    section = decoder_section(hyper_parameters)
    if section.get("multi_query_attention") is True:  # ChatGLM
        return _whole(section.get("multi_query_group_num"))
    for key in ("num_key_value_heads", "num_multi_query_heads", "num_attention_heads"):
        found = _whole(section.get(key))
        if found is not None:
            return found
    return None


def num_heads(hyper_parameters: Mapping[str, Any]) -> int | None:
    """Return the number of query heads of the decoder."""
    return _whole(decoder_section(hyper_parameters).get("num_attention_heads"))


def head_dim(hyper_parameters: Mapping[str, Any]) -> int | None:
    """Return the numbers of one head of the decoder."""
    section = decoder_section(hyper_parameters)
    own = _whole(section.get("head_dim")) or _whole(section.get("kv_channels"))
    hidden, heads = _whole(section.get("hidden_size")), num_heads(hyper_parameters)
    return own or (hidden // heads if hidden and heads else None)


def max_positions(hyper_parameters: Mapping[str, Any]) -> int | None:
    """Return the tokens of the longest sequence the decoder was made for, its rope scaling included."""
    section = decoder_section(hyper_parameters)
    found = _whole(section.get("max_position_embeddings")) or _whole(section.get("seq_length"))
    scaling = section.get("rope_scaling")
    if found is None or not isinstance(scaling, Mapping):
        return found
    kind, factor = scaling.get("rope_type", scaling.get("type")), scaling.get("factor")
    if kind in ("linear", "dynamic") and isinstance(factor, (int, float)):
        return int(found * factor)
    return found


def without_factor_lists(hyper_parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return them with ones where YAML leaves the factors of a long rope to the checkpoint.

    A plan needs none of these numbers; only for one may they be made up.
    """
    filled = dict(hyper_parameters)
    for name in _DECODER_SECTIONS:
        if isinstance(filled.get(name), Mapping):
            filled[name] = without_factor_lists(filled[name])
    scaling, heads = filled.get("rope_scaling"), _whole(filled.get("num_attention_heads"))
    if isinstance(scaling, Mapping) and heads is not None:
        hidden = _whole(filled.get("hidden_size")) or heads
        ones = [1.0] * (hidden // heads // 2)
        lists = {key: ones for key in ("short_factor", "long_factor") if scaling.get(key, ones) is None}
        filled["rope_scaling"] = {**scaling, **lists}
    return filled


def with_tower(hyper_parameters: Mapping[str, Any], name: str | None) -> dict[str, Any]:
    """Return them with the timm model `vision.name` as the tower; None changes nothing.

    Raises ConfigError for a model whose config.json names no tower.
    """
    if name is None:
        return dict(hyper_parameters)
    if not name:
        raise ConfigError(
            ["vision.name is empty: vision=timm needs the name of a timm model; set vision.name"]
        )
    if TOWER_KEY not in hyper_parameters:
        raise ConfigError(
            [
                f"vision.name={name}: config.json of this model names no tower (`{TOWER_KEY}`), so none can "
                "be put in its place; leave vision.name null"
            ]
        )
    return {**hyper_parameters, TOWER_KEY: f"timm/{name}"}


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None
