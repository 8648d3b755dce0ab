"""The kinds of decoder: parameters, and the module that computes them. Torch-free until `build_decoder`."""

from collections.abc import Callable, Iterator
from importlib import import_module
from typing import TYPE_CHECKING, Protocol, cast

from engines.decoder import llama_like_parameters, visual_experts_parameters
from engines.spec import DecoderSpec
from engines.weights.parameter import Parameter

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from engines.ops import KvLayer, Ops
    from engines.parallel import TpGroup
    from engines.quant.linear_tensors import Params
    from engines.steps.step import StepInput

# kind: its parameters, the module of its class, the class
DECODERS: dict[str, tuple[Callable[[DecoderSpec], Iterator[Parameter]], str, str]] = {
    "llama_like": (llama_like_parameters.parameters, "engines.decoder.llama_like", "LlamaLike"),
    "visual_experts": (
        visual_experts_parameters.parameters,
        "engines.decoder.visual_experts",
        "VisualExperts",
    ),
}


class Decoder(Protocol):
    """One rank's share of a language model."""

    def hidden(self, step: "StepInput", kv: "Sequence[KvLayer]") -> "Tensor":
        """Run the layers, write K and V; return the normed rows of `sample_rows_S`, [S, H]."""
        ...

    def logits(self, hidden_SH: "Tensor") -> "Tensor":
        """Return logits [S, V] in the compute dtype."""
        ...


def decoder_parameters(spec: DecoderSpec) -> Iterator[Parameter]:
    """Yield the parameters of a decoder in the order of a forward pass."""
    return DECODERS[spec.kind][0](spec)


def build_decoder(spec: DecoderSpec, params: "Params", *, ops: "Ops", group: "TpGroup") -> Decoder:
    """Return the decoder over its parameters."""
    _, module, name = DECODERS[spec.kind]
    return cast("Decoder", getattr(import_module(module), name)(spec, params, ops=ops, group=group))
