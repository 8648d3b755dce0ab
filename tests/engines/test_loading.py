import logging
import time
from dataclasses import replace
from typing import Any

import pytest
import torch
from printable import PRINTABLE
from tiny_engine import SPEC, load_tiny, options

from engines import backends
from engines.errors import DeviceError
from engines.loading import load_engine
from engines.messages import Ready, Start
from engines.quant import decode_copies


def ready(**changes: Any) -> Ready:
    start = Start(folder="nowhere", spec=SPEC, options=options(**changes))
    return load_engine(start, on_phase=lambda phase: None, load=load_tiny)[1]


def test_ready_says_what_the_engine_got() -> None:
    got = ready(num_pages=50, session_len=100)
    assert (got.session_len, got.num_pages, got.page_tokens, got.page_bytes) == (100, 50, 8, 2048)
    assert got.dtype == "float32"
    assert got.device.startswith("cpu (")
    assert got.bytes_by_part["kv_cache"] == 50 * 2048


@pytest.mark.parametrize(
    "changes, num_pages",
    [({"memory": 2048 * 77.0}, 77), ({"num_pages": 40}, 40), ({"memory": 0.01, "max_batch_size": 2}, 64)],
)
def test_memory_options_size_the_cache(changes: dict[str, Any], num_pages: int) -> None:
    assert ready(**changes).num_pages == num_pages


def test_a_kv_format_that_the_heads_do_not_suit_is_refused() -> None:
    with pytest.raises(
        DeviceError, match=r"kv=int8: needs heads of a multiple of 16 .* use quantization\.kv=none$"
    ):
        ready(format="int8")


def test_a_rope_scaling_factor_replaces_the_checkpoints_own() -> None:
    seen = []

    def load(folder: Any, spec: Any, backend: Any) -> Any:
        seen.append(spec.decoder.rope)
        return load_tiny(folder, spec, backend)

    start = Start(
        folder="nowhere", spec=SPEC, options=options(rope_scaling_factor=3.0, session_len=600, num_pages=80)
    )
    got = load_engine(start, on_phase=lambda phase: None, load=load)[1]
    assert (seen[0].kind, seen[0].factor, seen[0].max_positions) == ("dynamic", 3.0, 256)
    assert got.session_len == 600


@pytest.mark.parametrize(("asked", "length"), [(True, 256), (False, None), (None, 99)])
def test_logn_attention_is_the_checkpoints_own_unless_it_is_set(
    asked: bool | None, length: int | None
) -> None:
    seen = []

    def load(folder: Any, spec: Any, backend: Any) -> Any:
        seen.append(spec.decoder.logn_length)
        return load_tiny(folder, spec, backend)

    spec = replace(SPEC, decoder=replace(SPEC.decoder, logn_length=99))
    start = Start(folder="nowhere", spec=spec, options=options(use_logn_attn=asked, num_pages=80))
    load_engine(start, on_phase=lambda phase: None, load=load)
    assert seen == [length]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_a_gpu_tells_weights_and_workspace_apart() -> None:
    got = ready(device="cuda")
    assert got.bytes_by_part["weights"] > 0
    assert got.bytes_by_part["workspace"] > 0


WIDE = replace(
    SPEC, decoder=replace(SPEC.decoder, hidden=128, ffn=256, head_dim=32)
)  # whole tiles of 12 bits


@pytest.fixture
def as_on_a_hopper(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the CPU taken for a GPU whose kernels read 12 bits, of 64 MiB."""
    monkeypatch.setitem(backends.ENGINES, "turbomind", backends.ENGINES["pytorch"])  # type: ignore[index]
    monkeypatch.setattr(decode_copies, "capability", lambda device: (9, 0))
    monkeypatch.setattr(decode_copies, "gpu_bytes", lambda device: 1 << 26)


def copied(share: float, **changes: Any) -> frozenset[str]:
    """Return the layers that a loader was told to copy."""
    told = []

    def load(folder: Any, spec: Any, backend: Any) -> Any:
        told.append(backend.copied_layers)
        return load_tiny(folder, spec, backend)

    how = options(kind="turbomind", dtype="bfloat16", decode_weights=share, num_pages=80, **changes)
    load_engine(Start(folder="x", spec=WIDE, options=how), on_phase=lambda phase: None, load=load)
    return told[0]


@pytest.mark.usefixtures("as_on_a_hopper")
def test_a_share_of_the_memory_switches_second_copies_on_and_off(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.INFO, logger="engines.quant.decode_copies"):
        assert copied(0.5) >= {"decoder.layers.0.qkv", "decoder.layers.1.down"}
        assert copied(0.0) == frozenset()
        assert not [record for record in caplog.records if "for decode" in record.getMessage()]
        assert copied(0.001) == frozenset()
    (said,) = [text for record in caplog.records if "for decode" in (text := record.getMessage())]
    assert said.startswith("no second copy of the weights for decode: it takes 0.00 GiB")


def test_weights_that_do_not_fit_are_told() -> None:
    def load(folder: Any, spec: Any, backend: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    start = Start(folder="some/folder", spec=SPEC, options=options())
    with pytest.raises(DeviceError, match="the weights of `some/folder` do not fit on cpu"):
        load_engine(start, on_phase=lambda phase: None, load=load)


def test_a_largest_step_that_does_not_fit_names_what_to_lower() -> None:
    class Huge:
        def __init__(self, network: Any) -> None:
            self.spec = network.spec

        def hidden(self, step: Any, kv: Any) -> Any:
            raise torch.OutOfMemoryError("CUDA out of memory")

    start = Start(folder="x", spec=SPEC, options=options())
    with pytest.raises(DeviceError, match=r"engine\.max_prefill_token_num=64") as caught:
        load_engine(start, on_phase=lambda phase: None, load=lambda *how: Huge(load_tiny(*how)))
    assert "vision.max_batch_size=3" in str(caught.value)


def test_the_trie_of_a_vocabulary_is_made_when_the_engine_rests(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    monkeypatch.setattr(
        "engines.sampling.grammar._trie", lambda vocabulary, vocab, level: made.append(vocabulary)
    )
    start = Start(folder="nowhere", spec=SPEC, options=options(), vocabulary=PRINTABLE)
    loop, _ = load_engine(start, on_phase=lambda phase: None, load=load_tiny)
    assert made == []
    for _ in range(2):
        loop.rest()
    deadline = time.monotonic() + 5
    while not made:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert made == [PRINTABLE]


def test_a_format_of_keys_that_the_dtype_does_not_suit_is_refused_before_anything_loads() -> None:
    def load(folder: Any, spec: Any, backend: Any) -> Any:
        raise AssertionError("weights are loaded")

    spec = replace(SPEC, decoder=replace(SPEC.decoder, head_dim=32))
    start = Start(folder="x", spec=spec, options=options(dtype="float16", format="bf12"))
    with pytest.raises(DeviceError, match=r"quantization\.kv=bf12: keeps numbers of bfloat16.*bfloat16$"):
        load_engine(start, on_phase=lambda phase: None, load=load)
