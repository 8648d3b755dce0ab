"""The turbomind table as a whole: mixed steps, linear layers of any size, and golden networks."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from between_layers import random_between
from internvl_golden import golden
from paged_attention import make_batch, make_pages, plain_attention, quantized, relative_error
from paged_steps import Run, empty_pages, run_step

from engines.memory.kv_layer import KvLayer
from engines.network import Network
from engines.ops import Dense, Fp8, Int8, Ops, Weight
from engines.pytorch.ops_torch import TorchOps
from engines.turbomind.ops_table import TurbomindOps
from engines.weights.load import load_network

BF16 = torch.bfloat16
# Golden networks whose heads are a multiple of 16. Both tables round to bf16 at the same places, but sum in
# other orders, and these networks have random weights, which forgive nothing.
CASES = ("internlm2_dynamic_ntk", "internlm2_vit300m", "phi3_long")
TOLERANCE = 0.03


@pytest.mark.parametrize("decodes", [0, 2, 4])
def test_decodes_and_chunks_of_one_step_share_a_result(gpu, decodes: int) -> None:
    new, lengths = (
        [1] * decodes + [5, 70][: 4 - decodes],
        [5, 130, 64, 200][:decodes] + [9, 90][: 4 - decodes],
    )
    batch, num_pages = make_batch(new, lengths, page_tokens=16, device=gpu.device, num_decodes=decodes)
    kv = make_pages(batch, num_pages, num_kv_heads=2, page_tokens=16, dim=64, dtype=BF16)
    q = torch.randn(sum(new), 6, 64, dtype=BF16, device=gpu.device)[:, :4]
    got = TurbomindOps(gpu).attention_paged(q, kv, batch, scale=0.125, window=None)
    assert relative_error(got, plain_attention(q, kv, batch, scale=0.125, window=None)) < 4e-3


@pytest.mark.parametrize("decodes", [0, 2, 4])
def test_a_step_stores_its_tokens_and_attends_to_them(gpu, decodes: int) -> None:
    new = [1] * decodes + [5, 70][: 4 - decodes]
    lengths = [5, 130, 64, 200][:decodes] + [9, 90][: 4 - decodes]
    batch, num_pages = make_batch(new, lengths, page_tokens=16, device=gpu.device, num_decodes=decodes)
    kv = make_pages(batch, num_pages, num_kv_heads=2, page_tokens=16, dim=64, dtype=BF16)
    twin = KvLayer(keys_PKTD=kv.keys_PKTD.clone(), values_PKTD=kv.values_PKTD.clone())
    rows = torch.randn(sum(new), 8, 64, dtype=BF16, device=gpu.device).split((4, 2, 2), dim=1)
    angles = torch.randn(sum(new), 32, device=gpu.device)
    tables, how = (angles.cos(), angles.sin()), {"scale": 0.125, "window": None}
    got = TurbomindOps(gpu).rope_store_attend(*rows, *tables, kv, batch, **how)
    wanted = TorchOps().rope_store_attend(*rows, *tables, twin, batch, **how)
    assert relative_error(got, wanted) < 1e-2  # a rotated number may move by its last bit
    for pages, wanted_pages in zip(kv.pages, twin.pages, strict=True):
        torch.testing.assert_close(pages[0], wanted_pages[0], rtol=2**-7, atol=2**-7, equal_nan=True)


@pytest.mark.parametrize("num_rows", [1, 40])
def test_linear_layers_of_any_size_are_taken(gpu, num_rows: int) -> None:
    x = torch.randn(2, num_rows, 128, dtype=BF16, device=gpu.device)
    weight, bias = (
        torch.randn(34, 128, dtype=BF16, device=gpu.device),
        torch.randn(34, dtype=BF16, device=gpu.device),
    )
    wanted = torch.nn.functional.linear(x.float(), weight.float(), bias.float())
    got = TurbomindOps(gpu).linear(x, Dense(weight_OI=weight, bias_O=bias))
    assert got.shape == (2, num_rows, 34)
    assert relative_error(got, wanted) < 2.5e-3


def test_halves_that_are_no_multiple_of_a_load_are_computed_all_the_same(gpu) -> None:
    gate_up = torch.randn(5, 2 * 84, dtype=BF16, device=gpu.device)
    got = TurbomindOps(gpu).silu_mul(gate_up)
    torch.testing.assert_close(got, TorchOps().silu_mul(gate_up), rtol=2**-7, atol=1e-3)


@pytest.mark.parametrize("num_rows", [0, 3, 300])
@pytest.mark.parametrize("kind", ["dense", "fp8", "int8"])
def test_a_gate_and_the_layer_behind_it_give_what_two_ops_give(gpu, kind: str, num_rows: int) -> None:
    gate_up = torch.randn(num_rows, 2 * 256, dtype=BF16, device=gpu.device)
    weight, scale = torch.randn(48, 256, device=gpu.device), torch.rand(48, device=gpu.device)
    layers: dict[str, Weight] = {
        "dense": Dense(weight_OI=weight.to(BF16), bias_O=None),
        "fp8": Fp8(weight_OI=weight.to(torch.float8_e4m3fn), scale_O=scale, bias_O=None),
        "int8": Int8(weight_OI=(30 * weight).clamp(-127, 127).to(torch.int8), scale_O=scale, bias_O=None),
    }
    ops = TurbomindOps(gpu)
    got = ops.silu_mul_linear(gate_up, layers[kind])
    assert torch.equal(got, ops.linear(ops.silu_mul(gate_up), layers[kind]))


@pytest.mark.parametrize("num_rows", [3, 40, 300])
@pytest.mark.parametrize("kind", ["dense", "fp8"])
def test_a_feed_forward_layer_gives_the_twins_result(gpu, kind: str, num_rows: int) -> None:
    x, residual = (torch.randn(num_rows, 64, dtype=BF16, device=gpu.device) for _ in range(2))
    norm = torch.ones(64, dtype=BF16, device=gpu.device)

    def layer(outputs: int, inputs: int) -> Weight:
        weight = torch.randn(outputs, inputs, device=gpu.device) * inputs**-0.5
        if kind == "dense":
            return Dense(weight_OI=weight.to(BF16), bias_O=None)
        scale = torch.full((outputs,), 2.0**-6, device=gpu.device)
        return Fp8(weight_OI=(64 * weight).to(torch.float8_e4m3fn), scale_O=scale, bias_O=None)

    gate_up, down = layer(2 * 112, 64), layer(64, 112)
    got, total = TurbomindOps(gpu).add_rms_norm_ffn(x, residual, norm, 1e-5, gate_up, down)
    wanted, wanted_total = TorchOps().add_rms_norm_ffn(x, residual, norm, 1e-5, gate_up, down)
    assert torch.equal(total, wanted_total)
    assert relative_error(got, wanted.float()) < 2e-2


@pytest.mark.parametrize("num_rows", [3, 80])
@pytest.mark.parametrize("kind", ["dense", "fp8", "int8"])
def test_what_lies_between_two_attentions_gives_the_twins_result(gpu, kind: str, num_rows: int) -> None:
    between = random_between(kind, hidden=64, attended=128, ffn=112, qkv=96, device=gpu.device)
    attended, residual = (torch.randn(num_rows, width, dtype=BF16, device=gpu.device) for width in (128, 64))
    got, total = TurbomindOps(gpu).layer_products(attended, residual, between)
    wanted, wanted_total = TorchOps().layer_products(attended, residual, between)
    assert relative_error(got, wanted.float()) < 2e-2
    assert relative_error(total, wanted_total.float()) < 1e-2


@pytest.mark.gpu
@pytest.mark.parametrize("case", CASES)
def test_golden_networks_give_the_torch_tables_logits(
    cuda_gpu, case: str, internvl_folder: Callable[[str], Path]
) -> None:
    reference = golden(case)

    def run(ops: Ops) -> torch.Tensor:
        network = load_network(
            internvl_folder(case), reference.spec, ops=ops, device=cuda_gpu.device, dtype=BF16
        )
        features = torch.cat(network.encode_images(reference.prepared("one_image"), max_tiles=4))
        kv = empty_pages(reference.spec.decoder, num_pages=32, page_tokens=16, device="cuda", dtype=BF16)
        return drive(network, kv, reference.token_ids("one_image"), features, reference.image_id)

    with torch.inference_mode():
        assert relative_error(run(TurbomindOps(cuda_gpu)), run(TorchOps())) < TOLERANCE


def drive(
    network: Network, kv: list, token_ids: list[int], features: torch.Tensor, image_id: int
) -> torch.Tensor:
    """Return the logits of prefill in chunks of 40 and of four forced decode steps."""
    one = Run(token_ids=list(token_ids), pages=list(range(19, -1, -1)), features=features, image_id=image_id)
    rows = []
    while one.done < one.num_prompt:
        rows += run_step(network, kv, [(one, min(40, one.num_prompt - one.done))], device="cuda")
    for token in (7, 90, 300, 4):
        one.token_ids.append(token)
        rows += run_step(network, kv, [(one, 1)], device="cuda")
    return torch.cat(rows)


def test_int4_rows_of_half_units_are_stored_by_the_kernel_before(gpu) -> None:
    """Of heads of 128 the first 2 x 16 elements are rotated; the decode kernel holds units of 32."""
    batch, num_pages = make_batch([1, 1], [40, 17], page_tokens=16, device=gpu.device, num_decodes=2)
    plain = make_pages(batch, num_pages, num_kv_heads=1, page_tokens=16, dim=128, dtype=BF16)
    kv, twin = (quantized(plain, "int4")[0] for _ in range(2))
    rows = torch.randn(2, 4, 128, dtype=BF16, device=gpu.device).split((2, 1, 1), dim=1)
    angles = torch.randn(2, 16, device=gpu.device)
    tables, how = (angles.cos(), angles.sin()), {"scale": 0.09, "window": None}
    got = TurbomindOps(gpu).rope_store_attend(*rows, *tables, kv, batch, **how)
    rotated = TurbomindOps(gpu).rope_store_kv(*rows, *tables, twin, batch.slots_T)
    assert torch.equal(got, TurbomindOps(gpu).attention_paged(rotated, twin, batch, **how))
