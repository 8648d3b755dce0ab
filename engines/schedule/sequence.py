"""One sequence at run time: its tokens, where their keys and values lie, and how far it has come. No tensors.

The front end's `Submit` becomes a `Sequence`; the scheduler alone changes it. A token that a step under way
samples counts from the moment that step is scheduled; until its result is taken, the device alone knows it.
"""

from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from engines.memory.prefix_cache import page_key

if TYPE_CHECKING:  # the scheduler needs no msgspec
    from numpy.typing import NDArray

    from engines.messages import Sampling
    from engines.sampling.grammar_state import GrammarState
    from engines.schedule.proposer import Proposer
    from engines.steps.step_clock import Span
    from engines.vision.parts import ImagePixels


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageSlots:
    """An image of a prompt: its tokens are [start, end)."""

    key: bytes
    start: int
    num_tokens: int
    pixels: "ImagePixels | None"  # None only where nothing is ever encoded
    rows: tuple[tuple[int, int], ...] | None = None  # (offset, count) of its image rows; None: all its tokens

    @property
    def end(self) -> int:
        """The first token after the image."""
        return self.start + self.num_tokens

    @property
    def grid(self) -> tuple[int, int]:
        """Columns and rows of its plan."""
        assert self.pixels is not None, "an image without pixels has no grid"
        return self.pixels.plan.grid

    @property
    def times(self) -> tuple[int, ...]:
        """Where the steps of its video stand in time; a picture has one, at 0."""
        assert self.pixels is not None, "an image without pixels has no plan"
        return self.pixels.plan.times or (0,)

    @property
    def num_tiles(self) -> int:
        """Tiles of its plan; 0 where nothing is ever encoded."""
        return 0 if self.pixels is None else self.pixels.plan.num_tiles

    def rows_between(self, start: int, end: int) -> Iterator[tuple[int, int, int]]:
        """Yield its image rows among tokens [start, end): first token, first row, number of them."""
        row = 0
        for offset, count in self.rows or ((0, self.num_tokens),):
            first = max(self.start + offset, start)
            last = min(self.start + offset + count, end)
            if first < last:
                yield first, row + first - self.start - offset, last - first
            row += count


@dataclass(kw_only=True, slots=True, eq=False)
class Sequence:
    """A prompt and what has been generated for it."""

    request_id: str
    token_ids: list[int]  # prompt, then output as far as it is known here
    num_prompt_tokens: int
    images: tuple[ImageSlots, ...]  # by start
    sampling: "Sampling"
    max_tokens: int  # prompt and output; reaching it ends the sequence
    priority: int
    arrival: int  # number of its submit; ties in priority go to the earlier
    service_class: int = 0  # number of its class; 0 where there are none
    root_key: bytes
    submitted_s: float  # time.monotonic()
    adapter: int | None = None  # number of the adapter that its tokens run through; None: the bare model
    admitted_s: float | None = None
    first_token_s: float | None = None

    # Positions [axes, prompt tokens], None where they are the indices; of later tokens, index + offset.
    positions: "NDArray[Any] | None" = None
    position_offset: int = 0

    num_computed: int = 0  # tokens whose keys and values are in the pages once all scheduled steps are done
    num_unknown: int = 0  # tokens that steps under way sample
    source_row: int = 0  # sampled row of the last scheduled step in which it was sampled
    attempt: int = 0  # raised where all it had computed is given up: what steps under way give is not its own
    has_ended: bool = False
    pages: "array[int]" = field(default_factory=lambda: array("i"))
    num_inserted: int = 0  # leading pages that were offered to the prefix cache or came from it
    cached_tokens: int = 0  # prompt tokens taken from the prefix cache before the first preemption
    num_preemptions: int = 0
    num_scored: int = 0  # tokens of the prompt whose successors' log-probabilities were given out
    grammar: "GrammarState | None" = None  # what its output follows
    encodings: "list[Span]" = field(default_factory=list)  # passes of the tower with its pictures
    proposer: "Proposer | None" = None  # made when it is first asked for tokens that may follow
    _page_keys: list[bytes] = field(default_factory=list)
    # Looked at once, as every step asks.
    is_penalized: bool = field(init=False)  # for what it contains
    edits_logits: bool = field(init=False)  # single logits are changed for it, always or at times
    takes_proposals: bool = field(init=False)  # proposed tokens need not be counted before the next is chosen
    _bans_sequences: bool = field(init=False)

    def __post_init__(self) -> None:
        """Note what follows from its sampling."""
        how = self.sampling
        penalties = (how.repetition_penalty, how.presence_penalty, how.frequency_penalty)
        self.is_penalized = penalties != (1.0, 0.0, 0.0)
        self.edits_logits = bool(how.logit_bias or how.bad_sequences or how.min_new_tokens)
        self._bans_sequences = any(len(bad) > 1 for bad in self.sampling.bad_sequences)
        self.takes_proposals = not (self._bans_sequences or self.is_penalized)

    @property
    def rank(self) -> tuple[int, int]:
        """Its place in every queue; the lowest is served first and preempted last."""
        return self.priority, self.arrival

    @property
    def num_tokens(self) -> int:
        """Prompt and output, those that are not known yet included."""
        return len(self.token_ids) + self.num_unknown

    @property
    def num_outputs(self) -> int:
        """Tokens generated so far that are known."""
        return len(self.token_ids) - self.num_prompt_tokens

    @property
    def is_chosen_late(self) -> bool:
        """Whether its next token can only be chosen once the one before it is known here.

        A loop that launches a step before it has fetched the last one leaves its choice for then.
        """
        return self.grammar is not None or self._bans_sequences

    @property
    def is_scored(self) -> bool:
        """Whether every token of its prompt must be computed for it: their log-probabilities are wanted."""
        return self.sampling.prompt_logprobs is not None

    @property
    def num_pending(self) -> int:
        """Tokens that must be computed before the next one can be sampled."""
        return len(self.token_ids) + self.num_unknown - self.num_computed

    @property
    def is_decoding(self) -> bool:
        """Whether only the token sampled last is pending."""
        num_tokens = len(self.token_ids) + self.num_unknown
        return num_tokens - self.num_computed == 1 and num_tokens > self.num_prompt_tokens

    @property
    def is_full(self) -> bool:
        """Whether no further token can come, known or not."""
        return len(self.token_ids) + self.num_unknown >= self.max_tokens

    def page_key(self, index: int, page_tokens: int) -> bytes:
        """Return the prefix-cache key of its page `index`, whose tokens must all be known."""
        while len(self._page_keys) <= index:
            page = len(self._page_keys)
            start, end = page * page_tokens, (page + 1) * page_tokens
            assert end <= len(self.token_ids), f"page {page} of `{self.request_id}` is not full"
            parent = self._page_keys[-1] if page else self.root_key
            key = page_key(parent, self.token_ids[start:end], self._image_slots(start, end))
            self._page_keys.append(key)
        return self._page_keys[index]

    def _image_slots(self, start: int, end: int) -> Iterator[tuple[bytes, int, int, int]]:
        for image in self.images:
            first, last = max(image.start, start), min(image.end, end)
            if first < last:
                yield image.key, first - start, last - first, first - image.start
