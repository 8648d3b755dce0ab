"""Messages between a front end and an engine process. Torch-free, msgspec structs, never pickle.

    front end ──▶ engine   Start, Submit, Abort, Flush, Stop
    engine ──▶ front end   Loading, then Ready | StartFailed, then Delta, Done, Failed and Stats
    rank 0 ──▶ other ranks Start, Go, Turn, Stop

Every `Submit` is answered by any number of `Delta` and exactly one `Done` or `Failed`. Pixels do not travel
in a message: `ImageInput.pixels` names a shared-memory file that the engine unlinks once it has read it
(`engines/ipc/pixel_files.py`).
"""

from typing import Literal

import msgspec

from engines.options import EngineOptions
from engines.spec import ModelSpec
from engines.stats import Stats
from engines.vision.parts import ImagePlan

HEARTBEAT_S = 1.0  # an engine that serves sends Stats at least this often, except during a step

FinishReason = Literal["stop", "length", "abort"]
LogLevel = Literal["debug", "info", "warning", "error"]


class PixelRef(msgspec.Struct, frozen=True, kw_only=True):
    """One uint8 array in shared memory."""

    path: str
    shape: tuple[int, ...]  # dynamic_tiles: [tiles, side, side, 3]


class ImageInput(msgspec.Struct, frozen=True, kw_only=True):
    """One image of a prompt: tokens [start, start + num_tokens) are its own."""

    key: bytes  # 16-byte digest of the picture, of every preprocessing option and of `shared`
    start: int
    num_tokens: int
    rows: tuple[tuple[int, int], ...]  # which of its tokens are image rows: (offset, count), ascending
    pixels: tuple[PixelRef, ...]  # what `PixelSpec.arrays` gave, or the picture: [height, width, 4]
    plan: ImagePlan
    shared: tuple[int, ...]  # what `AssemblySpec.shared` gave
    is_cut: bool = True  # False: the picture itself, which the engine cuts (`PixelSpec.cuts`)


class Sampling(msgspec.Struct, frozen=True, kw_only=True):
    """How one sequence chooses tokens. The front end fills every field; ids only, no text."""

    max_new_tokens: int  # 0: the prompt is computed, and nothing comes of it
    temperature: float  # 0: greedy
    top_k: int  # 0: all
    top_p: float  # 1: all
    min_p: float  # 0: all
    repetition_penalty: float  # 1: none; over prompt and output
    presence_penalty: float  # 0: none; over output
    frequency_penalty: float
    seed: int  # the same seed gives the same tokens whatever else is in the batch
    min_new_tokens: int
    ignore_eos: bool
    eos_token_ids: tuple[int, ...]  # end the sequence unless ignore_eos
    stop_token_ids: tuple[int, ...]  # end the sequence always
    bad_sequences: tuple[tuple[int, ...], ...]  # token sequences that must not appear in the output
    logit_bias: dict[int, float]
    logprobs: int | None  # alternatives a token; 0: the chosen token only; None: no logprobs
    prompt_logprobs: int | None = None  # likewise of each prompt token, given those before it
    grammar: str | None = None  # what the output must follow (`engines/sampling/grammar.py`); None: nothing


class Vocabulary(msgspec.Struct, frozen=True, kw_only=True):
    """The tokens as text, for grammars."""

    tokens: tuple[bytes, ...]  # by id; b"": no text
    special_ids: tuple[int, ...]  # steer the model and are no text
    end_ids: tuple[int, ...]  # end a text where its grammar is complete; at least one


def greedy(num_tokens: int, *, stop_token_ids: tuple[int, ...] = ()) -> Sampling:
    """Return the sampling of measurements: the most likely token each time, to the full length."""
    return Sampling(
        max_new_tokens=num_tokens,
        temperature=0.0,
        top_k=0,
        top_p=1.0,
        min_p=0.0,
        repetition_penalty=1.0,
        presence_penalty=0.0,
        frequency_penalty=0.0,
        seed=0,
        min_new_tokens=0,
        ignore_eos=True,
        eos_token_ids=(),
        stop_token_ids=stop_token_ids,
        bad_sequences=(),
        logit_bias={},
        logprobs=None,
    )


class Start(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The first message: what to load and how to run it."""

    folder: str  # checkpoint folder
    spec: ModelSpec
    options: EngineOptions
    vocabulary: Vocabulary | None = None  # None: no request may have a grammar
    log_level: LogLevel | None = None  # of our own lines, of every rank; None: warnings and errors


class Submit(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """One sequence to generate; `n` choices of a request are n submits."""

    request_id: str
    token_ids: tuple[int, ...]  # image slots hold the family's placeholder id
    images: tuple[ImageInput, ...]
    sampling: Sampling
    priority: int  # lower runs first; equal: first come, first served
    adapter: str | None = None  # name of a LoRA adapter; None: the bare model
    service_class: int = 0  # number in `SchedulerOptions.classes`; 0 where there are none


class Abort(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Stop a sequence; answered by `Done(finish_reason="abort")` unless it has ended already."""

    request_id: str


class Flush(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Forget every prefix of the cache; sequences that run keep their pages. There is no answer."""


class Compile(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Begin to compile a grammar beside the steps: a Submit with it follows. Rank 0 tells all ranks."""

    grammar: str


Order = Submit | Abort | Flush | Compile  # what every rank of a group takes before a step


class Turn(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """What rank 0 took in before a step, for the other ranks of its group to take and step alike."""

    messages: tuple[Order, ...]
    digest: int  # `EngineLoop.digest` before the turn


class Go(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Every rank has its weights: join the group."""


class Stop(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Leave the process; sequences that still run get `Failed`."""


class TokenLogprobs(msgspec.Struct, frozen=True, kw_only=True):
    """Log-probabilities of one token, before temperature and filters."""

    chosen: float
    top_ids: tuple[int, ...]
    top_logprobs: tuple[float, ...]


class Delta(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Tokens a sequence gained; before the first of them, what was asked about its prompt."""

    request_id: str
    token_ids: tuple[int, ...]
    logprobs: tuple[TokenLogprobs, ...]  # one a token, or empty
    prompt_logprobs: tuple[TokenLogprobs, ...] = ()  # of the next prompt tokens; the first of all has none


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """What a sequence cost."""

    prompt_tokens: int
    cached_tokens: int  # prompt tokens taken from the prefix cache
    image_tokens: int
    output_tokens: int
    queue_s: float
    prefill_s: float  # admission to first token, the vision tower included
    encode_s: float  # of it, the passes of the tower that held pictures of this prompt
    decode_s: float
    num_preemptions: int


class Done(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The end of a sequence that ran."""

    request_id: str
    finish_reason: FinishReason
    stop_token_id: int | None  # the eos or stop id that ended it; not part of any Delta
    usage: Usage


class Failed(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The end of a sequence that could not run."""

    request_id: str
    code: str  # as in `RequestError.code`; `engine_error` for a fault of ours
    message: str


class Loading(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """A phase of the start began."""

    phase: str


class Ready(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The engine serves; what it really got."""

    device: str
    dtype: str
    session_len: int
    page_tokens: int
    num_pages: int
    page_bytes: int
    bytes_by_part: dict[str, int]
    phase_s: dict[str, float]  # seconds of each start phase, in order


class StartFailed(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The engine cannot serve; `kind` is the name of the error's class."""

    kind: str
    message: str


ToEngine = Start | Order | Stop | Go | Turn
FromEngine = Loading | Ready | StartFailed | Delta | Done | Failed | Stats
Reply = Delta | Done | Failed
