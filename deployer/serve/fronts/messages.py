"""What the parent of a server of several processes and its fronts say to each other; msgspec structs.

    parent ──▶ front   FrontStart, CheckpointOpened, EngineNow, Replies, EndSequences, RequestEnds,
                       StoreAnswer
    front ──▶ parent   Listening, Answering | FrontFailed, Submit, Abort, Flush, PlaceRefused, RequestEnded,
                       RequestToEnd, StoredResponse | ReadResponse | ForgetResponse

Connections travel beside it, as open files (`handover.py`), and places in shared memory (`shared_places.py`).
"""

from collections.abc import Sequence

import msgspec

from deployer.config.devices import Device, EngineName
from deployer.serve.response_store import StoreAsk
from engines.engine import EngineState
from engines.messages import Abort, Flush, Ready, Reply, Submit
from engines.stats import Stats
from engines.vision.kinds import decode_part


class FrontStart(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The first message: what to serve."""

    config: bytes  # a DeployConfig as JSON
    keys_file: str | None  # server.api_keys_file as it was when the server began
    admin_keys_file: str | None  # likewise
    index: int  # which front this is, from 0
    created: int  # unix time of the server's start
    folder: str  # of the places and counters that all fronts share


class CheckpointOpened(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The checkpoint lies on this machine, and the engine is chosen."""

    kind: EngineName
    device: Device


class EngineNow(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """What the engine says of itself now."""

    state: EngineState
    state_s: float
    back_in_s: float | None
    phase: str | None
    fault: str | None
    num_restarts: int
    ready: Ready | None
    stats: Stats | None


class Replies(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Replies to the sequences of this front, in their order."""

    replies: Sequence[Reply]


class Listening(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The front takes connections; until it answers requests it says 503 to them."""


class Answering(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The front answers requests."""

    fingerprint: str  # `Running.fingerprint`: equal of fronts that would give equal answers


class FrontFailed(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The front cannot serve, and why."""

    message: str


class PlaceRefused(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """A request found no place (`LatencyLimit.was_full`)."""


class RequestEnded(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """What a request took (`LatencyLimit.ended`)."""

    entered_s: float  # time.perf_counter(), the same in all processes of a machine
    ttft_s: float | None
    token_s: float | None


class RequestToEnd(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """An operator asks this front for the end of a request, which any front may have."""

    completion: str


class EndSequences(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """An operator asks for the end of these sequences of this front."""

    request_ids: list[str]


class RequestEnds(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """How many sequences a `RequestToEnd` ends; answers come in the order of the questions."""

    num_sequences: int


class StoreAnswer(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """What the store of responses says to a front (`ResponseStore.take`), in the order of the questions."""

    part: bytes | None


ToFront = FrontStart | CheckpointOpened | EngineNow | Replies | EndSequences | RequestEnds | StoreAnswer
FromFront = (
    Listening
    | Answering
    | FrontFailed
    | PlaceRefused
    | RequestEnded
    | RequestToEnd
    | StoreAsk
    | Submit
    | Abort
    | Flush
)

_encoder = msgspec.msgpack.Encoder()
_to_front: msgspec.msgpack.Decoder[ToFront] = msgspec.msgpack.Decoder(ToFront)
_from_front: msgspec.msgpack.Decoder[FromFront] = msgspec.msgpack.Decoder(FromFront, dec_hook=decode_part)


def encode(message: ToFront | FromFront) -> bytes:
    """Pack one message."""
    return _encoder.encode(message)


def decode_to_front(frame: bytes) -> ToFront:
    """Unpack what a front was told."""
    return _to_front.decode(frame)


def decode_from_front(frame: bytes) -> FromFront:
    """Unpack what a front said."""
    return _from_front.decode(frame)
