"""Whole networks on the turbomind table against the torch table, and decode steps out of graphs."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from internvl_golden import golden
from paged_attention import relative_error
from paged_steps import Run, empty_pages, run_step

from engines.network import Network
from engines.ops import Ops
from engines.pytorch.ops_torch import TorchOps
from engines.spec import DecoderSpec, ModelSpec, RopeSpec
from engines.turbomind.ops_table import TurbomindOps
from engines.weights.load import load_network

# Both tables round to bf16 at the same places, but sum in other orders; heads must be a multiple of 16.
CASES = ("internlm2_vit300m", "internlm2_vit6b", "llama3_vit6b", "phi3_short", "yi_vit6b")
TOLERANCE = 0.03
SMALL = ModelSpec(
    family="internvl",
    decoder=DecoderSpec(
        num_layers=4,
        hidden=512,
        num_heads=8,
        num_kv_heads=2,
        head_dim=64,
        ffn=1024,
        vocab=1000,
        norm_eps=1e-5,
        rope=RopeSpec(theta=1e4),
        max_positions=4096,
    ),
    vision=None,
    dtype="bfloat16",
    decoder_names="internlm2",
)


def logits(network: Network, spec: ModelSpec, prompts: list[list[int]], *, steps: int) -> torch.Tensor:
    """Return the logits of prefill in chunks of 40 and of `steps` forced decode steps of all prompts."""
    kv = empty_pages(spec.decoder, num_pages=64, page_tokens=16, device="cuda", dtype=torch.bfloat16)
    return drive(network, kv, prompts, steps=steps)


def drive(network: Network, kv: list, prompts: list[list[int]], *, steps: int) -> torch.Tensor:
    runs = [Run(token_ids=list(ids), pages=list(range(12 * i, 12 * i + 12))) for i, ids in enumerate(prompts)]
    rows = []
    for run in runs:
        while run.done < run.num_prompt:
            rows += run_step(network, kv, [(run, min(40, run.num_prompt - run.done))], device="cuda")
    for i in range(steps):
        for run in runs:
            run.token_ids.append(7 * i + run.pages[0])
        rows += run_step(network, kv, [(run, 1) for run in runs], device="cuda")
    return torch.cat(rows)


@pytest.mark.gpu
@pytest.mark.parametrize("case", CASES)
def test_golden_networks_give_the_torch_tables_logits(
    cuda_gpu, case: str, internvl_folder: Callable[[str], Path]
) -> None:
    reference = golden(case)
    spec = replace(reference.spec, vision=None)
    if spec.decoder.head_dim % 16:
        pytest.skip(f"heads of {spec.decoder.head_dim}")
    prompts = [reference.token_ids("text")] * 2

    def run(ops: Ops) -> torch.Tensor:
        network = load_network(
            internvl_folder(case), reference.spec, ops=ops, device=cuda_gpu.device, dtype=torch.bfloat16
        )
        return logits(network, spec, prompts, steps=4)

    assert relative_error(run(TurbomindOps(cuda_gpu)), run(TorchOps())) < TOLERANCE
