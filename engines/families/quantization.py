"""What a checkpoint's own files say of its quantized weights.

Known are `quantization_config` of config.json (on top, or in the decoder's section), and beside it
quantize_config.json (GPTQ) or quant_config.json (AWQ). Sources: AutoAWQ (gemm), AutoGPTQ and GPTQModel,
compressed-tensors, LMDeploy's smooth_quant.
"""

from collections.abc import Mapping
from typing import Any

from engines.families.config_section import ConfigSection
from engines.quant.weight_quant import WeightFormat, WeightQuant

SECTIONS = ("llm_config", "text_config", "language_config")
OTHER_WIDTHS = "other widths are not read"
FILES = ("quantize_config.json", "quant_config.json")


def read_weight_quant(section: ConfigSection) -> WeightQuant | None:
    """Return what a checkpoint says of its weights; None: they are not quantized. Faults are collected."""
    found = [part for part in (section, *_nested(section)) if "quantization_config" in part.values]
    found = [part for part in found if part.values["quantization_config"] is not None]
    if found:
        return _read(found[0].nested("quantization_config"))
    for file in FILES:
        beside = section.beside(file)
        if beside is not None:
            method = "awq" if "zero_point" in beside.values or "w_bit" in beside.values else "gptq"
            return _read(beside, otherwise=method)
    return None


def _nested(section: ConfigSection) -> list[ConfigSection]:
    return [section.nested(key) for key in SECTIONS if isinstance(section.values.get(key), Mapping)]


def _read(section: ConfigSection, *, otherwise: str | None = None) -> WeightQuant | None:
    method = section.values.get("quant_method", otherwise)
    if method == "awq":
        return _awq(section)
    if method == "gptq":
        return _gptq(section)
    if method == "compressed-tensors":
        return _compressed_tensors(section)
    if method == "fp8":
        return _fp8(section)
    if method == "smooth_quant":
        section.must_be("quant_dtype", "int8")
        return WeightQuant(
            format="int8", scale_suffix=".scale", kept=_names(section, "modules_to_not_convert")
        )
    section.fault("quant_method", "must be one of awq, gptq, compressed-tensors, fp8, smooth_quant")
    return None


def _awq(section: ConfigSection) -> WeightQuant:
    section.must_be("bits" if "bits" in section.values else "w_bit", 4, why=OTHER_WIDTHS)
    section.choice("version", {"gemm": "gemm", "GEMM": "gemm"}, "gemm")
    section.must_be("zero_point", True, why="AWQ files without zero points are not read")
    key = "group_size" if "group_size" in section.values else "q_group_size"
    return WeightQuant(
        format="awq", group_size=_group_size(section, key), kept=_names(section, "modules_to_not_convert")
    )


def _gptq(section: ConfigSection) -> WeightQuant:
    section.must_be("bits", 4, why=OTHER_WIDTHS)
    zero_offset = section.choice("checkpoint_format", {"gptq": 1, "gptq_v2": 0}, "gptq")
    return WeightQuant(
        format="gptq",
        group_size=_group_size(section, "group_size"),
        act_order=section.flag("desc_act", False),
        zero_offset=zero_offset,
        kept=_names(section, "modules_to_not_convert"),
    )


def _fp8(section: ConfigSection) -> WeightQuant:
    if section.values.get("weight_block_size") is not None:
        section.fault("weight_block_size", "must be null: scales a block of a weight are not read")
    return WeightQuant(
        format="fp8", kept=_names(section, "ignored_layers") + _names(section, "modules_to_not_convert")
    )


def _compressed_tensors(section: ConfigSection) -> WeightQuant | None:
    groups = section.nested("config_groups")
    weights = [groups.nested(name).nested("weights") for name in groups.values]
    kinds = {(part.values.get("type"), part.values.get("num_bits")) for part in weights}
    formats: dict[tuple[object, object], WeightFormat] = {("int", 8): "int8", ("float", 8): "fp8"}
    if len(kinds) != 1 or not kinds <= formats.keys():
        section.fault("config_groups", "must quantize all weights to `int` or all to `float` of 8 bits")
        return None
    for part in weights:
        part.choice("strategy", {"channel": "channel", "tensor": "tensor"}, "channel")
        part.must_be("symmetric", True, why="zero points of 8-bit weights are not read")
    return WeightQuant(format=formats[kinds.pop()], kept=_names(section, "ignore"))


def _group_size(section: ConfigSection, key: str) -> int | None:
    size: Any = section.values.get(key, 128)
    if size == -1:
        return None
    if not isinstance(size, int) or size < 1:
        section.fault(key, "must be a number of inputs from 1 on, or -1 for all of a layer")
        return None
    return size


def _names(section: ConfigSection, key: str) -> tuple[str, ...]:
    given = section.values.get(key)
    if given is None:
        return ()
    if not isinstance(given, list) or not all(isinstance(name, str) for name in given):
        section.fault(key, "must be a list of module names")
        return ()
    return tuple(given)
