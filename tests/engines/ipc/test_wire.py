import msgspec
import pytest
from sequences import sampling
from tiny_engine import OPTIONS, SPEC

from engines.ipc.wire import decode_from_engine, decode_to_engine, encode_from_engine, encode_to_engine
from engines.messages import (
    Abort,
    Delta,
    Done,
    Failed,
    FromEngine,
    ImageInput,
    Loading,
    PixelRef,
    Ready,
    Start,
    StartFailed,
    Stop,
    Submit,
    ToEngine,
    TokenLogprobs,
    Usage,
)
from engines.vision.parts import ImagePlan

PIXELS = PixelRef(path="/dev/shm/x", shape=(2, 16, 16, 3))
IMAGE = ImageInput(
    key=b"\0" * 16,
    start=3,
    num_tokens=8,
    rows=((0, 4), (5, 3)),
    pixels=(PIXELS, PIXELS),
    plan=ImagePlan(width=32, height=16, grid=(2, 1), num_tiles=2),
    shared=(7,),
)
HOW = sampling(logit_bias={7: -1.5}, bad_sequences=((1, 2), (3,)), logprobs=2, seed=2**63)
USAGE = Usage(
    prompt_tokens=1,
    cached_tokens=2,
    image_tokens=3,
    output_tokens=4,
    queue_s=0.5,
    prefill_s=0.25,
    encode_s=0.125,
    decode_s=0.125,
    num_preemptions=0,
)


@pytest.mark.parametrize(
    "message",
    [
        Start(folder="/x", spec=SPEC, options=OPTIONS),
        Submit(request_id="a", token_ids=(1, 2), images=(IMAGE,), sampling=HOW, priority=-1),
        Abort(request_id="a"),
        Stop(),
    ],
    ids=lambda message: type(message).__name__,
)
def test_messages_to_the_engine_arrive_as_they_were(message: ToEngine) -> None:
    assert decode_to_engine(encode_to_engine(message)) == message


def test_messages_of_one_step_arrive_in_order_and_as_they_were() -> None:
    logprobs = TokenLogprobs(chosen=-0.5, top_ids=(1,), top_logprobs=(-0.25,))
    messages: list[FromEngine] = [
        Loading(phase="weights"),
        StartFailed(kind="DeviceError", message="no"),
        Ready(
            device="cpu",
            dtype="float32",
            session_len=1,
            page_tokens=2,
            num_pages=3,
            page_bytes=4,
            bytes_by_part={"weights": 5},
            phase_s={"weights": 0.5},
        ),
        Delta(request_id="a", token_ids=(1, 2), logprobs=(logprobs, logprobs)),
        Delta(request_id="a", token_ids=(), logprobs=(), prompt_logprobs=(logprobs,)),
        Done(request_id="a", finish_reason="stop", stop_token_id=2, usage=USAGE),
        Failed(request_id="b", code="engine_error", message="why"),
    ]
    assert decode_from_engine(encode_from_engine(messages)) == messages


@pytest.mark.parametrize("frame", [b"", b"\xc1", msgspec.msgpack.encode({"type": "Run"})])
def test_what_is_no_message_is_refused(frame: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        decode_to_engine(frame)
