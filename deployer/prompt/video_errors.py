"""How a video is refused: every message names the video by its position in the request.

Codes, stable for clients:

    too_many_videos            more videos than `vision.max_videos`
    videos_not_supported       the model reads no videos
    video_url_invalid          not a data:, http(s): or file: URL, or a broken one
    video_file_refused         a file: URL outside `vision.file_root`, or no such file
    video_address_refused      a host outside `vision.allowed_domains`, or an address that is not public
    video_fetch_failed         the host cannot be reached or does not answer with a file
    video_fetch_timeout        the download took longer than `vision.video_timeout_s`
    video_decode_timeout       so did finding and decoding its frames
    video_too_large            more bytes than `vision.max_video_bytes`
    video_too_many_pixels      more pixels a frame than `vision.max_image_pixels`
    video_too_many_frames      more frames in a request than `vision.max_video_frames`
    video_empty                0 bytes, or no frame
    video_format_unsupported   not a format of `media_format.py`, no picture in it, or no decoder here
    video_option_refused       `num_frames`, `fps`, `max_pixels` and the like: not this model's, not of such a
                               video, or beyond the deployment's own
    video_placement            in a message that is not the user's
    video_unreadable           said to be a video, but truncated or damaged
"""

from engines.errors import RequestError


class VideoError(RequestError):
    """One video cannot be used; `index` counts the request's videos from 0."""

    def __init__(self, message: str, *, code: str, index: int) -> None:
        super().__init__(f"video {index + 1}: {message}", code=code)
        self.index = index
        self.about = message  # without the video's place
