from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from plan_cases import case, hardware, spec, with_copy
from safetensors.torch import save_file

from deployer.config import load_config
from deployer.plan.case import Case, case_of
from deployer.plan.memory import Memory, memory_of
from deployer.plan.weight_bytes import weight_parts

GIB = 2**30


def memory(what: Case) -> Memory:
    """Return the memory of a case."""
    return memory_of(what, weight_parts(what))


def with_kv(what: Case, **changes: Any) -> Case:
    """Return the case with other KV options."""
    return replace(what, options=replace(what.options, kv=replace(what.options.kv, **changes)))


def test_rows_and_what_is_left_add_up_to_the_device() -> None:
    for what in (case(), case(tp=2), case("1b", device="t4"), case("26b", device="l40s", tp=4)):
        found = memory(what)
        assert sum(row.num_bytes for row in found.rows) + found.free_bytes == what.hardware.memory_bytes
        assert sum(map(found.bytes_of, ("weights", "workspace", "kv_cache"))) + found.free_bytes == (
            what.hardware.memory_bytes
        )


def test_weights_of_internvl2_8b_are_16_2_gb() -> None:
    assert round(memory(case()).bytes_of("weights") / 1e9, 1) == 16.2


def test_a_page_of_internvl2_8b_is_8_mib_and_half_of_it_on_two_ranks() -> None:
    assert memory(case()).page_bytes == 64 * 131_072
    assert memory(case(tp=2)).page_bytes == 64 * 65_536


def test_kv_formats_shrink_the_page() -> None:
    assert memory(with_kv(case(), format="fp8")).page_bytes == 64 * (65_536 + 1024)
    assert memory(with_kv(case(), format="int8")).page_bytes == 64 * (65_536 + 2048)
    assert memory(with_kv(case(), format="int4")).page_bytes == 64 * (32_768 + 2048)


def test_the_cache_takes_its_share_of_what_is_left() -> None:
    found = memory(case())
    left = case().hardware.memory_bytes - found.bytes_of("weights") - found.bytes_of("workspace")
    assert found.num_pages == int(left * 0.8) // found.page_bytes
    assert found.kv_tokens == found.num_pages * 64


def test_pages_that_are_asked_for_are_taken_as_they_are() -> None:
    found = memory(with_kv(case(), num_pages=100))
    assert found.num_pages == 100
    assert found.session_len == 6400


def test_sequences_take_whole_pages() -> None:
    found = memory(with_kv(case(), num_pages=100))
    assert found.sequences_of(64) == 100
    assert found.sequences_of(65) == 50


def test_weights_above_the_memory_are_refused_with_both_figures() -> None:
    found = memory(case("76b"))
    assert (found.num_pages, found.session_len) == (0, 0)
    assert found.free_bytes < 0
    needed = (found.total_bytes - found.free_bytes) / GIB
    assert found.refusal == f"weights and workspace need {needed:.1f} GiB of 139.8 GiB"


def test_a_cache_is_refused_in_the_words_of_the_engine() -> None:
    found = memory(with_kv(case(), num_pages=20_000))
    assert found.refusal is not None
    assert found.refusal.startswith("engine.num_gpu_blocks=20000: these pages need 156.25 GiB")


def test_half_of_what_a_host_has_left_after_weights_is_for_others_and_for_steps() -> None:
    engine = replace(case().options, kind="pytorch", device="cpu", dtype="float32")
    what = replace(case("1b", device="cpu"), options=engine)
    found = memory(what)
    loaded = found.bytes_of("weights") + what.hardware.context_bytes
    half = (found.total_bytes - loaded) / 2
    assert found.bytes_of("workspace") - what.hardware.context_bytes == round(half)
    assert found.num_pages == int(half * 0.8) // found.page_bytes


def test_only_several_ranks_have_a_communicator() -> None:
    names = {row.name for row in memory(case()).rows}
    assert "communicator" not in names
    shared = {row.name: row.num_bytes for row in memory(case(tp=2)).rows}
    assert shared["communicator"] == 805_000_000


def test_the_largest_phase_names_the_activations() -> None:
    big = {row.name: row for row in memory(case()).rows}["activations"]
    assert big.how == "derived: largest step, 8,320 tokens"
    small = {row.name: row for row in memory(case("1b")).rows}["activations"]
    assert small.how == "derived: sampling for 128 sequences"


def test_a_copy_in_12_bits_counts_with_the_weights_and_takes_from_the_pages() -> None:
    bare, copied = memory(case()), memory(with_copy(case()))
    (row,) = (row for row in copied.rows if row.name == "copy for decode")
    weights = 32 * (6144 + 4096 + 28672) * 4096 + 32 * 4096 * 14336 + 92_608 * 4096
    factors = 32 * (6144 + 4096 + 28672 + 4096) + 92_608
    assert (row.group, row.num_bytes) == ("weights", weights * 3 // 2 + 2 * factors)
    assert copied.bytes_of("weights") == bare.bytes_of("weights") + row.num_bytes
    assert bare.num_pages - copied.num_pages == pytest.approx(0.8 * row.num_bytes / bare.page_bytes, abs=1)


def test_a_copy_that_its_share_does_not_hold_takes_nothing() -> None:
    assert memory(with_copy(case(), 0.05)).rows == memory(case()).rows


def test_adapters_of_the_config_have_a_row_and_take_from_the_pages(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text("{}")
    base = "base_model.model.language_model.model.layers.0.attention.wo"
    tensors = {
        f"{base}.lora_A.weight": torch.zeros(512, 4096),
        f"{base}.lora_B.weight": torch.zeros(4096, 512),
    }
    save_file(tensors, tmp_path / "adapter_model.safetensors")

    def planned(*words: str) -> Memory:
        config = load_config(["+model=internvl2_8b", *words])
        return memory(case_of(config, spec("8b"), hardware("h200")))

    bare, adapted = planned(), planned(f"engine.adapters=['fr={tmp_path}','de={tmp_path}']")
    (row,) = (row for row in adapted.rows if row.name == "adapters")
    assert (row.group, row.num_bytes) == ("weights", 2 * 512 * (4096 + 4096) * 2)
    assert adapted.bytes_of("weights") == bare.bytes_of("weights") + row.num_bytes
    assert adapted.num_pages < bare.num_pages
