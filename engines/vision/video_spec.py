"""How a family looks at a video: which frames, and as what. Torch-free; read by the front end."""

from dataclasses import dataclass
from typing import Literal

# segments: the middles of equal stretches between the first frame and the last, halves rounded to even
#           (InternVL2's model card, get_index)
# middles:  the middles of equal stretches of all frames (transformers, video_processing_internvl.py)
# starts:   the beginnings of equal stretches of all frames (transformers, video_processing_qwen2_vl.py)
Choice = Literal["segments", "middles", "starts"]


@dataclass(frozen=True, kw_only=True, slots=True)
class VideoSpec:
    """Each frame is a picture of one tile, `label` in front of it."""

    choice: Choice
    label: str  # `{}`: the frame's number in its video, from 1
    num_frames: int  # where neither the request nor the config says
