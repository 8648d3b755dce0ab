"""The model's own byte-level BPE, on the `tokenizers` library.

Common words of questions and answers are one token where a space stands before them; everything printed
in pictures is spelled a character a token, so that reading never depends on which merges a word happens
to hit. Merges are chains from the left (`Ġw + h`, `Ġwh + a`, ...): they begin at a space or at a capital
that opens a question, and nowhere else.
"""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors

UNKNOWN, BOS, EOS = "<unk>", "<s>", "</s>"
TURN_START, TURN_END = "<|im_start|>", "<|im_end|>"
IMAGE_START, IMAGE_END, IMAGE_ROW = "<img>", "</img>", "<IMG_CONTEXT>"
SPECIAL = (UNKNOWN, BOS, EOS, TURN_START, TURN_END, IMAGE_START, IMAGE_END, IMAGE_ROW)
# One token each, since every turn begins with one.
ROLES = ("system\n", "user\n", "assistant\n")

_SPACE = "Ġ"
_MAX_WORD = 14


def build_tokenizer(texts: Iterable[str], *, size: int) -> Tokenizer:
    """Return a tokenizer of at most `size` tokens with the words that `texts` hold most often."""
    words = Counter(word for text in texts for word in _words(text))
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {token: number for number, token in enumerate((*SPECIAL, *alphabet))}
    merges: list[tuple[str, str]] = []
    for word, _ in sorted(words.items(), key=lambda pair: (-pair[1], pair[0])):
        chain = [word[:length] for length in range(2, len(word) + 1)]
        new = [token for token in chain if token not in vocab]
        if len(vocab) + len(new) > size - len(ROLES):
            continue
        for token in new:
            vocab[token] = len(vocab)
            merges.append((token[:-1], token[-1]))
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=merges, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL])
    tokenizer.add_tokens([AddedToken(token, special=False, normalized=False) for token in ROLES])
    bos_id = tokenizer.token_to_id(BOS)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", special_tokens=[(BOS, bos_id)]
    )
    return tokenizer


def load_vocabulary(path: Path) -> Tokenizer:
    """Return the tokenizer of a tokenizer.json."""
    return Tokenizer.from_file(str(path))


def _words(text: str) -> list[str]:
    """Return the pieces of a text that may become one token."""
    pieces = text.split(" ")
    words = [_SPACE + piece.rstrip("?.,!:") for piece in pieces[1:]]
    if pieces[0][:1].isupper():
        words.append(pieces[0].rstrip("?.,!:"))
    return [word for word in words if _is_word(word)]


def _is_word(word: str) -> bool:
    bare = word.removeprefix(_SPACE)
    return bare.isascii() and bare.isalpha() and len(bare) <= _MAX_WORD
