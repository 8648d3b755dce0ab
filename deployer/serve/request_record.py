"""What is known of one HTTP request: filled by the routes, written to the log and the metrics at its end."""

import time
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import Any

from starlette.requests import Request

from deployer.prompt.prepared_image import PictureTimes

KEY = "deployer.record"
BARE_SEND = "deployer.bare_send"  # in the scope: the server's own `send`, without our layers


@dataclass(kw_only=True, slots=True)
class RequestRecord:
    """One request; never holds prompts, images or keys."""

    id: str
    method: str
    path: str
    start_s: float = field(default_factory=time.perf_counter)
    status: int = 0
    model: str = ""  # or adapter, as it was asked for
    owner: str | None = None  # digest of the API key; None where there are no keys
    qos: str | None = None  # class of service; None where there are none
    user: str | None = None
    metadata: Mapping[str, str] | None = None  # the client's own
    completion: str | None = None  # id of the completion, also the prefix of the engine's request ids
    stream: bool = False
    wants_timings: bool = False
    num_images: int = 0
    image_notes: tuple[str, ...] = ()  # what the client should know of its pictures
    prompt_tokens: int = 0
    cached_tokens: int = 0
    image_tokens: int = 0
    output_tokens: int = 0
    first_token_s: float | None = None  # time.perf_counter() of the first and the last token that came back
    last_token_s: float | None = None
    trace: str | None = None  # id of its trace
    pictures: tuple[PictureTimes, ...] = ()
    submitted_s: float = 0.0  # when its sequences went to the engine
    prompt_begun_s: float = 0.0
    prompt_s: float = 0.0  # fetching, decoding and cutting pictures, template, tokens
    queue_s: float = 0.0  # of the choice that waited longest; as the next two
    prefill_s: float = 0.0  # admission to first token, the vision tower included
    encode_s: float = 0.0  # of it, the tower's passes with its pictures
    decode_s: float = 0.0
    finish: str | None = None
    error: str | None = None  # code of the error that ended it

    def prompt_is_built(self, *, begun_s: float) -> None:
        """Note that the prompt is ready now."""
        self.prompt_begun_s, self.prompt_s = begun_s, time.perf_counter() - begun_s

    def saw_tokens(self, count: int) -> None:
        """Note that `count` tokens arrived now."""
        if count:
            self.last_token_s = time.perf_counter()
            self.output_tokens += count
            if self.first_token_s is None:
                self.first_token_s = self.last_token_s

    def timings(self) -> dict[str, float]:
        """Return where the time went, milliseconds."""
        spent = {**self.stages(), "total": time.perf_counter() - self.start_s}
        return {f"{name}_ms": round(seconds * 1e3, 3) for name, seconds in spent.items()}

    def stages(self) -> dict[str, float]:
        """Return the seconds of each stage; those of pictures are parts of `prompt` and `prefill`.

        Pictures are fetched side by side: the longest counts. The work on them is added up.
        """
        return {
            "prompt": self.prompt_s,
            "fetch": max((one.fetch_s for one in self.pictures), default=0.0),
            "picture_decode": sum(one.decode_s for one in self.pictures),
            "picture_cut": sum(one.cut_s for one in self.pictures),
            "queue": self.queue_s,
            "prefill": self.prefill_s,
            "encode": self.encode_s,
            "decode": self.decode_s,
        }

    def notes(self) -> dict[str, list[str]]:
        """Return the field of a usage object that has the notes on pictures; nothing where there are none."""
        return {"image_notes": list(self.image_notes)} if self.image_notes else {}

    @property
    def ttft_s(self) -> float | None:
        """Seconds from the request's head to its first token."""
        return None if self.first_token_s is None else self.first_token_s - self.start_s

    @property
    def token_s(self) -> float | None:
        """Mean seconds between output tokens; None below two tokens."""
        if self.first_token_s is None or self.last_token_s is None or self.output_tokens < 2:
            return None
        return (self.last_token_s - self.first_token_s) / (self.output_tokens - 1)


def record_of(request: Request) -> RequestRecord:
    """Return the record that `RequestLog` put into the scope."""
    return record_in(request.scope)


def record_in(scope: MutableMapping[str, Any]) -> RequestRecord:
    """Return the record of an ASGI scope."""
    record = scope[KEY]
    assert isinstance(record, RequestRecord), (
        "RequestLog is the outermost layer, every scope below it has a record"
    )
    return record
