"""Grammars that hold answers to a form: which tokens may come next, as bits, made on the host.

A grammar is llguidance's own text (a Lark grammar, or JSON around a JSON schema); front ends write it
(`deployer/generation/response_format.py`). The mask of a step depends on every token before it, so it is made
while the network of its step runs: `Sequence.is_chosen_late` says so.

Compiling takes up to seconds, for which llguidance lets go of the interpreter's lock: it is done on threads,
and `engines/steps/grammar_gate.py` keeps a request out of the loop meanwhile.

Nothing here knows tensors; `engines/sampling/choice_rows.py` brings the bits to the device.
"""

import json
import logging
import time
from collections import OrderedDict
from collections.abc import Sequence as Seq
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

from engines.errors import RequestError
from engines.sampling.grammar_state import GrammarState, bits_of, first_line
from engines.sampling.likely_tokens import LikelyTokens

if TYPE_CHECKING:
    from llguidance import LLMatcher, LLTokenizer

    from engines.messages import Vocabulary

KEPT = 32  # compiled grammars: clients ask with the same few again and again
THREADS = 2  # that compile; a large grammar does not hold up all others
# Where text is forced llguidance would allow the first token of its canonical spelling alone, and as it knows
# none here, one byte. So the model chooses among all spellings. Of several grammars one says so for all.
SPELLED_FREELY = '%llguidance { "no_forcing": true }'
TRIED_TOKENS = 64  # of one text that a grammar takes: what fails at once fails before anything runs

logger = logging.getLogger(__name__)


class Grammars:
    """Compiles the grammars of requests against one vocabulary, whose trie is made once."""

    def __init__(self, vocabulary: "Vocabulary | None", *, vocab: int, proposes: bool = False) -> None:
        """`vocab`: logits of a row; ids that the vocabulary does not have are never allowed.

        `proposes`: states say which tokens are likely next, for which answers of a grammar are remembered.
        """
        self._vocabulary = vocabulary
        self._vocab = vocab
        self._trie: Future[LLTokenizer] | None = None
        self._compiled: OrderedDict[str, Future[LLMatcher]] = OrderedDict()  # the one used last at the end
        self._threads: ThreadPoolExecutor | None = None
        self._proposes = proposes
        # NOTE: kept by the order of requests alone, so that ranks agree; of `_compiled` a clock decides.
        self._likely: OrderedDict[str, LikelyTokens] = OrderedDict()

    def begin(self, *, is_awaited: bool = False) -> None:
        """Make the trie from now on, on a thread, unless that was begun before.

        For 150,000 tokens it takes 1 to 2 s, in which llguidance holds the interpreter's lock: in a start
        they would be 1 to 2 s more, beside running sequences a pause of all. So it is begun when the engine
        has nothing to do, or by the first request with a grammar where that comes sooner.
        `is_awaited`: a request waits for it, so the log says how long.
        """
        if self._vocabulary is not None and self._trie is None:
            thread = ThreadPoolExecutor(1, thread_name_prefix="grammar")
            level = logging.INFO if is_awaited else logging.DEBUG
            self._trie = thread.submit(_trie, self._vocabulary, self._vocab, level)
            thread.shutdown(wait=False)

    def compile(self, grammar: str, *, beside_others: bool) -> None:
        """Begin to compile on a thread, unless that was begun before; `beside_others`: sequences run."""
        if self._vocabulary is None:
            return
        if self._trie is None and beside_others:
            logger.warning("the first grammar came before the engine had rested: all sequences wait")
        self._begun(grammar)

    def is_begun(self, grammar: str) -> bool:
        """Whether it is being compiled or is kept compiled."""
        return grammar in self._compiled

    def is_compiled(self, grammar: str) -> bool:
        """Whether `open` would answer at once."""
        if self._vocabulary is None:
            return True
        found = self._compiled.get(grammar)
        return found is not None and found.done()

    def open(self, grammar: str) -> "GrammarState":
        """Return the state before the first token, once it is compiled; raises RequestError if it is not."""
        if self._vocabulary is None:
            raise RequestError("this engine was started without a vocabulary: it cannot follow a grammar")
        matcher = self._begun(grammar).result().deep_copy()
        assert self._trie is not None, "made before anything is compiled"
        likely = self._remembered(grammar) if self._proposes else None
        return GrammarState(
            matcher,
            end_ids=self._vocabulary.end_ids,
            vocab=self._vocab,
            num_tokens=self._trie.result().vocab_size,
            likely=likely,
        )

    def _remembered(self, grammar: str) -> LikelyTokens:
        assert self._trie is not None, "made before anything is compiled"
        if grammar not in self._likely:
            self._likely[grammar] = LikelyTokens(self._trie.result().greedy_tokenize)
        self._likely.move_to_end(grammar)
        if len(self._likely) > KEPT:
            self._likely.popitem(last=False)
        return self._likely[grammar]

    def _begun(self, grammar: str) -> "Future[LLMatcher]":
        assert self._vocabulary is not None, "asked where there is a vocabulary"
        if grammar not in self._compiled:
            self.begin(is_awaited=True)
            assert self._trie is not None, "begun where there is a vocabulary"
            self._threads = self._threads or ThreadPoolExecutor(THREADS, thread_name_prefix="grammar")
            self._compiled[grammar] = self._threads.submit(
                _compile, self._trie, grammar, self._vocabulary, self._vocab
            )
            self._forget()
        self._compiled.move_to_end(grammar)
        return self._compiled[grammar]

    def _forget(self) -> None:
        """Let go of what was not used for longest; what is being compiled is waited for."""
        done = [grammar for grammar, made in self._compiled.items() if made.done()]
        for grammar in done[: max(len(self._compiled) - KEPT, 0)]:
            del self._compiled[grammar]


