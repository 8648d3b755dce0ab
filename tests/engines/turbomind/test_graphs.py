"""Decode steps out of graphs against eager ones.

On a GPU out of CUDA graphs; on a CPU the computation is repeated on the same fixed tensors, which shows all
but the capture itself.
"""

from copy import copy
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from emulated_gpu import EmulatedGpu
from lora import adapter_specs, among
from paged_attention import relative_error
from paged_steps import Run, decode_rows, empty_pages, run_step, step_input
from repeater import Repeater
from sequences import ends_of, sequence
from tiny_engine import options

from engines.network import Network
from engines.options import MOST_GRAMMAR_ROWS, SpeculationOptions
from engines.parallel import TpGroup
from engines.sampling.choice_rows import CHOICE_WORDS, ChoiceRows, choice_rows
from engines.sampling.next_token import first_argmax
from engines.sampling.penalties import TokenCounts
from engines.spec import DecoderSpec, ModelSpec, RopeSpec
from engines.turbomind.batch_ladder import ladder, proposing_ladder
from engines.turbomind.graphs import Choose, DecodeGraphs
from engines.turbomind.ops.choose_token import choose_token
from engines.turbomind.ops.step_rows import copy_ids, lay_out_rows
from engines.turbomind.ops_table import TurbomindOps
from engines.turbomind.recorder import CudaRecorder, Recorder
from engines.vision.vlm import Vlm
from engines.weights.load import random_network, random_tensors

