"""The known decoders, chosen by the architecture that the nested config names."""

from engines.families.config_section import ConfigSection
from engines.families.decoders.decoder import Decoder
from engines.families.decoders.internlm2 import INTERNLM2
from engines.families.decoders.llama import LLAMA
from engines.families.decoders.mistral import MISTRAL
from engines.families.decoders.phi3 import PHI3
from engines.families.decoders.qwen2 import QWEN2
from engines.spec import DecoderSpec
from engines.weights.rules import Rule

DECODERS: tuple[Decoder, ...] = (
    INTERNLM2,
    LLAMA,
    MISTRAL,
    PHI3,
    QWEN2,
)  # fmt: skip


def read_decoder(section: ConfigSection) -> tuple[str, DecoderSpec]:
    """Return the decoder's name and spec; `architectures` decides, `model_type` where that is absent."""
    decoder = _decoder_of(section)
    return decoder.name, decoder.read(section)


def decoder_rules(name: str) -> tuple[Rule, ...]:
    """Return the name rules of a decoder, without the prefix that a VLM puts before them."""
    return next(decoder for decoder in DECODERS if decoder.name == name).rules


def _decoder_of(section: ConfigSection) -> Decoder:
    architectures = section.values.get("architectures")
    if architectures:
        first = architectures[0] if isinstance(architectures, list) else None
        found = [decoder for decoder in DECODERS if decoder.architecture == first]
    else:
        found = [decoder for decoder in DECODERS if decoder.name == section.values.get("model_type")]
    if found:
        return found[0]
    known = ", ".join(decoder.architecture for decoder in DECODERS)
    section.fault("architectures" if architectures else "model_type", f"must name a known decoder: {known}")
    return DECODERS[0]
