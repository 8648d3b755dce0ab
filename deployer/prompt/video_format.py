"""What format a video file has, told by its first bytes; FFmpeg is never left to guess.

Some formats that it knows (playlists) name other files and hosts.
"""

from deployer.prompt.video_errors import VideoError


def video_format(data: bytes, *, index: int) -> str:
    """Return FFmpeg's name of a file's format. Raises VideoError."""
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
    looks = f"it starts with bytes {data[:4].hex(' ')}"
    if data.lstrip()[:1] in (b"<", b"{", b"#"):
        looks = "it starts like a web page or text"
    raise VideoError(
        f"not a video format we read ({looks}): must be one of AVI, GIF, MP4, MPEG-TS, Matroska, QuickTime, "
        "WebM",
        code="video_format_unsupported",
        index=index,
    )
