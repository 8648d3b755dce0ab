"""What an engine says of itself while it serves: counters, gauges and the work of its steps. Torch-free."""

from typing import Literal

import msgspec


class PhaseFigures(msgspec.Struct, frozen=True, kw_only=True):
    """What the steps of a phase did since the start; all but `seconds` is what had to be done.

    Counted as it is launched, and timed as it is read: at any moment the two are a step apart.
    """

    phase: Literal["prefill", "decode"]  # decode: steps without prompt tokens
    seconds: float  # of the device's work on them
    steps: int
    rows: int  # tokens that went through the layers
    sampled: int  # rows that went through the head
    keys: int  # keys and values read, each counted once a step and sequence
    pairs: int  # of a query and a key


class Stats(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Sent every second and after each change of state; also the engine's heartbeat."""

    num_running: int
    num_waiting: int
    running_by_class: tuple[int, ...]  # by number of the class; empty without classes
    waiting_by_class: tuple[int, ...]
    pages_used: int  # held by sequences
    pages_cached: int  # free, but still in the prefix cache
    pages_total: int
    steps: int
    prompt_tokens: int  # counters since start
    cached_tokens: int
    output_tokens: int
    images_encoded: int
    encoder_cache_hits: int
    preemptions: int
    proposed_tokens: int  # from sequences' own text, checked by the model
    accepted_tokens: int  # of these
    step_s: float  # time inside steps since start
    wait_s: float  # of it, how long the host waited for results; the rest is the host's own work
    gap_s: float  # how long the device waited between steps while there was work
    encode_s: float  # how long the device encoded pictures
    phases: tuple[PhaseFigures, ...]  # the steps themselves, without the encoding