def _compile(trie: "Future[LLTokenizer]", grammar: str, vocabulary: "Vocabulary", vocab: int) -> "LLMatcher":
    blanks = [token_id for token_id, token in enumerate(vocabulary.tokens) if token and not token.strip()]
    return compiled(trie.result(), grammar, end_ids=vocabulary.end_ids, blank_ids=blanks, vocab=vocab)


def compiled(
    tokenizer: "LLTokenizer", grammar: str, *, end_ids: Seq[int], blank_ids: Seq[int], vocab: int
) -> "LLMatcher":
    """Return a matcher before its first token; raises RequestError where there is none or it fails soon.

    The text that is tried takes the lowest id each time, blanks and ends where nothing else may come.
    """
    from llguidance import LLMatcher

    matcher = LLMatcher(tokenizer, spelled_freely(grammar), log_level=0)
    if matcher.is_error():
        raise RequestError(f"the grammar does not compile: {first_line(matcher.get_error())}")
    tried = GrammarState(matcher.deep_copy(), end_ids=end_ids, vocab=vocab)
    ends, blanks = _ids(bits_of(end_ids, vocab)), _ids(bits_of(blank_ids, vocab))
    tokens: list[int] = []
    for _ in range(TRIED_TOKENS):
        allowed = _ids(tried.mask(tokens)) & ~ends
        if tried.fault is not None:
            raise RequestError(tried.fault, code="grammar_failed")
        if not allowed:
            break
        choice = allowed & ~blanks or allowed
        tokens.append((choice & -choice).bit_length() - 1)
    return matcher


def spelled_freely(grammar: str) -> str:
    """Return the grammar, Lark or JSON around others, with text that it forces left to any tokens."""
    if not grammar.lstrip().startswith("{"):
        return f"{grammar}\n{SPELLED_FREELY}\n"
    whole = json.loads(grammar)
    rule = {"name": "spelled_freely", "lark_grammar": f'{SPELLED_FREELY}\nstart: "x"'}
    return json.dumps({**whole, "grammars": [*whole["grammars"], rule]})


def _trie(vocabulary: "Vocabulary", vocab: int, level: int) -> "LLTokenizer":
    """Return llguidance's view of a vocabulary; `level`: that of the line which says what it cost."""
    from llguidance import LLTokenizer, TokenizerWrapper

    began = time.monotonic()
    made = LLTokenizer(
        TokenizerWrapper(_Tokens(vocabulary)), n_vocab=vocab, eos_token=list(vocabulary.end_ids)
    )
    logger.log(level, "ready for grammars: that took %.1f s, once", time.monotonic() - began)
    return made


class _Tokens:
    """A vocabulary as llguidance asks for one. `SPELLED_FREELY` has no text forced, so bytes are enough."""

    def __init__(self, vocabulary: "Vocabulary") -> None:
        self.tokens = list(vocabulary.tokens)
        self.special_token_ids = list(vocabulary.special_ids)
        self.eos_token_id = vocabulary.end_ids[0]
        self.bos_token_id = None
        self._by_bytes = {token: token_id for token_id, token in enumerate(vocabulary.tokens) if token}

    def __call__(self, text: str | bytes) -> list[int]:
        data = text.encode() if isinstance(text, str) else text
        singles = (self._by_bytes.get(data[place : place + 1]) for place in range(len(data)))
        return [token_id for token_id in singles if token_id is not None]


def _ids(bits: bytes) -> int:
    """Return a mask as one number, the bit of id 0 lowest."""
    return int.from_bytes(bits, "little")
