"""The network against upstream's numbers: whole, in chunks, through scattered pages, mixed, and on a GPU."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from internvl_golden import CASES, PROMPTS, Golden, golden
from paged_steps import Run, empty_pages, run_step, step_input
from tiny_engine import SPEC
from torch import Tensor

from engines.network import Network
from engines.ops import BetweenAttentions, Weight
from engines.pytorch.ops_torch import TorchOps
from engines.weights.load import load_network, random_network

# Upstream's own fp32 results move by 2.5e-5 with threads and kernels, and the fixtures' weights are rounded
# (6e-5).
TOLERANCE = 1.5e-4
PAGE_TOKENS = 16

Folder = Callable[[str], Path]
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU")


def network(
    folder: Path, reference: Golden, *, device: str = "cpu", dtype: torch.dtype = torch.float32
) -> Network:
    return load_network(folder, reference.spec, ops=TorchOps(), device=torch.device(device), dtype=dtype)


def encode(net: Network, reference: Golden, prompt: str) -> Tensor | None:
    images = reference.prepared(prompt)
    return torch.cat(net.encode_images(images, max_tiles=4)) if images else None


def start_run(reference: Golden, prompt: str, features: Tensor | None, *, first_page: int = 0) -> Run:
    """Return a prompt on pages in falling order, so that neighbours in a sequence are none in memory."""
    return Run(
        token_ids=reference.token_ids(prompt),
        pages=list(range(first_page + 9, first_page - 1, -1)),
        features=features,
        image_id=reference.image_id,
    )


def prefill(net: Network, kv: list, run: Run, *, chunk: int, device: str = "cpu") -> Tensor:
    rows = []
    while run.done < run.num_prompt:
        rows += run_step(net, kv, [(run, min(chunk, run.num_prompt - run.done))], device=device)
    return torch.cat(rows)


def pages_for(reference: Golden, *, device: str = "cpu", dtype: torch.dtype = torch.float32) -> list:
    return empty_pages(
        reference.spec.decoder, num_pages=32, page_tokens=PAGE_TOKENS, device=device, dtype=dtype
    )


def greedy(
    net: Network, kv: list, run: Run, last_row: Tensor, count: int, *, device: str = "cpu"
) -> list[int]:
    tokens = [int(last_row.argmax())]
    while len(tokens) < count:
        run.token_ids.append(tokens[-1])
        tokens.append(int(run_step(net, kv, [(run, 1)], device=device)[0][-1].argmax()))
    return tokens


@pytest.mark.parametrize("case", CASES)
def test_image_features_are_the_references(case: str, internvl_folder: Folder) -> None:
    reference = golden(case)
    net = network(internvl_folder(case), reference)
    for prompt in ("one_image", "two_images"):
        features = encode(net, reference, prompt)
        torch.testing.assert_close(
            features, reference.tensors[f"image_features_{prompt}"].flatten(0, 1), atol=TOLERANCE, rtol=0
        )


@pytest.mark.parametrize("chunk", [1000, 16, 7, 1])  # 7 cuts inside images and pages, 1 fills token by token
@pytest.mark.parametrize("case", CASES)
def test_logits_and_greedy_tokens_are_the_references(case: str, chunk: int, internvl_folder: Folder) -> None:
    reference = golden(case)
    net = network(internvl_folder(case), reference)
    for prompt in PROMPTS:
        kv = pages_for(reference)
        run = start_run(reference, prompt, encode(net, reference, prompt))
        logits = prefill(net, kv, run, chunk=chunk)
        wanted = reference.tensors[f"logits_{prompt}"]
        torch.testing.assert_close(logits[-len(wanted) :], wanted, atol=TOLERANCE, rtol=0)
        tokens = greedy(net, kv, run, logits[-1], 16)
        assert tokens == reference.tensors[f"greedy_{prompt}"].tolist()


@pytest.mark.parametrize("case", CASES)
def test_prompts_that_share_steps_do_not_touch_each_other(case: str, internvl_folder: Folder) -> None:
    """One sequence decodes while two others are prefilled in chunks of different lengths, then all decode."""
    reference = golden(case)
    net = network(internvl_folder(case), reference)
    kv = pages_for(reference)
    runs = [
        start_run(reference, prompt, encode(net, reference, prompt), first_page=first)
        for prompt, first in zip(PROMPTS, (0, 10, 20), strict=True)
    ]
    chosen: list[list[int]] = [[], [], []]
    while any(len(tokens) < 8 for tokens in chosen):
        started = [run for run in runs if run.done >= run.num_prompt or run is runs[0] or runs[0].done]
        parts = [(run, min(5 + 6 * runs.index(run), max(run.num_prompt - run.done, 1))) for run in started]
        parts.sort(key=lambda part: part[0].done < part[0].num_prompt)
        for (run, _), rows in zip(parts, run_step(net, kv, parts), strict=True):
            if run.done >= run.num_prompt:
                chosen[runs.index(run)].append(int(rows[-1].argmax()))
                run.token_ids.append(chosen[runs.index(run)][-1])
    for prompt, tokens in zip(PROMPTS, chosen, strict=True):
        assert tokens[:8] == reference.tensors[f"greedy_{prompt}"].tolist()[:8]


def test_only_sampled_rows_reach_the_head(internvl_folder: Folder) -> None:
    reference = golden("qwen2")
    net = network(internvl_folder("qwen2"), reference)
    run = start_run(reference, "text", None)
    step = step_input([(run, run.num_prompt)], page_tokens=PAGE_TOKENS)
    every = net.hidden(step, pages_for(reference))
    some = net.hidden(replace(step, sample_rows_S=torch.tensor([3, 16])), pages_for(reference))
    assert some.shape == (2, reference.spec.decoder.hidden)
    torch.testing.assert_close(some, every[[3, 16]])
    assert net.logits(some).shape == (2, reference.spec.decoder.vocab)


class CountingOps(TorchOps):
    """Notes the rows that each matrix is multiplied with."""

    def __init__(self) -> None:
        self.rows: list[int] = []

    def linear(self, x_TI: Tensor, weight: Weight) -> Tensor:
        self.rows.append(len(x_TI))
        return super().linear(x_TI, weight)


@pytest.mark.parametrize("sampled", [[], [16], [3, 16]])
def test_the_last_layer_writes_k_and_v_of_all_rows_and_computes_the_sampled_ones(
    sampled: list[int], internvl_folder: Folder
) -> None:
    reference, ops = golden("qwen2"), CountingOps()
    net = load_network(
        internvl_folder("qwen2"), reference.spec, ops=ops, device=torch.device("cpu"), dtype=torch.float32
    )
    run = start_run(reference, "text", None)
    step = step_input([(run, run.num_prompt)], page_tokens=PAGE_TOKENS)
    whole, part = pages_for(reference), pages_for(reference)
    every = net.hidden(step, whole)
    ops.rows.clear()
    some = net.hidden(replace(step, sample_rows_S=torch.tensor(sampled, dtype=torch.int64)), part)
    torch.testing.assert_close(some, every[sampled])
    last = ops.rows[-4:] if sampled else ops.rows[-1:]
    assert last == [run.num_prompt, *[len(sampled)] * 3][: len(last)]
    assert set(ops.rows[: -len(last)]) == {run.num_prompt}
    for found, wanted in zip(part, whole, strict=True):
        torch.testing.assert_close(found.keys_PKTD, wanted.keys_PKTD, rtol=0, atol=0, equal_nan=True)
        torch.testing.assert_close(found.values_PKTD, wanted.values_PKTD, rtol=0, atol=0, equal_nan=True)


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize("chunk", [1000, 7])
@pytest.mark.parametrize("case", CASES)
def test_fp32_on_the_gpu_gives_the_references_tokens(case: str, chunk: int, internvl_folder: Folder) -> None:
    reference = golden(case)
    net = network(internvl_folder(case), reference, device="cuda")
    for prompt in PROMPTS:
        kv = pages_for(reference, device="cuda")
        run = start_run(reference, prompt, encode(net, reference, prompt))
        logits = prefill(net, kv, run, chunk=chunk, device="cuda")
        wanted = reference.tensors[f"logits_{prompt}"]
        torch.testing.assert_close(logits[-len(wanted) :].cpu(), wanted, atol=1e-3, rtol=0)
        tokens = greedy(net, kv, run, logits[-1], 16, device="cuda")
        assert tokens == reference.tensors[f"greedy_{prompt}"].tolist()


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize("case", CASES)
def test_bf16_on_the_gpu_is_as_near_to_fp32_as_bf16_on_the_cpu(case: str, internvl_folder: Folder) -> None:
    """bf16 has 8 bits, so both differ from fp32; the GPU may not differ by much more than the CPU does."""
    reference = golden(case)
    folder = internvl_folder(case)
    for prompt in PROMPTS:
        errors = {}
        for device in ("cpu", "cuda"):
            net = network(folder, reference, device=device, dtype=torch.bfloat16)
            kv = pages_for(reference, device=device, dtype=torch.bfloat16)
            run = start_run(reference, prompt, encode(net, reference, prompt))
            logits = prefill(net, kv, run, chunk=16, device=device).cpu()
            wanted = reference.tensors[f"logits_{prompt}"]
            errors[device] = float((logits[-len(wanted) :] - wanted).norm() / wanted.norm())
        assert errors["cuda"] < max(0.02, 1.5 * errors["cpu"]), errors


class JoiningOps(TorchOps):
    """Counts the layers whose products between two attentions are one op."""

    num_joined = 0

    def layer_products(
        self, attended_TA: Tensor, residual_TH: Tensor, between: BetweenAttentions
    ) -> tuple[Tensor, Tensor]:
        self.num_joined += 1
        return super().layer_products(attended_TA, residual_TH, between)


@pytest.mark.parametrize(
    ("adds", "num_joined"), [(None, 2), ("adapter", 0), ("images", 0), ("no image in the step", 2)]
)
def test_products_between_attentions_are_one_op_where_nothing_is_added_to_them(
    adds: str | None, num_joined: int
) -> None:
    spec = replace(SPEC, vision=None, decoder=replace(SPEC.decoder, num_layers=3))
    if adds in ("images", "no image in the step"):
        spec = replace(spec, decoder=replace(spec.decoder, plora_rank=4))
    ops, cpu = JoiningOps(), torch.device("cpu")
    net = random_network(spec, ops=ops, device=cpu, dtype=torch.float32, seed=0)
    images = adds == "images"
    run = Run(
        token_ids=[1, 2, 3, 4],
        pages=[0],
        features=torch.randn(1, 32) if images else None,
        image_id=3 * images,
    )
    step = step_input([(run, 4)], page_tokens=PAGE_TOKENS)
    if adds == "adapter":
        step = replace(step, adapter_T=torch.full((4,), -1))
    kv = empty_pages(spec.decoder, num_pages=1, page_tokens=PAGE_TOKENS)
    assert torch.isfinite(net.hidden(step, kv)).all()
    assert ops.num_joined == num_joined
