"""Short steps with chunks out of graphs against eager ones; on a CPU as in `test_graphs.py`."""

from dataclasses import replace

import pytest
import torch
from emulated_gpu import EmulatedGpu
from paged_attention import relative_error
from paged_steps import Run, empty_pages, run_step
from repeater import Repeater

from engines.network import Network
from engines.spec import DecoderSpec, ModelSpec, RopeSpec
from engines.turbomind.chunk_graphs import MOST_SEQUENCES, ChunkGraphs
from engines.turbomind.chunk_ladder import chunk_ladder
from engines.turbomind.graphs import CudaRecorder
from engines.turbomind.ops_table import TurbomindOps
from engines.weights.load import random_network

BF16 = torch.bfloat16
IMAGE = 99
SMALL = ModelSpec(
    family="internvl",
    decoder=DecoderSpec(
        num_layers=2,
        hidden=64,
        num_heads=4,
        num_kv_heads=2,
        head_dim=16,
        ffn=64,
        vocab=100,
        norm_eps=1e-5,
        rope=RopeSpec(theta=1e4),
        max_positions=4096,
    ),
    vision=None,
    dtype="bfloat16",
    decoder_names="internlm2",
)
SIZES = (8, 16, 24)


@pytest.fixture(scope="module")
def network(gpu) -> Network:
    return random_network(SMALL, ops=TurbomindOps(gpu), device=gpu.device, dtype=BF16, seed=1)


def pages(gpu) -> list:
    return empty_pages(SMALL.decoder, num_pages=12, page_tokens=16, device=str(gpu.device), dtype=BF16)


def graphs_around(network: Network, kv: list, gpu) -> ChunkGraphs:
    recorder = Repeater() if isinstance(gpu, EmulatedGpu) else CudaRecorder()
    graphs = ChunkGraphs(network, kv, sizes=SIZES, session_len=32, device=gpu.device, recorder=recorder)
    graphs.capture()
    return graphs


def steps(network: Network, kv: list, *, device: str) -> torch.Tensor:
    """Return the logits of steps that grow and shrink: texts, a picture in two chunks, one that decodes."""
    generator = torch.Generator().manual_seed(3)
    rows = torch.randn(7, SMALL.decoder.hidden, generator=generator).to(device, BF16)
    text = Run(token_ids=[5, 6, 7], pages=[4])
    picture = Run(token_ids=[1, *[IMAGE] * 7, 2, 3], pages=[0, 1], features=rows, image_id=IMAGE)
    found = run_step(network, kv, [(picture, 5), (text, 3)], device=device)
    text.token_ids.append(8)
    found += run_step(network, kv, [(text, 1), (picture, 5)], device=device)
    found += run_step(network, kv, [(Run(token_ids=list(range(8, 29)), pages=[2, 3]), 7)], device=device)
    found += run_step(network, kv, [(Run(token_ids=[9, 3], pages=[6]), 2)], device=device)
    return torch.cat([rows_of.clone() for rows_of in found])


def test_graphs_give_what_eager_steps_give(network, gpu) -> None:
    """Leftovers of larger steps and of pictures leave no trace in smaller ones and in texts."""
    device = str(gpu.device)
    wanted = steps(network, pages(gpu), device=device)
    kv = pages(gpu)
    graphs = graphs_around(network, kv, gpu)
    assert all(bool(torch.isnan(layer.keys_PKTD).all()) for layer in kv), "capturing wrote into pages"
    assert relative_error(steps(graphs, kv, device=device), wanted) < 0.01
    assert graphs.replays == 4
    assert bool(torch.isnan(kv[0].keys_PKTD[7:]).all()), "a row without a token was written"
    assert bool(torch.isnan(kv[0].keys_PKTD[6, :, 2:]).all()), "a row without a token was written"


def test_what_is_no_short_step_with_chunks_is_not_replayed(network, gpu) -> None:
    kv, device = pages(gpu), str(gpu.device)
    graphs = graphs_around(network, kv, gpu)
    long = Run(token_ids=[1] * SIZES[-1], pages=[0, 1])
    run_step(graphs, kv, [(long, SIZES[-1])], device=device)  # leaves no row that is nobody's
    long.token_ids.append(2)
    run_step(graphs, kv, [(long, 1)], device=device)  # decodes only
    many = [Run(token_ids=[1], pages=[i]) for i in range(MOST_SEQUENCES + 1)]
    run_step(graphs, kv, [(run, 1) for run in many], device=device)
    run_step(graphs, pages(gpu), [(Run(token_ids=[1, 2], pages=[2]), 2)], device=device)  # other pages
    assert graphs.replays == 0


def test_the_ladder_holds_the_largest_chunk_and_a_row_that_is_nobodys() -> None:
    spec = SMALL.decoder
    assert chunk_ladder(spec, "none", max_chunk_tokens=31) == [32]
    assert chunk_ladder(spec, "none", max_chunk_tokens=64) == [32, 64, 128]
    assert chunk_ladder(spec, "none", max_chunk_tokens=8192)[-1] == 640


def test_steps_that_differ_in_more_than_their_numbers_are_not_captured() -> None:
    spec = SMALL.decoder
    assert chunk_ladder(spec, "int8", max_chunk_tokens=64) == []
    assert chunk_ladder(replace(spec, plora_rank=8), "none", max_chunk_tokens=64) == []
    assert chunk_ladder(replace(spec, kind="visual_experts"), "none", max_chunk_tokens=64) == []
