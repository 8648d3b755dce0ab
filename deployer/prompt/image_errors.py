"""How a picture is refused: every message names the picture by its position in the request.

Codes, stable for clients:

    too_many_images            more pictures than `vision.max_images`
    images_not_supported       the model reads text only
    image_placement            `<IMAGE_TOKEN>` in the text and the pictures do not match
    image_url_invalid          not a data:, http(s): or file: URL, or a broken one
    image_file_refused         a file: URL outside `vision.file_root`, or no such file
    image_address_refused      a host outside `vision.allowed_domains`, or an address that is not public
    image_fetch_failed         the host cannot be reached or does not answer with a picture file
    image_fetch_timeout        the download took longer than `vision.fetch_timeout_s`
    image_too_large            more bytes than `vision.max_image_bytes`
    image_too_many_pixels      more pixels than `vision.max_image_pixels`
    image_empty                0 bytes, or a side of 0 pixels
    image_format_unsupported   none of the formats of `media_format.py`, or a pixel type that has no colours
    image_option_refused       `max_dynamic_patch`, `max_pixels` and the like: not this model's, or beyond the
                               deployment's own
    image_unreadable           said to be a picture, but truncated or damaged
"""

from engines.errors import RequestError


class ImageError(RequestError):
    """One picture cannot be used; `index` counts the request's pictures from 0."""

    def __init__(self, message: str, *, code: str, index: int) -> None:
        super().__init__(f"image {index + 1}: {message}", code=code)
        self.index = index
        self.about = message  # without the picture's place
