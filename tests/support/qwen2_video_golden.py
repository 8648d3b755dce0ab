"""What transformers makes of a video: run by hand, it writes `video.safetensors` beside the tiny checkpoints.

    python tests/support/qwen2_video_golden.py        # with transformers 4.57.6

Frames are drawn from a seed and not stored; tests draw the same.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

FOLDER = Path(__file__).parents[1] / "fixtures" / "qwen2_vl"
# case: frames, columns and rows of cells, seconds of a temporal step; an odd number has its last frame twice
CASES = {"qwen2_vl": (5, 3, 2, 1.0), "qwen2_5_vl": (4, 5, 3, 2.0)}
CELL, PATCH = 28, 14
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
NUM_LOGITS, NUM_GREEDY = 24, 16


def frames_of(case: str) -> NDArray[np.uint8]:
    """Return the frames of a case, uint8 [F, H, W, 3]."""
    count, columns, rows, _ = CASES[case]
    shape = (count, rows * CELL, columns * CELL, 3)
    return np.random.default_rng(20).integers(0, 256, shape, dtype=np.uint8)


def patches_of(case: str) -> NDArray[np.float32]:
    """Return the frames as upstream cuts them, normalised: the patches of a cell together, step by step."""
    frames = frames_of(case)
    if len(frames) % 2:
        frames = np.concatenate([frames, frames[-1:]])
    numbers = (frames.astype(np.float32) / 255 - np.float32(MEAN)) / np.float32(STD)
    steps, rows, columns = len(frames) // 2, frames.shape[1] // CELL, frames.shape[2] // CELL
    cut = numbers.reshape(steps, 2, rows, 2, PATCH, columns, 2, PATCH, 3)
    order = cut.transpose(0, 2, 5, 3, 6, 8, 1, 4, 7)  # step, cell, patch of the cell, colour, frame, pixel
    return np.ascontiguousarray(order.reshape(steps * rows * columns * 4, -1))


def case_of(case: str) -> dict[str, torch.Tensor]:
    """Return the whole case, under the names of `golden.safetensors`."""
    _, columns, rows, step_s = CASES[case]
    patches = torch.from_numpy(patches_of(case))
    found = load_file(FOLDER / case / "video.safetensors")
    found["image_features"] = found.pop("video_features")
    grid = [len(patches) // (4 * columns * rows), 2 * rows, 2 * columns]
    found |= {"pixel_values_videos": patches, "video_grid_thw": torch.tensor([grid])}
    if case == "qwen2_5_vl":
        found["second_per_grid_ts"] = torch.tensor([step_s])
    return {f"vid1.{name}": tensor for name, tensor in found.items()}


def main() -> None:
    """Write the numbers of both cases."""
    for case in CASES:
        save_file(_numbers(case), FOLDER / case / "video.safetensors")


def _numbers(case: str) -> dict[str, torch.Tensor]:
    from transformers import Qwen2_5_VLForConditionalGeneration, Qwen2VLForConditionalGeneration
    from transformers.models.qwen2_vl.image_processing_qwen2_vl import Qwen2VLImageProcessor

    kind: Any = Qwen2VLForConditionalGeneration if case == "qwen2_vl" else Qwen2_5_VLForConditionalGeneration
    model = kind.from_pretrained(FOLDER / case, attn_implementation="eager", dtype=torch.float32).eval()
    how = Qwen2VLImageProcessor()
    pixels, grid = how._preprocess(
        list(frames_of(case)),
        do_resize=False,
        do_rescale=True,
        rescale_factor=how.rescale_factor,
        do_normalize=True,
        image_mean=how.image_mean,
        image_std=how.image_std,
        patch_size=how.patch_size,
        temporal_patch_size=how.temporal_patch_size,
        merge_size=how.merge_size,
    )
    assert np.allclose(pixels, patches_of(case), atol=1e-5), "tests cut other patches than upstream"
    asked = {
        "pixel_values_videos": torch.from_numpy(pixels).float(),
        "video_grid_thw": torch.tensor([grid]),
    }
    if case == "qwen2_5_vl":
        asked["second_per_grid_ts"] = torch.tensor([CASES[case][3]])
    config = model.config
    rows = grid[0] * grid[1] * grid[2] // 4
    slots = [config.vision_start_token_id, *[config.video_token_id] * rows, config.vision_end_token_id]
    ids = torch.tensor([[7, 300, 12, *slots, 44, 501, 9, 230, 61]])
    with torch.no_grad():
        positions, delta = (
            model.model.get_rope_index(
                ids,
                video_grid_thw=asked["video_grid_thw"],
                second_per_grid_ts=asked.get("second_per_grid_ts"),
            )
            if case == "qwen2_5_vl"
            else model.model.get_rope_index(ids, video_grid_thw=asked["video_grid_thw"])
        )
        features = model.visual(asked["pixel_values_videos"], grid_thw=asked["video_grid_thw"])
        logits, greedy = _greedy(model, ids, asked)
    return {
        "input_ids": ids[0],
        "position_ids": positions[:, 0].contiguous(),
        "rope_delta": delta.reshape(1),
        "video_features": features,
        "logits": logits[-NUM_LOGITS:].contiguous(),
        "greedy_ids": greedy,
    }


def _greedy(
    model: Any, ids: torch.Tensor, asked: dict[str, torch.Tensor]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the prompt's logits and the likeliest tokens behind it, each from the whole text anew."""
    prompt, length = None, ids.shape[1]
    for _ in range(NUM_GREEDY):
        logits = model(input_ids=ids, use_cache=False, **asked).logits[0]
        prompt = logits if prompt is None else prompt
        top = logits[-1].topk(2).values
        assert top[0] - top[1] > 1e-3, "a near tie: draw other frames"
        ids = torch.cat([ids, logits[-1].argmax().reshape(1, 1)], dim=1)
    assert prompt is not None
    return prompt, ids[0, length:]


if __name__ == "__main__":
    main()
