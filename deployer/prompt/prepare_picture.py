"""One picture of a planned prompt, decoded and cut on a thread of the server."""

from deployer.prompt.image_tiles import ImageTiles, PreparedImage
from deployer.prompt.images import Picture
from deployer.prompt.planned import PlannedImage


def prepare_picture(
    image: PlannedImage,
    picture: Picture,
    tiles: ImageTiles,
    *,
    shared: tuple[int, ...],
    may_stay_whole: bool = True,
) -> PreparedImage:
    """Return it as the engine takes it. Raises ImageError.

    `picture`: of a video, the frame; `may_stay_whole` as `ImageTiles.prepare` has it.
    """
    return tiles.prepare(
        picture,
        image.part.fineness,
        plan=image.slot.plan,
        shared=shared,
        name=image.name,
        start=image.start,
        rows=image.slot.rows,
        num_tokens=len(image.slot.token_ids),
        may_stay_whole=may_stay_whole,
    )
