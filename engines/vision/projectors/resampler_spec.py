"""Learned queries that attend to a picture's patches: Qwen-VL, MiniCPM-V. Torch-free."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from engines.vision.parts import ProjectorSpec
from engines.weights.parameter import Parameter, linear, norm

if TYPE_CHECKING:
    from engines.ops import Ops
    from engines.quant.linear_tensors import Params
    from engines.vision.parts import Module

HEAD_DIM = 128


@dataclass(frozen=True, kw_only=True, slots=True)
class ResamplerSpec(ProjectorSpec):
    """One layer of cross-attention; every tile gives as many rows as there are queries."""

    kind: Literal["resampler"] = "resampler"
    queries: int
    # stored: a square table for the queries, resized for the keys. sincos: computed, for the keys alone.
    positions: Literal["stored", "sincos"]
    norm_eps: float = 1e-6

    def parameters(self, width: int, out: int) -> Iterator[Parameter]:
        """Yield its parameters; features of the rows' width need no matrix of their own."""
        name = "projector"
        yield Parameter(name=f"{name}.query", shape=(self.queries, out), role="embedding")
        if self.positions == "stored":
            yield Parameter(name=f"{name}.positions", shape=(self.queries, out), role="embedding")
        if width != out:
            yield from linear(f"{name}.kv", (out, width), bias=False)
        yield from norm(f"{name}.norm_q", out, bias=True)
        yield from norm(f"{name}.norm_kv", out, bias=True)
        yield from linear(f"{name}.qkv", (3 * out, out), bias=True)
        yield from linear(f"{name}.o", (out, out), bias=True)
        yield from norm(f"{name}.norm_out", out, bias=True)
        yield Parameter(name=f"{name}.out", shape=(out, out))  # [in, out]

    def build(self, params: "Params", *, ops: "Ops") -> "Module":
        """Return the projector."""
        from engines.vision.projectors.resampler import Resampler

        return Resampler(self, params, ops=ops)

    def row_flops(self, width: int, out: int) -> int:
        """Return operations a row with four patches behind it: kv, k, v of a patch; q, o, out of a row."""
        return 2 * (4 * (width * out + 2 * out**2) + 3 * out**2)
