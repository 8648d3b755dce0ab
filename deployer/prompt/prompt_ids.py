"""The token ids of a rendered prompt, and where its pictures stand among them."""

from collections.abc import Sequence

from deployer.prompt.chat import Rendered
from deployer.prompt.context_length import check_text
from deployer.prompt.image_tokens import ImageTokens
from deployer.prompt.open_template import token_text
from deployer.prompt.tokenizer import Tokenizer
from engines.errors import RequestError


def prompt_ids(
    rendered: Rendered,
    slots: Sequence[ImageTokens],
    tokenizer: Tokenizer,
    *,
    session_len: int,
    vocab: int,
    bos_each_piece: bool,
) -> tuple[list[int], list[int]]:
    """Return the token ids and where each picture's slots start. Raises RequestError.

    Each piece is encoded on its own: a picture stands between control tokens, which cut a text anyway.
    `session_len`: tokens that a sequence may have. `vocab`: rows of the embedding.
    """
    for piece in rendered.pieces:
        check_text(piece, tokenizer, session_len=session_len)
    bos = token_text(tokenizer, tokenizer.bos_id)
    special = not (bos and rendered.pieces[0].startswith(bos))  # a template may write bos itself
    ids = tokenizer.encode(rendered.pieces[0], special=special)
    starts = []
    for slot, piece in zip(slots, rendered.pieces[1:], strict=True):
        starts.append(len(ids))
        ids += slot.token_ids
        ids += tokenizer.encode(piece, special=bos_each_piece and piece != "")
    check_ids(ids, end=vocab)
    return ids, starts


def check_ids(ids: Sequence[int], *, end: int) -> None:
    """Raise RequestError where there is no id, or one from `end` on."""
    if not ids:
        raise RequestError("the prompt is empty: must hold at least one token")
    beyond = sorted({token_id for token_id in ids if not 0 <= token_id < end})
    if beyond:
        shown = ", ".join(str(token_id) for token_id in beyond[:5])
        raise RequestError(f"token ids {shown} are not in the vocabulary: must be 0 to {end - 1}")
