from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from loop_engine import LoopEngine
from tiny_engine import IMAGE_ID, SPEC, options

from engines.errors import DeviceError
from engines.ipc.pixel_files import PixelFiles
from engines.memory.kv_bytes import page_bytes
from engines.memory.kv_cache import allocate_kv
from engines.options import KvFormat

FORMATS: tuple[KvFormat, ...] = ("bf12", "int8", "int4", "fp8")
WIDE = replace(SPEC, decoder=replace(SPEC.decoder, head_dim=32))
PICTURED = [1, 2, *[IMAGE_ID] * 4, *range(3, 40)]


@pytest.fixture(scope="module")
def pixels() -> Iterator[PixelFiles]:
    files = PixelFiles()
    yield files
    files.close()


@pytest.mark.parametrize("form", ["none", *FORMATS])
def test_what_is_allocated_is_what_the_plan_counts(form: KvFormat) -> None:
    kv = options(format=form, page_tokens=16).kv
    layers = allocate_kv(
        WIDE.decoder, kv, num_pages=7, tp=1, dtype=torch.bfloat16, device=torch.device("cpu")
    )
    tensors = [tensor for layer in layers for pair in layer.pages for tensor in pair if tensor is not None]
    planned = page_bytes(WIDE.decoder, format=form, dtype_bytes=2, page_tokens=16, tp=1)
    assert sum(tensor.nbytes for tensor in tensors) == 7 * planned


def test_12_bits_of_float16_are_refused() -> None:
    kv = options(format="bf12", page_tokens=16).kv
    with pytest.raises(
        DeviceError, match=r"quantization\.kv=bf12: keeps numbers of bfloat16, float16 has three"
    ):
        allocate_kv(WIDE.decoder, kv, num_pages=7, tp=1, dtype=torch.float16, device=torch.device("cpu"))


@pytest.mark.parametrize("form", FORMATS)
def test_a_quantized_prefix_with_a_picture_is_answered_as_it_was_the_first_time(
    form: KvFormat, pixels: PixelFiles
) -> None:
    engine = LoopEngine(pixels, spec=WIDE, format=form, max_prefill_token_num=13)
    names = []
    for _ in range(2):
        names.append(engine.submit(PICTURED, pictures=[(2, 5)], max_new_tokens=12, ignore_eos=True))
        engine.run()
    assert engine.done(names[0]).usage.cached_tokens == 0
    assert engine.done(names[1]).usage.cached_tokens > 0
    assert engine.tokens[names[0]] == engine.tokens[names[1]]
    assert len(engine.tokens[names[0]]) == 12


@pytest.mark.parametrize(("form", "near"), [("bf12", 0.02), ("int8", 0.02), ("fp8", 0.1), ("int4", 0.4)])
def test_a_format_moves_the_answers_probabilities_by_little_but_does_move_them(
    form: KvFormat, near: float, pixels: PixelFiles
) -> None:
    found = []
    for kind in ("none", form):
        engine = LoopEngine(pixels, spec=WIDE, format=kind)
        name = engine.submit(PICTURED, pictures=[(2, 5)], max_new_tokens=1, ignore_eos=True, logprobs=5)
        engine.run()
        found.append(engine.logprobs[name][0].top_logprobs)
    plain, quantized = (torch.tensor(values) for values in found)
    assert 0 < float((plain - quantized).abs().max()) < near
