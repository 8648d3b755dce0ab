"""One golden prompt as a request to an engine process."""

from typing import Any

from sequences import sampling
from tiny_engine import image_input

from engines.ipc.client import EngineClient
from engines.messages import Submit
from engines.vision.pixels.dynamic_tiles import dynamic_tiles


def golden_request(engine: EngineClient, reference: Any) -> tuple[Submit, list[int]]:
    """Return the `one_image` prompt of an InternVL fixture and the tokens that upstream gives."""
    tiles = dynamic_tiles(reference.pictures("one_image")[0], reference.pixels)
    ids = reference.token_ids("one_image")
    expected: list[int] = reference.tensors["greedy_one_image"].tolist()
    image = image_input(
        engine.pixels,
        tiles,
        key=b"k" * 16,
        start=ids.index(reference.image_id),
        rows_per_tile=ids.count(reference.image_id) // len(tiles),
    )
    request = Submit(
        request_id="golden",
        token_ids=tuple(ids),
        images=(image,),
        sampling=sampling(max_new_tokens=len(expected), ignore_eos=True),
        priority=0,
    )
    return request, expected
