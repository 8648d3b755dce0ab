"""Whole networks on the turbomind table against the torch table, and decode steps out of graphs."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from internvl_golden import golden
from paged_attention import relative_error
from paged_steps import Run, empty_pages, run_step, step_input

from engines.network import Network
from engines.ops import Ops
from engines.pytorch.ops_torch import TorchOps
from engines.spec import DecoderSpec, ModelSpec, RopeSpec
from engines.turbomind.batch_ladder import ladder
from engines.turbomind.graphs import DecodeGraphs
from engines.turbomind.ops_table import TurbomindOps
from engines.weights.load import load_network, random_network

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


def test_the_ladder_ends_at_the_largest_batch_and_wastes_little() -> None:
    for largest in (1, 2, 3, 8, 100, 256):
        sizes = ladder(largest)
        assert sizes == sorted(set(sizes))
        assert sizes[-1] == largest
    assert ladder(256)[:12] == [1, 2, 4, 6, 8, 16, 24, 32, 48, 64, 80, 96]
    for num in range(9, 257):
        size = next(size for size in ladder(256) if size >= num)
        assert size <= 1.8 * num


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


@pytest.fixture(scope="module")
def small(cuda_gpu) -> Network:
    return random_network(
        SMALL, ops=TurbomindOps(cuda_gpu), device=cuda_gpu.device, dtype=torch.bfloat16, seed=1
    )


def graphs_around(network: Network, *, max_batch_size: int) -> tuple[DecodeGraphs, list]:
    kv = empty_pages(SMALL.decoder, num_pages=64, page_tokens=16, device="cuda", dtype=torch.bfloat16)
    graphs = DecodeGraphs(
        network, kv, max_batch_size=max_batch_size, session_len=192, device=torch.device("cuda")
    )
    graphs.capture()
    return graphs, kv


@pytest.mark.gpu
def test_graphs_give_what_eager_steps_give(small) -> None:
    """Batches of 1 to 5 sequences in graphs of up to 8 rows: rows that fill up leave no trace."""
    prompts = [list(range(3, 3 + 30 * i)) for i in range(1, 6)]
    for count in (5, 1, 3):
        graphs, kv = graphs_around(small, max_batch_size=8)
        assert all(bool(torch.isnan(layer.keys_PKTD).all()) for layer in kv), "capturing wrote into pages"
        got = drive(graphs, kv, prompts[:count], steps=6)
        assert relative_error(got, logits(small, SMALL, prompts[:count], steps=6)) < TOLERANCE
        assert graphs.replays == 6


@pytest.mark.gpu
def test_a_step_with_a_prompt_is_not_replayed(small) -> None:
    graphs, kv = graphs_around(small, max_batch_size=2)
    graphs.hidden(step_input([(Run(token_ids=[1, 2], pages=[0]), 2)], page_tokens=16, device="cuda"), kv)
    assert graphs.replays == 0
