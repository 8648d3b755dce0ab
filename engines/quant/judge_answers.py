"""What a quantization changes in the answers to questions: the original's logits, and copies held to them.

The original runs once; its logits are kept on the host.

Legend: S tokens of answers, Q questions, V vocabulary.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from engines.backends import open_backend
from engines.devices import DTYPES
from engines.network import Network
from engines.options import EngineOptions, KvFormat
from engines.quant import bf12_tiles, fp7_tiles
from engines.quant.answer_logits import AnswerLogits, answer_logits
from engines.quant.next_tokens import NextTokens, compare, joined
from engines.quant.prompt_steps import CalibrationPrompt
from engines.quant.tower import Features, encoded
from engines.spec import ModelSpec
from engines.weights.decode_copy import CopyFormat, may_be_copied
from engines.weights.load import Change, load_network


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class JudgedAnswers:
    """Tokens of answers before and after, and whose they are."""

    tokens: NextTokens
    owners_S: Tensor  # int64: the question of each token
    num_questions: int

    def per_question(self, values_S: Tensor) -> Tensor:
        """Return the sums over the tokens of each answer, fp64 [Q]."""
        sums_Q = torch.zeros(self.num_questions, dtype=torch.float64)
        return sums_Q.index_add_(0, self.owners_S, values_S.double())

    def all_of(self, flags_S: Tensor) -> Tensor:
        """Tell which answers have the flag at each of their tokens, bool [Q]."""
        return self.per_question(~flags_S) == 0


class AnswerJudge:
    """Questions, and what the original says to them, its logits on the host."""

    def __init__(
        self, folder: Path, spec: ModelSpec, options: EngineOptions, prompts: Sequence[CalibrationPrompt]
    ) -> None:
        """Run the original with keys and values in the engine's dtype. `prompts` have answers."""
        self._prompts = prompts
        self._backend = open_backend(options, spec.dtype)
        self._max_tiles = options.vision.max_batch_size
        with torch.inference_mode():
            network = self._load(folder, spec)
            self._features = self._encode(network)
            self._original = [
                replace(part, logits_SV=part.logits_SV.cpu(), ids_S=part.ids_S.cpu())
                for part in self._answers(network, self._features, "none")
            ]

    def original(self) -> JudgedAnswers:
        """Hold the original to itself: its own right answers and losses."""
        parts = [(compare(part.logits_SV, part.logits_SV, part.ids_S), part) for part in self._original]
        return self._judged(parts)

    def judge(
        self,
        folder: Path,
        spec: ModelSpec,
        form: KvFormat,
        *,
        same_tower: bool,
        read_as: CopyFormat | None = None,
    ) -> JudgedAnswers:
        """Hold a copy, or the original with other keys and values, to the original.

        `same_tower`: its pictures become the rows that they are to the original. `read_as`: with weights as
        decode reads them from a second copy in this format.
        """
        parts = []
        with torch.inference_mode():
            network = self._load(folder, spec, change=None if read_as is None else READ[read_as])
            features = self._features if same_tower else self._encode(network)
            for before, after in zip(self._original, self._answers(network, features, form), strict=True):
                before_SV = before.logits_SV.to(self._backend.device)
                parts.append((compare(before_SV, after.logits_SV, after.ids_S), before))
        return self._judged(parts)

    def _judged(self, parts: Sequence[tuple[NextTokens, AnswerLogits]]) -> JudgedAnswers:
        return JudgedAnswers(
            tokens=joined(tokens for tokens, _ in parts),
            owners_S=torch.cat([answers.owners_S for _, answers in parts]),
            num_questions=len(self._prompts),
        )

    def _load(self, folder: Path, spec: ModelSpec, change: Change | None = None) -> Network:
        backend = self._backend
        return load_network(
            folder, spec, ops=backend.ops, device=backend.device, dtype=backend.dtype, change=change
        )

    def _encode(self, network: Network) -> Features:
        return encoded(lambda images: network.encode_images(images, max_tiles=self._max_tiles), self._prompts)

    def _answers(self, network: Network, features: Features, form: KvFormat) -> Iterator[AnswerLogits]:
        device, dtype = self._backend.device, self._backend.dtype
        there = {key: rows.to(device, dtype) for key, rows in features.items()}
        return answer_logits(network, self._prompts, there, form, device=device, dtype=dtype)


def _in_fp7(name: str, tensor: Tensor) -> Tensor:
    """Return e4m3 codes as 7 bits hold them; what is beside them in bf16, as the head, in 12."""
    if may_be_copied(name) and tensor.dtype == torch.float8_e4m3fn:
        return fp7_tiles.rounded(tensor)
    return _in_bf12(name, tensor)


def _in_bf12(name: str, tensor: Tensor) -> Tensor:
    if not may_be_copied(name) or tensor.dtype not in DTYPES.values():
        return tensor
    return bf12_tiles.rounded(tensor.to(torch.bfloat16)).to(tensor.dtype)


READ: Mapping[CopyFormat, Change] = {"bf12": _in_bf12, "fp7": _in_fp7}
