from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from plan_cases import spec
from torch import Tensor

from engines.network import Network
from engines.options import KvFormat
from engines.pytorch.ops_torch import TorchOps
from engines.quant import answer_logits as subject
from engines.quant.answer_logits import answer_logits, families
from engines.quant.prompt_steps import CalibrationPrompt
from engines.schedule.sequence import ImageSlots
from engines.weights.load import random_network

CPU = torch.device("cpu")
WHOLE = spec("1b")
SMALL = replace(
    WHOLE,
    vision=None,
    decoder=replace(
        WHOLE.decoder, num_layers=2, hidden=32, num_heads=4, num_kv_heads=2, head_dim=32, ffn=48, vocab=90
    ),
)
KEY = b"picture"
PICTURE = ImageSlots(key=KEY, start=2, num_tokens=30, pixels=None)


def prompt(question: list[int], answer: list[int], *, pictured: bool) -> CalibrationPrompt:
    opening = [1, 2, *[3] * 30, 4] if pictured else [1, 2]
    asked = [*opening, *question]
    return CalibrationPrompt(
        token_ids=(*asked, *answer), images=(PICTURE,) if pictured else (), answer_start=len(asked)
    )


PROMPTS = [
    prompt([5, 6, 7], [8, 9], pictured=True),
    prompt([5, 6, 11, 12, 13], [14], pictured=True),
    prompt([20], [21, 22, 23], pictured=False),
    prompt([15], [16, 17], pictured=True),
]
FEATURES = {KEY: torch.randn(30, 32, generator=torch.Generator().manual_seed(1))}


@pytest.fixture(scope="module")
def network() -> Network:
    return random_network(SMALL, ops=TorchOps(), device=CPU, dtype=torch.float32, seed=0)


def run(network: Network, prompts: list[CalibrationPrompt], form: KvFormat = "none") -> Iterator[Tensor]:
    with torch.inference_mode():
        for part in answer_logits(network, prompts, FEATURES, form, device=CPU, dtype=torch.float32):
            for number in sorted(set(part.owners_S.tolist())):
                yield part.logits_SV[part.owners_S == number]


def test_questions_that_begin_alike_share_whole_pages_before_their_answers() -> None:
    assert [(family.numbers, family.shared) for family in families(PROMPTS)] == [
        ((0, 1), 32),
        ((2,), 0),
        ((3,), 0),
    ]


@pytest.mark.parametrize("form", ["none", "int8"])
@pytest.mark.parametrize("budget", [2048, 40])
def test_prompts_together_get_the_logits_that_they_get_alone(
    form: KvFormat, budget: int, network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(subject.BATCH_TOKENS, "cpu", budget)
    together = list(run(network, PROMPTS, form))
    alone = [logits for prompt in PROMPTS for logits in run(network, [prompt], form)]
    assert [len(part) for part in together] == [2, 1, 3, 2]
    for one, other in zip(together, alone, strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)


def test_the_tokens_that_come_are_those_of_the_answers(network: Network) -> None:
    with torch.inference_mode():
        parts = list(answer_logits(network, PROMPTS, FEATURES, "none", device=CPU, dtype=torch.float32))
    assert torch.cat([part.ids_S for part in parts]).tolist() == [8, 9, 14, 21, 22, 23, 16, 17]
    assert torch.cat([part.owners_S for part in parts]).tolist() == [0, 0, 1, 2, 2, 2, 3, 3]
