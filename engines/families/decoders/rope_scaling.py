"""Rotary settings of a config.json, in all the spellings that published checkpoints use.

`rope_theta` beside `rope_scaling` with `type` or `rope_type`; or `rope_parameters`, which holds both
(transformers 5).
"""

import math
from collections.abc import Mapping

from engines.families.config_section import ConfigSection
from engines.spec import RopeSpec

# su is the older name of longrope; the yarn of Phi-3's own code is longrope with another multiplier.
KINDS = {
    "default": "default",
    "dynamic": "dynamic",
    "linear": "linear",
    "llama3": "llama3",
    "longrope": "longrope",
    "mrope": "default",
    "su": "longrope",
    "yarn": "longrope",
}


def read_rope(section: ConfigSection, *, head_dim: int, max_positions: int) -> RopeSpec:
    """Return the rotary spec of a decoder section."""
    key = "rope_parameters" if section.values.get("rope_parameters") is not None else "rope_scaling"
    if section.values.get(key) is None:
        return RopeSpec(theta=section.number("rope_theta", 10000.0))
    scaling = section.nested(key)
    theta = (scaling if "rope_theta" in scaling.values else section).number("rope_theta", 10000.0)
    kind_key = "rope_type" if "rope_type" in scaling.values else "type"
    kind = scaling.choice(kind_key, KINDS, "default")
    if kind == "linear":
        return RopeSpec(theta=theta, kind="linear", factor=scaling.number("factor"))
    if kind == "dynamic":
        return RopeSpec(
            theta=theta, kind="dynamic", factor=scaling.number("factor"), max_positions=max_positions
        )
    if kind == "llama3":
        return _llama3(scaling, theta)
    if kind == "longrope":
        yarn = scaling.values.get(kind_key) == "yarn"
        return _longrope(section, scaling, theta, head_dim=head_dim, max_positions=max_positions, yarn=yarn)
    return RopeSpec(theta=theta, sections=_sections(scaling))


def _sections(scaling: ConfigSection) -> tuple[int, ...]:
    """Return the pairs that turn by time, row and column (mrope)."""
    given = scaling.values.get("mrope_section")
    if given is None:
        return ()
    if not isinstance(given, list) or len(given) != 3:
        scaling.fault("mrope_section", "must be a list of 3 numbers of pairs")
        return ()
    return tuple(int(number) for number in scaling.numbers("mrope_section", 3))


def _llama3(scaling: ConfigSection, theta: float) -> RopeSpec:
    low, high = scaling.number("low_freq_factor"), scaling.number("high_freq_factor")
    if high <= low:
        scaling.fault("high_freq_factor", f"must be above low_freq_factor, {low}")
    return RopeSpec(
        theta=theta,
        kind="llama3",
        factor=scaling.number("factor"),
        low_freq_factor=low,
        high_freq_factor=high,
        original_max_positions=scaling.integer("original_max_position_embeddings"),
    )


def _longrope(
    section: ConfigSection,
    scaling: ConfigSection,
    theta: float,
    *,
    head_dim: int,
    max_positions: int,
    yarn: bool,
) -> RopeSpec:
    key = "original_max_position_embeddings"
    original = (scaling if key in scaling.values else section).integer(key)
    return RopeSpec(
        theta=theta,
        kind="longrope",
        factor=max_positions / original,
        original_max_positions=original,
        short_factors=scaling.numbers("short_factor", head_dim // 2),
        long_factors=scaling.numbers("long_factor", head_dim // 2),
        attention_factor=_attention_factor(scaling.values, max_positions / original, original, yarn=yarn),
    )


def _attention_factor(values: Mapping[str, object], stretch: float, original: int, *, yarn: bool) -> float:
    given = values.get("attention_factor")
    if isinstance(given, int | float):
        return float(given)
    if stretch <= 1 or original <= 1:
        return 1.0
    return 0.1 * math.log(stretch) + 1 if yarn else math.sqrt(1 + math.log(stretch) / math.log(original))
