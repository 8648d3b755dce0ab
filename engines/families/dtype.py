"""The number format that a checkpoint says it is in."""

from typing import Literal

from engines.families.config_section import ConfigSection

Dtype = Literal["float32", "bfloat16", "float16"]
KNOWN: dict[str, Dtype] = {"float32": "float32", "bfloat16": "bfloat16", "float16": "float16"}


def read_dtype(*sections: ConfigSection) -> Dtype:
    """Return `torch_dtype` or `dtype`, its newer name, of the first section that has it; else float32."""
    for section in sections:
        for key in ("torch_dtype", "dtype"):
            if section.values.get(key) is not None:
                return section.choice(key, KNOWN, "float32")
    return "float32"
