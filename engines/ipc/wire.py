"""Messages as bytes: msgpack through msgspec, types checked on arrival. Torch-free.

One frame to the engine is one message; one frame from it is a list, so that a step costs one frame whatever
its size.
"""

from collections.abc import Sequence

import msgspec

from engines.messages import FromEngine, ToEngine
from engines.vision.kinds import decode_part

_encoder = msgspec.msgpack.Encoder()
_to_engine: msgspec.msgpack.Decoder[ToEngine] = msgspec.msgpack.Decoder(ToEngine, dec_hook=decode_part)
_from_engine = msgspec.msgpack.Decoder(list[FromEngine])


def encode_to_engine(message: ToEngine) -> bytes:
    """Pack one message for the engine."""
    return _encoder.encode(message)


def decode_to_engine(frame: bytes) -> ToEngine:
    """Unpack what `encode_to_engine` packed; raises msgspec.DecodeError on anything else."""
    return _to_engine.decode(frame)


def encode_from_engine(messages: Sequence[FromEngine]) -> bytes:
    """Pack all messages of one step."""
    return _encoder.encode(messages)


def decode_from_engine(frame: bytes) -> list[FromEngine]:
    """Unpack what `encode_from_engine` packed; raises msgspec.DecodeError on anything else."""
    return _from_engine.decode(frame)
