"""Videos through Qwen2-VL and Qwen2.5-VL against upstream: positions, rows, logits, greedy tokens."""

from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
import pytest
import torch
from family_golden import FIXTURES, FamilyGolden, Session, check, slots
from numpy.typing import NDArray
from qwen2_video_golden import CASES, frames_of
from safetensors.torch import load_file
from sequences import sampling
from tiny_engine import options
from torch import Tensor

from engines.ipc.pixel_files import PixelFiles
from engines.loading import load_engine
from engines.messages import Delta, Failed, ImageInput, Start, Submit
from engines.schedule.sequence import ImageSlots
from engines.vision.parts import ImagePixels, ImagePlan

TAG = "vid"


class VideoGolden(FamilyGolden):
    """A fixture folder, of which a video is the only prompt."""

    @cached_property
    def tensors(self) -> dict[str, Tensor]:
        """Upstream's inputs and results, with the tag that tests of families ask for."""
        found = load_file(self.folder / "video.safetensors")
        return {f"{TAG}.{name}": tensor for name, tensor in found.items()}


def golden(case: str) -> VideoGolden:
    return VideoGolden(FIXTURES / "qwen2_vl" / case)


def frames(case: str) -> NDArray[np.uint8]:
    """Return the frames as the engine gets them: a last one alone comes twice."""
    drawn = frames_of(case)
    return np.concatenate([drawn, drawn[-1:]]) if len(drawn) % 2 else drawn


def plan_of(reference: VideoGolden, case: str) -> ImagePlan:
    assert reference.spec.vision is not None and reference.spec.vision.video is not None
    clip = reference.spec.vision.video.clip
    assert clip is not None
    count, columns, rows, step_s = CASES[case]
    times = clip.times(count, seconds=step_s * count / clip.step_frames)
    return ImagePlan(
        width=28 * columns, height=28 * rows, grid=(columns, rows), num_tiles=len(times), times=times
    )


def placed(reference: VideoGolden, case: str) -> tuple[ImageSlots, ...]:
    pixels = ImagePixels(arrays=(frames(case),), plan=plan_of(reference, case))
    start = reference.ids(TAG).index(reference.config["video_token_id"])
    return slots([start], [pixels], reference.spec)


@pytest.fixture(scope="module")
def sessions() -> dict[str, Session]:
    return {case: Session(golden(case).network(), max_sequences=9) for case in CASES}


@pytest.mark.parametrize("case", CASES)
def test_positions_are_the_references(case: str, sessions: dict[str, Session]) -> None:
    reference = golden(case)
    sequence = sessions[case].sequence(reference.ids(TAG), placed(reference, case))
    assert np.array_equal(sequence.positions, reference.tensors[f"{TAG}.position_ids"])
    assert sequence.position_offset == reference.tensors[f"{TAG}.rope_delta"].item()


@pytest.mark.parametrize("case", CASES)
def test_rows_are_the_references(case: str, sessions: dict[str, Session]) -> None:
    reference = golden(case)
    [rows] = sessions[case].features(placed(reference, case)).values()
    torch.testing.assert_close(rows, reference.tensors[f"{TAG}.video_features"], atol=2e-5, rtol=0)


@pytest.mark.parametrize("chunk", [1000, 7])
@pytest.mark.parametrize("case", CASES)
def test_logits_and_greedy_tokens_are_the_references(
    case: str, chunk: int, sessions: dict[str, Session]
) -> None:
    reference = golden(case)
    check(reference, sessions[case], TAG, placed(reference, case), chunk=chunk)


@pytest.mark.parametrize("case", CASES)
def test_a_step_sees_no_other_step(case: str, sessions: dict[str, Session]) -> None:
    """Each pair of frames gives the rows that it gives alone, so that a pass holds one step's patches."""
    reference = golden(case)
    [whole] = sessions[case].features(placed(reference, case)).values()
    plan = plan_of(reference, case)
    alone: Any = ImagePlan(width=plan.width, height=plan.height, grid=plan.grid, num_tiles=1, times=(0,))
    pixels = ImagePixels(arrays=(frames(case)[:2],), plan=alone)
    [first] = sessions[case].features(slots([3], [pixels], reference.spec)).values()
    torch.testing.assert_close(first, whole[: len(first)], atol=0, rtol=0)


@pytest.mark.parametrize("changes", [{}, {"max_prefill_token_num": 7, "page_tokens": 4}], ids=str)
@pytest.mark.parametrize("case", CASES)
def test_the_engine_gives_the_references_tokens_at_once_and_from_the_cache(
    case: str, changes: dict[str, Any]
) -> None:
    reference = golden(case)
    spec = replace(reference.spec, decoder=replace(reference.spec.decoder, max_positions=256))
    start = Start(folder=str(reference.folder), spec=spec, options=options(**changes))
    loop, _ = load_engine(start, on_phase=lambda _: None)
    files = PixelFiles()
    [video] = placed(reference, case)
    wanted = reference.tensors[f"{TAG}.greedy_ids"].tolist()
    for turn in ("first", "again"):
        image = ImageInput(
            key=video.key,
            start=video.start,
            num_tokens=video.num_tokens,
            rows=((0, video.num_tokens),),
            pixels=(files.write(frames(case)),),
            plan=plan_of(reference, case),
            shared=(),
        )
        how = sampling(max_new_tokens=len(wanted), ignore_eos=True)
        ids = tuple(reference.ids(TAG))
        request = Submit(request_id=turn, token_ids=ids, images=(image,), sampling=how, priority=0)
        assert loop.submit(request) == []
        tokens: list[int] = []
        while loop.has_work:
            for reply in loop.step():
                assert not isinstance(reply, Failed), reply
                tokens += reply.token_ids if isinstance(reply, Delta) else ()
        assert tokens == wanted, turn
    files.close()
