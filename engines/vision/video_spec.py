"""How a family looks at a video: which frames, and as what. Torch-free; read by the front end."""

from dataclasses import dataclass
from typing import Literal

# segments: the middles of equal stretches between the first frame and the last, halves rounded to even
#           (InternVL2's model card, get_index)
# middles:  the middles of equal stretches of all frames (transformers, video_processing_internvl.py)
# starts:   the beginnings of equal stretches of all frames (transformers, video_processing_qwen2_vl.py)
Choice = Literal["segments", "middles", "starts"]


@dataclass(frozen=True, kw_only=True, slots=True)
class ClipSpec:
    """A video is one thing in a prompt: steps of a few frames, each a grid of rows with a time of its own."""

    token_id: int  # what its slots hold in the prompt
    step_frames: int  # frames that a step joins; a last one alone is joined with itself
    min_frames: int  # where they follow from a rate
    min_pixels: int  # of a frame after resizing, where its request does not say
    max_pixels: int
    times_a_second: float | None  # positions of a second; None: one a step

    def times(self, num_frames: int, *, seconds: float) -> tuple[int, ...]:
        """Return where each step stands in time, for so many frames of a video of `seconds`."""
        steps = -(-num_frames // self.step_frames)
        if self.times_a_second is None:
            return tuple(range(steps))
        interval = self.times_a_second * self.step_frames * seconds / num_frames
        return tuple(int(step * interval) for step in range(steps))


@dataclass(frozen=True, kw_only=True, slots=True)
class VideoSpec:
    """Which frames, and where there is no `clip`: each is a picture of one tile, `label` in front of it.

    Where neither the request nor the config says how many, `num_frames` does, or `fps`.
    """

    choice: Choice
    label: str = ""  # `{}`: the frame's number in its video, from 1
    num_frames: int | None = None
    fps: float | None = None  # frames a second
    clip: ClipSpec | None = None
