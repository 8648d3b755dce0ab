"""How far one answer has come in its grammar: what may follow it, what likely does. Bits and ints only."""

import logging
from collections.abc import Generator
from collections.abc import Sequence as Seq
from typing import TYPE_CHECKING, NamedTuple

from engines.sampling.likely_tokens import LikelyTokens, mask_key

if TYPE_CHECKING:
    from llguidance import LLMatcher

# Places without likely tokens before nobody waits for more; then for how many tokens, at first and at most.
PATIENCE, FIRST_REST, LONGEST_REST = 8, 8, 32

# Yields what finds a mask, is sent that mask, and returns tokens and what may follow each.
Walk = Generator["LLMatcher", bytes | None, list[tuple[int, bytes]]]

logger = logging.getLogger(__name__)


class MaskBytes(NamedTuple):
    """Bytes of a mask."""

    of_row: int  # of logits, which may be more than there are tokens
    of_tokens: int  # as llguidance writes it beside others


class GrammarState:
    """How far one sequence has come in its grammar."""

    def __init__(
        self,
        matcher: "LLMatcher",
        *,
        end_ids: Seq[int],
        vocab: int,
        num_tokens: int = 0,
        likely: LikelyTokens | None = None,
    ) -> None:
        """`num_tokens`: of the vocabulary; a row of logits has `vocab`.

        `likely`: what other sequences chose, which this one adds to; None: it proposes nothing."""
        self._matcher = matcher
        self._end_ids = end_ids
        self._vocab = vocab
        self._num_tokens = num_tokens
        self._likely = likely
        self._num_taken = 0
        self._next_bits: bytes | None = None  # what may follow the tokens taken, once that was asked
        self._masks: dict[int, int] = {}  # by the place of a token to come: the key of what it may be
        self._num_idle = 0  # places since the last at which a token was likely
        self._rest = 0  # outputs for which nobody waits after places without likely tokens
        self._rests_until = 0  # outputs
        self._learns_until = 0  # outputs: what is chosen is noted where someone asks what is likely
        self.fault: str | None = None  # why the grammar was given up; its sequence then ends with Failed

    def mask(self, outputs: Seq[int]) -> bytes:
        """Return one bit an id, lowest first, in whole 32-bit words: what may follow `outputs`.

        Takes what is new since the last call and takes back what is no longer there. Where the grammar cannot
        go on only the ids that end a text are left.
        """
        self.follow(outputs)
        if self.fault is None:
            bits = self._next_bits = self._next_bits or self._bits_of_next()
            if bits is not None:
                if self._num_taken < self._learns_until and self._num_taken not in self._masks:
                    self._masks[self._num_taken] = mask_key(bits)
                return bits
            self._give_up("no token of the vocabulary can come next")
        return bits_of(self._end_ids, self._vocab)

    @property
    def mask_bytes(self) -> "MaskBytes":
        """Bytes of its masks."""
        return MaskBytes(num_mask_bytes(self._vocab), num_mask_bytes(self._num_tokens))

    def matcher_behind(self, outputs: Seq[int]) -> "LLMatcher | None":
        """Return what finds the mask behind `outputs`; None where it is known or the grammar was given up."""
        self.follow(outputs)
        return None if self.fault is not None or self._next_bits is not None else self._matcher

    def take_mask(self, bits: bytes | None) -> None:
        """Take what `matcher_behind` found; where it is None, `mask` says why nothing can come."""
        self._next_bits = bits

    def masks_behind(self, outputs: Seq[int], proposed: Seq[int]) -> list[bytes]:
        """Return what may follow each token proposed behind `outputs`, up to the first that may not come.

        Its own state stays at `outputs`. None that ends a text is taken for one that may come.
        """
        self.follow(outputs)
        if self.fault is not None:
            return []
        ahead = GrammarState(self._matcher.deep_copy(), end_ids=self._end_ids, vocab=self._vocab)
        masks: list[bytes] = []
        for token in proposed[: self._matcher.validate_tokens(list(proposed))]:
            bits = None if token in self._end_ids else ahead._mask_behind(token)
            if bits is None:
                break
            masks.append(bits)
        return masks

    def likely_behind(self, outputs: Seq[int], most: int) -> Walk:
        """Walk ahead: give up to `most` tokens that likely follow `outputs`, and what may follow each.

        Yields what finds the next mask, and is sent that mask, None where nothing can come; so several walk
        at once. Its own state stays at `outputs`. None that ends a text is taken for one that is likely.
        """
        if self._likely is None or most <= 0:
            return []
        self._learns_until = len(outputs) + PATIENCE + LONGEST_REST
        matcher = self.matcher_behind(outputs)
        if matcher is not None:
            self._next_bits = yield matcher
        bits = self.mask(outputs)
        if self.fault is not None:
            return []
        found: list[tuple[int, bytes]] = []
        key, ahead = self._masks[self._num_taken], self._matcher  # its own as long as nothing is taken
        while len(found) < most:
            token = self._likely.behind(bits, key, ahead.compute_ff_bytes())
            if token is None or token in self._end_ids:
                break
            ahead = ahead if found else self._matcher.deep_copy()
            ahead.consume_token(token)
            following = yield ahead
            if following is None:
                break
            bits, key = following, mask_key(following)
            found.append((token, bits))
            self._masks[self._num_taken + len(found)] = key
        self._pace(is_idle=not found)
        return found

    def awaits_likely(self, num_outputs: int) -> bool:
        """Tell whether to wait for the token behind so many outputs: some were likely of late."""
        return num_outputs >= self._rests_until

    def _pace(self, *, is_idle: bool) -> None:
        self._num_idle = self._num_idle + 1 if is_idle else 0
        if not is_idle:
            self._rest = self._rests_until = 0
        elif self._num_idle >= PATIENCE:
            self._rest = min(max(2 * self._rest, FIRST_REST), LONGEST_REST)
            self._rests_until = self._num_taken + self._rest

    def _mask_behind(self, token: int) -> bytes | None:
        """Take a token that may come; None where nothing can come behind it."""
        self._matcher.consume_token(token)
        return self._bits_of_next()

    def _bits_of_next(self) -> bytes | None:
        return next_bits(self._matcher, num_mask_bytes(self._vocab))

    def follow(self, outputs: Seq[int]) -> None:
        """Take what is new since the last call, and take back what is no longer there."""
        if self.fault is not None:
            return
        back = self._num_taken - len(outputs)
        if back > 0:
            self._matcher.rollback(back)
        new = list(outputs[self._num_taken :])
        if back > 0 or new:
            self._learn(new)
            self._next_bits = None
        self._num_taken = len(outputs)
        if new and not self._matcher.consume_tokens(new):
            self._give_up(f"tokens {new} do not follow")

    def _learn(self, new: Seq[int]) -> None:
        """Remember which tokens were chosen under the masks that were made for them."""
        for place, token in enumerate(new, self._num_taken):
            if self._likely is not None and place in self._masks:
                self._likely.note(self._masks[place], token)
        self._masks.clear()  # those of tokens that were proposed behind a wrong one are of no use

    def _give_up(self, why: str) -> None:
        error = first_line(self._matcher.get_error())
        error = why if error in ("", "NoExtensionBias") else error  # so it calls that nothing can come
        self.fault = f"the grammar cannot be followed after {self._num_taken} tokens: {error}"
        logger.warning("%s", self.fault)


def first_line(error: str) -> str:
    """Return the error without the parser's state and the grammar, which is the client's own text."""
    return error.partition("<state>")[0].strip()


def bits_of(ids: Seq[int], vocab: int) -> bytes:
    """Return the mask of these ids, as `GrammarState.mask` does."""
    found = bytearray(num_mask_bytes(vocab))
    for token_id in ids:
        found[token_id // 8] |= 1 << token_id % 8
    return bytes(found)


def next_bits(matcher: "LLMatcher", num_bytes: int) -> bytes | None:
    """Return what may come next, a bit an id; None where nothing can."""
    return whole_mask(matcher, matcher.compute_bitmask(), num_bytes)


def whole_mask(matcher: "LLMatcher", found: bytes, num_bytes: int) -> bytes | None:
    """Return the mask that a matcher found, for ids that no token has too; None where nothing can come."""
    bits = found[:num_bytes].ljust(num_bytes, b"\0")
    return None if matcher.is_error() or bits == bytes(num_bytes) else bits


def num_mask_bytes(vocab: int) -> int:
    """Return the bytes of a mask: whole words of 32 bits."""
    return (vocab + 31) // 32 * 4
