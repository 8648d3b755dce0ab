"""What a file is, told by its first bytes: a picture or a video of a format that we read, or neither.

No decoder is left to guess. Some formats that FFmpeg knows (playlists) name other files and hosts.
"""

from deployer.prompt.heic import is_heic

VIDEOS = "AVI, GIF, MP4, MPEG-TS, Matroska, QuickTime, WebM"
_PICTURES = {
    "PNG": (b"\x89PNG\r\n\x1a\n",),
    "JPEG": (b"\xff\xd8\xff",),
    "GIF": (b"GIF87a", b"GIF89a"),
    "BMP": (b"BM",),
    "TIFF": (b"II*\0", b"MM\0*"),
}
PICTURES = ", ".join(sorted([*_PICTURES, "HEIC", "WebP"]))


def picture_format(data: bytes) -> str | None:
    """Return a name of `PICTURES`, or None."""
    if is_heic(data):
        return "HEIC"
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return "WebP"
    return next((name for name, starts in _PICTURES.items() if data.startswith(starts)), None)


def video_format(data: bytes) -> str | None:
    """Return FFmpeg's name of a format of `VIDEOS`, or None."""
    if data[4:8] in (b"ftyp", b"moov", b"mdat", b"free", b"wide", b"skip"):
        return "mov"
    if data.startswith(b"\x1aE\xdf\xa3"):
        return "matroska"
    if data.startswith(b"RIFF") and data[8:12] == b"AVI ":
        return "avi"
    if data.startswith((b"GIF87a", b"GIF89a")):
        return "gif"
    if data.startswith(b"G") and data[188:189] == b"G":  # packets of 188 bytes
        return "mpegts"
    return None


def looks_like(data: bytes) -> str:
    """Describe a file that is not what it was sent as."""
    if not data:
        return "it is empty"
    picture = picture_format(data)
    if picture is not None:
        return f"it is a picture, {picture}"
    if data[4:12] in (b"ftypavif", b"ftypavis"):
        return "it is AVIF"
    if video_format(data) is not None:
        return "it is a video"
    if data.lstrip()[:1] in (b"<", b"{", b"#"):
        return "it starts like a web page or text"
    return f"it starts with bytes {data[:4].hex(' ')}"
