"""Steps with chunks out of graphs against eager ones; on a CPU as in `test_graphs.py`."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from emulated_gpu import EmulatedGpu
from lora import adapter_specs
from paged_attention import relative_error
from paged_steps import Run, empty_pages, step_input
from repeater import Repeater

from engines.memory.kv_cache import allocate_kv
from engines.network import Network
from engines.options import KvFormat, KvOptions
from engines.quant.weight_quant import WeightQuant
from engines.spec import DecoderSpec, ModelSpec, RopeSpec
from engines.steps.step import StepInput
from engines.turbomind.chunk_graphs import MOST_CHUNKS, ChunkGraphs
from engines.turbomind.chunk_ladder import chunk_ladder
from engines.turbomind.ops_table import TurbomindOps
from engines.turbomind.recorder import CudaRecorder
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
        head_dim=32,
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
SIZES = (8, 16)
PAGE_TOKENS = 16


@pytest.fixture(scope="module")
def network(gpu) -> Network:
    return random_network(SMALL, ops=TurbomindOps(gpu), device=gpu.device, dtype=BF16, seed=1)


def pages(gpu, format: KvFormat = "none") -> list:
    """Return a pool; of numbers, it is full of NaN."""
    options = KvOptions(
        format=format, page_tokens=PAGE_TOKENS, memory=0.5, num_pages=None, prefix_caching=False
    )
    pool = allocate_kv(SMALL.decoder, options, num_pages=24, tp=1, dtype=BF16, device=gpu.device)
    for layer in pool:
        for rows, _ in layer.pages:
            rows.fill_(torch.nan if format == "none" else 0)
    return pool


def graphs_around(network: Network, kv: list, gpu, *, sizes: tuple[int, ...] = SIZES) -> ChunkGraphs:
    graphs = ChunkGraphs(
        network,
        kv,
        sizes=sizes,
        max_batch_size=9,
        session_len=32,
        device=gpu.device,
        dtype=BF16,
        recorder=Repeater() if isinstance(gpu, EmulatedGpu) else CudaRecorder(),
    )
    graphs.capture()
    return graphs


def run_step(network: Network, kv: list, parts: list[tuple[Run, int]]) -> torch.Tensor:
    """Run one step and return the logits of the last token of each run."""
    device = str(kv[0].keys_PKTD.device)
    step = step_input(parts, page_tokens=PAGE_TOKENS, device=device)
    ends = step.attention.q_starts_B1[1:].long() - 1
    logits = network.logits(network.hidden(replace(step, sample_rows_S=ends), kv))
    for run, count in parts:
        run.done += count
    return logits.float().clone()


def steps(network: Network, kv: list) -> torch.Tensor:
    """Return the logits of steps that grow and shrink: texts, a picture in two chunks, some that decode."""
    device = kv[0].keys_PKTD.device
    generator = torch.Generator().manual_seed(3)
    rows = torch.randn(7, SMALL.decoder.hidden, generator=generator).to(device, BF16)
    text = Run(token_ids=[5, 6, 7], pages=[4])
    picture = Run(token_ids=[1, *[IMAGE] * 7, 2, 3], pages=[0, 1], features=rows, image_id=IMAGE)
    found = [run_step(network, kv, [(picture, 5), (text, 3)])]
    text.token_ids.append(8)
    found.append(run_step(network, kv, [(text, 1), (picture, 5)]))
    others = [Run(token_ids=[9, 10 + i], pages=[10 + i]) for i in range(3)]
    found.append(run_step(network, kv, [(run, 2) for run in others]))
    decoding = [text, picture, *others]
    for run in decoding:
        run.token_ids.append(11)
    long = Run(token_ids=list(range(8, 15)), pages=[2, 3])
    found.append(run_step(network, kv, [*[(run, 1) for run in decoding], (long, 7)]))
    text.token_ids.append(12)
    found.append(run_step(network, kv, [(text, 1), (Run(token_ids=[9, 3], pages=[6]), 2)]))
    return torch.cat(found)


# Rows that fill up a step may change the cut of a kernel, which sums in another order.
TOLERANCE = 0.01


def test_graphs_give_what_eager_steps_give(network, gpu) -> None:
    """Leftovers of larger steps, of decodes and of pictures leave no trace in smaller ones and in texts."""
    wanted = steps(network, pages(gpu))
    kv = pages(gpu)
    graphs = graphs_around(network, kv, gpu)
    assert all(bool(torch.isnan(layer.keys_PKTD).all()) for layer in kv), "capturing wrote into pages"
    assert relative_error(steps(graphs, kv), wanted) < TOLERANCE
    assert graphs.replays == 5
    for layer in kv:
        for page, first in ((5, 0), (6, 2), (7, 0), (13, 0)):
            assert bool(torch.isnan(layer.keys_PKTD[page, :, first:]).all()), "no token's row was written"


class ShowsAdapters:
    """A network whose rows are the numbers of the adapters that they run through, -2 without any."""

    spec = replace(SMALL, adapters=adapter_specs({str(i): Path() for i in range(2)}))

    def hidden(self, step: StepInput, kv: Any) -> torch.Tensor:
        if step.adapter_T is None:
            return torch.full((len(step.sample_rows_S),), -2)
        return step.adapter_T[step.sample_rows_S]


def test_each_row_of_a_replayed_step_runs_through_its_adapter() -> None:
    kv = empty_pages(SMALL.decoder, num_pages=8, page_tokens=PAGE_TOKENS)
    graphs = ChunkGraphs(
        ShowsAdapters(), kv, sizes=(8,), max_batch_size=4, session_len=32, device=torch.device("cpu"),
        dtype=torch.float32, recorder=Repeater(),
    )  # fmt: skip
    graphs.capture()
    decoding, prompt = Run(token_ids=[5, 6], pages=[4], done=1), Run(token_ids=[9, 3], pages=[6])
    decoding.num_prompt = 1
    step = step_input([(decoding, 1), (prompt, 2)], page_tokens=PAGE_TOKENS)
    step = replace(step, sample_rows_S=torch.tensor([0, 2]))
    for adapters, wanted in (([-1, 1, 1], [-1, 1]), (None, [-2, -2]), ([0, -1, -1], [0, -1])):
        numbers = None if adapters is None else torch.tensor(adapters)
        assert graphs.hidden(replace(step, adapter_T=numbers), kv).tolist() == wanted
    assert graphs.replays == 3


def test_chunks_over_quantized_pages_are_replayed_too(network, gpu) -> None:
    def decoding_beside_a_prompt(network: Network, kv: list) -> torch.Tensor:
        text = Run(token_ids=[5, 6, 7], pages=[4])
        first = run_step(network, kv, [(text, 3)])
        text.token_ids.append(8)
        return torch.cat([first, run_step(network, kv, [(text, 1), (Run(token_ids=[9, 3], pages=[6]), 2)])])

    wanted = decoding_beside_a_prompt(network, pages(gpu, "int8"))
    kv = pages(gpu, "int8")
    graphs = graphs_around(network, kv, gpu, sizes=(8,))
    assert not any(bool(layer.keys_PKTD.any()) for layer in kv), "capturing wrote into pages"
    assert relative_error(decoding_beside_a_prompt(graphs, kv), wanted) < TOLERANCE
    assert graphs.replays == 2


def test_what_no_recording_has_room_for_is_not_replayed(network, gpu) -> None:
    kv = pages(gpu)
    graphs = graphs_around(network, kv, gpu)
    long, short = Run(token_ids=[1] * 10, pages=[0, 1]), Run(token_ids=[1] * 6, pages=[2])
    run_step(graphs, kv, [(long, 10), (short, 6)])  # leaves no row that is nobody's
    long.token_ids.append(2)
    run_step(graphs, kv, [(long, 1)])  # decodes only
    many = [Run(token_ids=[1], pages=[i]) for i in range(MOST_CHUNKS + 1)]
    run_step(graphs, kv, [(run, 1) for run in many])
    for run in [*many, long]:
        run.token_ids.append(2)
    decodes = [(run, 1) for run in [*many, long]]  # ten
    run_step(graphs, kv, [*decodes, (Run(token_ids=[1, 2], pages=[20]), 2)])
    run_step(graphs, pages(gpu), [(Run(token_ids=[1, 2], pages=[2]), 2)])  # other pages
    assert graphs.replays == 0


def test_the_ladder_holds_the_largest_step_and_a_row_that_is_nobodys() -> None:
    assert chunk_ladder(SMALL, tp=1, max_tokens=31) == [32]
    assert chunk_ladder(SMALL, tp=1, max_tokens=64) == [32, 64, 128]
    assert chunk_ladder(SMALL, tp=1, max_tokens=8192)[-1] == 2048


def test_the_ladder_ends_where_a_gpu_takes_longer_than_the_host() -> None:
    eight_b = replace(
        SMALL.decoder, hidden=4096, num_heads=32, num_kv_heads=8, head_dim=128, ffn=14336, num_layers=32
    )
    spec = replace(SMALL, decoder=eight_b)
    assert chunk_ladder(spec, tp=1, max_tokens=8192)[-1] == 512
    assert chunk_ladder(spec, tp=2, max_tokens=8192)[-1] == 1024
    fp8 = replace(spec, quantization=WeightQuant(format="fp8"))
    assert chunk_ladder(fp8, tp=1, max_tokens=8192)[-1] == 1536


def test_steps_that_differ_in_more_than_their_numbers_are_not_captured() -> None:
    for changes in ({"plora_rank": 8}, {"kind": "visual_experts"}):
        spec = replace(SMALL, decoder=replace(SMALL.decoder, **changes))
        assert chunk_ladder(spec, tp=1, max_tokens=64) == []
