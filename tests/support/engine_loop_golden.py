"""Pictures of noise through the whole engine loop, held to the network run by hand on the same arrays."""

from typing import Any

import numpy as np
from family_golden import FamilyGolden, Session
from sequences import sampling
from tiny_engine import options

from engines.ipc.pixel_files import PixelFiles
from engines.loading import load_engine
from engines.messages import Delta, Done, Failed, ImageInput, Start, Submit
from engines.schedule.sequence import ImageSlots
from engines.vision.parts import ImagePixels, PixelSpec

NUM_TOKENS = 6
TEXT_ID = 5  # stands for every text between rows of a picture


def noise(pixels: PixelSpec, width: int, height: int, *, seed: int, num_images: int) -> ImagePixels:
    """Return a picture of noise."""
    plan = pixels.plan(width, height, num_images=num_images)
    generator = np.random.default_rng(seed)
    arrays = tuple(generator.integers(0, 256, shape, dtype=np.uint8) for shape in pixels.shapes(plan))
    return ImagePixels(arrays=arrays, plan=plan)


def prompt_of(golden: FamilyGolden, pictures: list[ImagePixels]) -> tuple[list[int], tuple[ImageSlots, ...]]:
    """Return a prompt with texts before, between and behind pictures."""
    assert golden.spec.vision is not None
    assembly = golden.spec.vision.assembly
    shared = assembly.shared([picture.plan for picture in pictures])
    ids, slots = [7, 8], []
    for number, picture in enumerate(pictures):
        own: list[int] = []
        rows: list[tuple[int, int]] = []
        for part in assembly.segments(picture.plan):
            if isinstance(part, int):
                rows.append((len(own), part))
            own += [1] * part if isinstance(part, int) else [TEXT_ID]
        slots.append(
            ImageSlots(
                key=bytes([number]) * 16,
                start=len(ids),
                num_tokens=len(own),
                pixels=ImagePixels(arrays=picture.arrays, plan=picture.plan, shared=shared),
                rows=tuple(rows),
            )
        )
        ids += [*own, 9]
    return [*ids, 10, 11], tuple(slots)


def check_engine_loop(golden: FamilyGolden, pictures: list[ImagePixels], **changes: Any) -> None:
    """Ask the loop twice, the second time with the prefix cache filled; both answer as the network does."""
    ids, slots = prompt_of(golden, pictures)
    session = Session(golden.network(), page_tokens=32, max_sequences=1)
    sequence = session.sequence(ids, slots)
    logits = session.prefill(sequence, session.features(slots), chunk=len(ids))
    wanted = session.greedy(sequence, logits[-1], NUM_TOKENS)
    how = options(session_len=len(ids) + NUM_TOKENS, **changes)
    start = Start(folder=str(golden.folder), spec=golden.spec, options=how)
    loop, _ = load_engine(start, on_phase=lambda _: None)
    files = PixelFiles()
    for turn in ("first", "again"):
        tokens: list[int] = []
        is_cached = False
        assert loop.submit(_submit(turn, ids, slots, files)) == []
        while loop.has_work:
            for reply in loop.step():
                assert not isinstance(reply, Failed), reply
                if isinstance(reply, Delta):
                    tokens += reply.token_ids
                elif isinstance(reply, Done):
                    is_cached = reply.usage.cached_tokens > 0
        assert tokens == wanted, turn
        assert is_cached == (turn == "again" and changes.get("prefix_caching", True))
    files.close()


def _submit(name: str, ids: list[int], slots: tuple[ImageSlots, ...], files: PixelFiles) -> Submit:
    images = []
    for slot in slots:
        assert slot.pixels is not None and slot.rows is not None
        images.append(
            ImageInput(
                key=slot.key,
                start=slot.start,
                num_tokens=slot.num_tokens,
                rows=slot.rows,
                pixels=tuple(files.write(array) for array in slot.pixels.arrays),
                plan=slot.pixels.plan,
                shared=slot.pixels.shared,
            )
        )
    how = sampling(max_new_tokens=NUM_TOKENS, ignore_eos=True)
    return Submit(request_id=name, token_ids=tuple(ids), images=tuple(images), sampling=how, priority=0)
