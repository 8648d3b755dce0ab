"""HEIC and HEIF, the format of phones, through pillow-heif where it is installed (extra `heic`).

libheif turns the picture upright while it decodes, and says so in its EXIF orientation.
"""

import io
from typing import TYPE_CHECKING

from deployer.prompt.image_errors import ImageError

if TYPE_CHECKING:
    from PIL import ImageFile

# Brands of still pictures and bursts in HEVC; ISO/IEC 23008-12, annex B.
_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")


def is_heic(data: bytes) -> bool:
    """Tell whether data says that it is HEIC or HEIF."""
    return data[4:8] == b"ftyp" and data[8:12] in _BRANDS


def open_heic(data: bytes, index: int) -> "ImageFile.ImageFile":
    """Read the header. Raises ImageError where the package is missing, and what it raises on damaged data."""
    try:
        from pillow_heif import HeifImageFile
    except ImportError as error:
        raise ImageError(
            "HEIC needs `pillow-heif`, which is not installed on this server: send JPEG or PNG, or let its "
            "operator run pip install 'vlm-deployer[heic]'",
            code="image_format_unsupported",
            index=index,
        ) from error
    image: ImageFile.ImageFile = HeifImageFile(io.BytesIO(data))  # type: ignore[no-untyped-call]  # its own
    return image