BF16 = torch.bfloat16
SMALL = ModelSpec(
    family="internvl",
    decoder=DecoderSpec(
        num_layers=1,
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


@pytest.fixture(scope="module")
def network(gpu) -> Network:
    return random_network(SMALL, ops=TurbomindOps(gpu), device=gpu.device, dtype=BF16, seed=1)


def pages(gpu) -> list:
    return empty_pages(SMALL.decoder, num_pages=16, page_tokens=16, device=str(gpu.device), dtype=BF16)


def graphs_around(network: Network, kv: list, gpu, *, max_batch_size: int) -> DecodeGraphs:
    recorder: Recorder = Repeater() if isinstance(gpu, EmulatedGpu) else CudaRecorder()
    graphs = DecodeGraphs(
        network,
        kv,
        max_batch_size=max_batch_size,
        session_len=32,
        device=gpu.device,
        recorder=recorder,
        choose=chooser(gpu),
        lay_out=partial(lay_out_rows, gpu),
        copy_ids=partial(copy_ids, gpu),
        proposing_sizes=[size for size in ladder(max_batch_size) if size > 1],
    )
    graphs.capture()
    return graphs


def decode(network: Network, kv: list, counts: list[int], *, device: str) -> torch.Tensor:
    """Return the logits of decode steps with these numbers of sequences, after a prompt of each."""
    runs = [Run(token_ids=list(range(3, 5 + 6 * i)), pages=[2 * i, 2 * i + 1]) for i in range(max(counts))]
    for run in runs:
        run_step(network, kv, [(run, run.num_prompt)], device=device)
    rows = []
    for step, count in enumerate(counts):
        for run in runs[:count]:
            run.token_ids.append(7 * step + run.pages[0])
        if isinstance(network, DecodeGraphs):
            rows.append(replay(network, runs[:count]))
        else:
            rows += run_step(network, kv, [(run, 1) for run in runs[:count]], device=device)
    return torch.cat(rows)


def finish(result: torch.Tensor) -> None:
    """Wait for what makes a tensor."""
    if result.is_cuda:
        torch.cuda.synchronize(result.device)


def replay(graphs: DecodeGraphs, runs: list[Run]) -> torch.Tensor:
    """Return the logits of a replayed step, which the next one does not write over."""
    rows = decode_rows(runs, page_tokens=16)
    logits = graphs.replay(rows, None).logits_SV.float().clone()
    finish(logits)  # the GPU reads `rows` until then
    for run in runs:
        run.done += 1
    return logits


def test_graphs_give_what_eager_steps_give(network, gpu) -> None:
    """Growing and shrinking batches: rows that fill up hold leftovers of larger steps and leave no trace."""
    counts, device = [1, 3, 4, 3, 1], str(gpu.device)
    wanted = decode(network, pages(gpu), counts, device=device)
    kv = pages(gpu)
    graphs = graphs_around(network, kv, gpu, max_batch_size=4)
    assert all(bool(torch.isnan(layer.keys_PKTD).all()) for layer in kv), "capturing wrote into pages"
    # Steps of 3 run with 4 rows, for which a matrix product may sum in another order.
    assert relative_error(decode(graphs, kv, counts, device=device), wanted) < 0.01
    assert graphs.replays == len(counts)
    assert bool(torch.isnan(kv[0].keys_PKTD[8:]).all()), "a row without a sequence was written"


def test_rows_of_one_sequence_see_each_other_whatever_their_order(network, gpu) -> None:
    device, prompt, behind = str(gpu.device), list(range(3, 17)), [9, 31, 4, 77]  # over the end of a page
    kv, run = pages(gpu), Run(token_ids=prompt, pages=[4, 1])
    run_step(network, kv, [(run, run.num_prompt)], device=device)
    run.token_ids.extend(behind)
    wanted = torch.cat([row for _ in behind for row in run_step(network, kv, [(run, 1)], device=device)])
    for order in ([0, 1, 2, 3], [3, 2, 1, 0]):
        kv, run = pages(gpu), Run(token_ids=prompt[:14], pages=[4, 1])
        graphs = graphs_around(network, kv, gpu, max_batch_size=4)
        run_step(network, kv, [(run, run.num_prompt)], device=device)
        run.token_ids.extend(behind)
        rows = [copy(run) for _ in behind]
        for row, place in zip(rows, order, strict=True):
            row.done += place
        found = graphs.replay(decode_rows(rows, page_tokens=16, has_proposals=True), None).logits_SV.float()
        assert relative_error(found, wanted[order]) < 0.01
        assert graphs.replays == 1


def test_attention_waits_for_all_keys_that_rows_of_one_sequence_bring(network, gpu, monkeypatch) -> None:
    """It reads keys ahead of the kernel before it has ended, up to a sequence's last ones."""
    asked: list[tuple[str, bool]] = []
    ask = gpu.kernel

    def noted(file: str, entry: str, *how: Any, in_order: bool = False, **others: Any) -> Any:
        asked.append((entry, in_order))
        return ask(file, entry, *how, in_order=in_order, **others)

    monkeypatch.setattr(gpu, "kernel", noted)
    run = Run(token_ids=[3, 4], pages=[0])
    step = step_input([(run, 1)], page_tokens=16, device=str(gpu.device))
    for has_proposals in (False, True):
        gpu.plans.clear()
        decodes = replace(step.attention, num_decodes=1, has_proposals=has_proposals)
        network.hidden(replace(step, attention=decodes), pages(gpu))
    assert [one for one in asked if "attention" in one[0]] == [
        ("attention_decode", False),
        ("attention_decode", True),
    ]


def no_counts(device: torch.device) -> TokenCounts:
    return TokenCounts(max_sequences=1, vocab=SMALL.decoder.vocab, device=device)


def chooser(gpu) -> Choose:
    seen, outputs = no_counts(gpu.device).tables()
    return partial(choose_token, gpu, seen_NV=seen, outputs_NV=outputs)


def drawn(temperatures: list[float], device: torch.device) -> ChoiceRows:
    rows = [sequence([1], seed=seed, temperature=one, top_k=9) for seed, one in enumerate(temperatures)]
    return choice_rows(ends_of(rows), no_counts(device), SMALL.decoder.vocab)


def test_a_replayed_step_chooses_its_tokens_and_forgets_how_the_last_one_did(network, gpu) -> None:
    kv, device = pages(gpu), str(gpu.device)
    graphs = graphs_around(network, kv, gpu, max_batch_size=4)
    runs = [Run(token_ids=list(range(3, 5 + i)), pages=[i]) for i in range(3)]
    for run in runs:
        run_step(network, kv, [(run, run.num_prompt)], device=device)
        run.token_ids.append(9)
    rows = decode_rows(runs, page_tokens=16)
    greedy = torch.zeros(3, CHOICE_WORDS, dtype=torch.int64, device=gpu.device)
    for temperatures in ([0.0] * 3, [1.0, 0.0, 2.0], [0.5] * 3, [0.0] * 3):
        how = drawn(temperatures, gpu.device)
        ids = graphs.replay(rows, how).ids_S.clone()
        logits = graphs.replay(rows, None).logits_SV
        wanted = chooser(gpu)(logits, greedy if how.choices_SC is None else how.choices_SC)
        assert ids.tolist() == wanted.tolist()
        if how.choices_SC is None:
            assert ids.tolist() == first_argmax(logits).tolist()


def test_rows_of_adapters_are_replayed_beside_bare_ones(gpu) -> None:
    """Steps of the bare model alone leave no adapter's number behind, and the other way round."""
    spec = replace(SMALL, adapters=adapter_specs({str(i): Path() for i in range(3)}))
    ops = TurbomindOps(gpu)
    tensors = random_tensors(SMALL, device=gpu.device, dtype=BF16, seed=1)
    group = TpGroup(rank=0, size=1)
    network = Vlm(spec, among(tensors, 3, seed=2), ops=ops, group=group)
    kv, device = pages(gpu), str(gpu.device)
    graphs = graphs_around(network, kv, gpu, max_batch_size=2)
    runs = [Run(token_ids=[3, 4 + i], pages=[i]) for i in range(2)]
    run_step(network, kv, [(run, 2) for run in runs], device=device)
    for turn, adapters in enumerate(([2, -1], None, [0, 1])):
        count = 2 if adapters is None else len(adapters)
        for run in runs[:count]:
            run.token_ids.append(7 * turn + run.pages[0])
        step = step_input([(run, 1) for run in runs[:count]], page_tokens=16, device=device)
        if adapters is not None:
            step = replace(step, adapter_T=torch.tensor(adapters, device=gpu.device))
        wanted = network.logits(network.hidden(step, kv)).float()
        bare = network.logits(network.hidden(replace(step, adapter_T=None), kv)).float()
        rows = decode_rows(runs[:count], page_tokens=16, adapters=adapters)
        assert relative_error(graphs.replay(rows, None).logits_SV.float(), wanted) < 0.01
        changed = [bool((row != other).any()) for row, other in zip(wanted, bare, strict=True)]
        assert changed == [adapter >= 0 for adapter in adapters or [-1] * count]
        for run in runs[:count]:
            run.done += 1
    assert graphs.replays == 3


def test_steps_of_other_kinds_are_run_and_chosen_launch_by_launch(network, gpu) -> None:
    kv, device = pages(gpu), str(gpu.device)
    graphs = graphs_around(network, kv, gpu, max_batch_size=2)
    prompt = step_input([(Run(token_ids=[1, 2], pages=[0]), 2)], page_tokens=16, device=device)
    logits = graphs.logits(graphs.hidden(prompt, kv))
    assert graphs.choose(logits, ChoiceRows(choices_SC=None)).tolist() == first_argmax(logits).tolist()
    assert graphs.replays == 0


def test_a_token_that_only_the_gpu_knows_is_read_where_the_last_step_left_it(network, gpu) -> None:
    kv, device = pages(gpu), str(gpu.device)
    graphs = graphs_around(network, kv, gpu, max_batch_size=4)
    runs = [Run(token_ids=[3, 4 + i], pages=[i]) for i in range(3)]
    for run in runs:
        run_step(network, kv, [(run, run.num_prompt)], device=device)
        run.token_ids.append(9)
    greedy = ChoiceRows(choices_SC=None)
    rows = decode_rows(runs, page_tokens=16)
    first = graphs.replay(rows, greedy).ids_S
    known = first.tolist()
    for run in runs:
        run.done += 1
    moved = [runs[2], runs[0]]  # the second has ended, the others changed places
    unknown = decode_rows(moved, page_tokens=16, sources=[2, 0], last_ids=first)
    found = graphs.replay(unknown, greedy).ids_S.tolist()
    for run, token in zip(moved, [known[2], known[0]], strict=True):
        run.token_ids.append(token)
    assert found == graphs.replay(decode_rows(moved, page_tokens=16), greedy).ids_S.tolist()


def test_the_ladder_ends_at_the_largest_batch_and_wastes_little() -> None:
    for largest in (1, 2, 3, 8, 100, 256):
        sizes = ladder(largest)
        assert sizes == sorted(set(sizes))
        assert sizes[-1] == largest
    assert ladder(256)[:16] == [1, 2, 4, 6, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128]
    assert {8, 32, 64, 128, 256} <= set(ladder(512))
    for num in range(129, 1025):  # where products are bound by arithmetic
        size = next(size for size in ladder(1024) if size >= num)
        assert size - num <= num / 8


def test_steps_with_proposed_tokens_are_captured_up_to_the_most_rows_that_they_have() -> None:
    limits = options().scheduler
    how = SpeculationOptions(num_tokens=4, match_tokens=3, max_sequences=4, grammar_tokens=0)
    assert proposing_ladder(replace(limits, max_batch_size=128)) == []
    assert proposing_ladder(replace(limits, max_batch_size=128, speculation=how)) == [2, 4, 6, 8, 16, 24]
    assert proposing_ladder(replace(limits, max_batch_size=7, speculation=how)) == [2, 4, 6, 7]
    grammars = replace(how, num_tokens=0, grammar_tokens=5)
    assert (
        proposing_ladder(replace(limits, max_batch_size=128, speculation=grammars))[-1] == MOST_GRAMMAR_ROWS
    )
    assert proposing_ladder(replace(limits, max_batch_size=3, speculation=grammars)) == [2, 3]
    assert proposing_ladder(
        replace(limits, max_batch_size=128, speculation=replace(how, max_sequences=1))
    ) == [
        2,
        4,
        6,
    ]
