"""The tokens of everything that a prompt shows: of pictures, of frames, of videos as a whole."""

from collections.abc import Sequence

from deployer.prompt.clip_plan import clip_plan
from deployer.prompt.image_errors import ImageError
from deployer.prompt.image_tiles import ImageTiles
from deployer.prompt.image_tokens import ImageTokens, image_tokens
from deployer.prompt.images import Picture
from deployer.prompt.messages import ImagePart, ImageSize
from deployer.prompt.seen_video import ClipPart, SeenVideo, VideoShown
from deployer.prompt.tokenizer import Tokenizer
from deployer.prompt.video_errors import VideoError
from engines.vision.parts import ImagePlan
from engines.vision.pixels.native_spec import NativeSpec
from engines.vision.video_spec import ClipSpec

Shown = Picture | SeenVideo | ImageSize
ShownPart = ImagePart | VideoShown | ImageSize


def picture_slots(
    pictures: Sequence[Shown],
    parts: Sequence[ShownPart],
    tiles: ImageTiles,
    *,
    image_id: int,
    clip: ClipSpec | None,
    tokenizer: Tokenizer,
) -> list[ImageTokens]:
    """Return the tokens of each; `clip`: of a family that takes videos whole. Raises RequestError."""
    slots = []
    for index, (picture, part) in enumerate(zip(pictures, parts, strict=True)):
        plan = _plan(picture, part, tiles, clip, index=index, num_images=len(pictures))
        slots.append(
            image_tokens(
                plan,
                tiles.segments(plan),
                shapes=tiles.shapes(plan, part.fineness),
                image_id=clip.token_id if plan.times and clip is not None else image_id,
                tokenizer=tokenizer,
            )
        )
    return slots


def _plan(
    picture: Shown, part: ShownPart, tiles: ImageTiles, clip: ClipSpec | None, *, index: int, num_images: int
) -> ImagePlan:
    if isinstance(part, ClipPart):
        assert clip is not None and isinstance(tiles.pixels, NativeSpec), "its family takes videos whole"
        return clip_plan(tiles.pixels, clip, part.video, part.fineness)
    try:
        return tiles.plan(picture, part.fineness, index=index, num_images=num_images)
    except ImageError as error:
        if not isinstance(picture, SeenVideo):
            raise
        code = error.code.replace("image_", "video_", 1)
        raise VideoError(error.about, code=code, index=picture.index) from error
