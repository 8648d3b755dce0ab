"""Language models alone: the decoder is the whole of config.json, and its names have no prefix."""

from engines.families.config_section import ConfigSection
from engines.families.decoders import decoder_rules, read_decoder
from engines.families.decoders.registry import DECODERS
from engines.families.dtype import read_dtype
from engines.families.family import Family
from engines.spec import ModelSpec
from engines.weights.rules import NameRules


def read(section: ConfigSection) -> ModelSpec:
    """Read the config of any decoder that is known."""
    names, decoder = read_decoder(section)
    return ModelSpec(
        family="text", decoder_names=names, decoder=decoder, vision=None, dtype=read_dtype(section)
    )


def name_rules(spec: ModelSpec) -> NameRules:
    """Return the decoder's own table."""
    return NameRules(rules=decoder_rules(spec.decoder_names), ignored=("*.inv_freq",))


TEXT = Family(
    name="text",
    model_types=tuple(decoder.name for decoder in DECODERS),
    architectures=tuple(decoder.architecture for decoder in DECODERS),
    read=read,
    rules=name_rules,
)
