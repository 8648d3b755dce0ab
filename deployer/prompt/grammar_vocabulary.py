"""The vocabulary as the engine's grammars want it: each token as bytes, whatever tokenizer reads them."""

from collections.abc import Sequence

from deployer.prompt.tokenizer import Tokenizer
from engines.messages import Vocabulary


def grammar_vocabulary(tokenizer: Tokenizer, end_ids: Sequence[int]) -> Vocabulary | None:
    """Return the tokens and what ends a text; None for a vocabulary that can end none."""
    if not end_ids:
        return None
    return Vocabulary(
        tokens=tuple(tokenizer.token_bytes(token_id) for token_id in range(tokenizer.vocab_size)),
        special_ids=tuple(sorted(tokenizer.special_ids)),
        end_ids=tuple(dict.fromkeys(end_ids)),
    )
