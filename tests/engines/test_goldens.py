"""Upstream's greedy tokens through the real engine loop: scheduler, chunks, prefix cache, sampler."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from hashlib import blake2b
from pathlib import Path
from typing import Any

import pytest
from internvl_golden import CASES, PROMPTS, Golden, golden
from sequences import sampling
from tiny_engine import image_input, options

from engines.ipc.pixel_files import PixelFiles
from engines.loading import load_engine
from engines.messages import Delta, Done, Failed, Start, Submit
from engines.vision.pixels.dynamic_tiles import dynamic_tiles


@pytest.fixture(scope="module")
def pixels() -> Iterator[PixelFiles]:
    files = PixelFiles()
    yield files
    files.close()


def submit(reference: Golden, prompt: str, name: str, pixels: PixelFiles) -> Submit:
    ids, images = reference.token_ids(prompt), []
    spans = reference.meta["prompts"][prompt]["image_context_positions"]
    for picture, (start, end) in zip(reference.pictures(prompt), spans, strict=True):
        tiles = dynamic_tiles(picture, reference.pixels)
        key = blake2b(tiles.tobytes(), digest_size=16).digest()
        rows = (end - start) // len(tiles)
        images.append(image_input(pixels, tiles, key=key, start=start, rows_per_tile=rows))
    greedy = sampling(max_new_tokens=16, ignore_eos=True)
    return Submit(request_id=name, token_ids=tuple(ids), images=tuple(images), sampling=greedy, priority=0)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"max_prefill_token_num": 7, "page_tokens": 4},
        {"max_prefill_token_num": 25, "page_tokens": 1, "prefix_caching": False},
    ],
    ids=str,
)
@pytest.mark.parametrize("case", CASES)
def test_three_prompts_at_once_and_again_from_the_cache(
    case: str, changes: dict[str, Any], pixels: PixelFiles, internvl_folder: Callable[[str], Path]
) -> None:
    reference = golden(case)
    # The fixtures' prompts are longer than their toy limits, which dynamic rotary is there to be pushed past.
    spec = replace(reference.spec, decoder=replace(reference.spec.decoder, max_positions=512))
    start = Start(folder=str(internvl_folder(case)), spec=spec, options=options(**changes))
    loop, _ = load_engine(start, on_phase=lambda _: None)
    for turn in ("first", "again"):
        tokens: dict[str, list[int]] = {prompt: [] for prompt in PROMPTS}
        cached = 0
        for prompt in PROMPTS:
            assert loop.submit(submit(reference, prompt, prompt, pixels)) == []
        while loop.has_work:
            for reply in loop.step():
                assert not isinstance(reply, Failed), reply
                if isinstance(reply, Delta):
                    tokens[reply.request_id] += reply.token_ids
                elif isinstance(reply, Done):
                    cached += reply.usage.cached_tokens
        for prompt in PROMPTS:
            assert tokens[prompt] == reference.tensors[f"greedy_{prompt}"].tolist(), (turn, prompt)
        assert (cached > 0) == (turn == "again" and changes.get("prefix_caching", True))
