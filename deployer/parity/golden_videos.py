"""The videos of a golden case as an engine gets them: the reference's patches, and the times of its steps."""

from deployer.parity.golden_folder import GoldenFolder
from engines.spec import VisionSpec
from engines.vision.parts import ImagePixels, ImagePlan
from engines.vision.towers.qwen2_vit_spec import Qwen2VitSpec
from engines.vision.video_spec import ClipSpec

PIXELS = "pixel_values_videos"


def clip_of(golden: GoldenFolder, case: str, vision: VisionSpec) -> ClipSpec | None:
    """Return how the model reads the videos of a case; None where there are none, or it takes none."""
    if golden.find(PIXELS, case) is None or vision.video is None:
        return None
    return vision.video.clip


def clips(golden: GoldenFolder, case: str, vision: VisionSpec, clip: ClipSpec) -> list[ImagePixels]:
    """Return the videos of a case: patches of all below each other, and the grid of each in patches."""
    grids = golden.read("video_grid_thw", case).tolist()
    seconds = golden.find("second_per_grid_ts", case)
    step_s = [1.0] * len(grids) if seconds is None else seconds.flatten().tolist()
    [tower] = vision.towers
    assert isinstance(tower, Qwen2VitSpec), "the one tower of native resolution"
    side = tower.merge * tower.patch
    patches, done, found = golden.read(PIXELS, case), 0, []
    for (steps, rows, columns), each_s in zip(grids, step_s, strict=True):
        count = steps * rows * columns
        grid = (columns // tower.merge, rows // tower.merge)
        times = clip.times(steps * clip.step_frames, seconds=steps * each_s)
        plan = ImagePlan(width=side * grid[0], height=side * grid[1], grid=grid, num_tiles=steps, times=times)
        part = patches[done : done + count].contiguous().numpy()
        found.append(ImagePixels(arrays=(part,), plan=plan))
        done += count
    return found
