"""`best_of` of /v1/completions: more answers are made than are returned, the likeliest ones win.

As OpenAI's: by log-probability a token, before temperature; what was made and not returned counts as output.
"""

from collections.abc import Sequence

from deployer.generation.generate import Piece
from deployer.serve.api_errors import invalid
from deployer.serve.openai_types import CompletionBody


def num_candidates(body: CompletionBody) -> int:
    """Return how many answers each prompt gets before the choice. Raises ApiError."""
    wanted, best_of = body.n or 1, body.best_of
    if best_of is None:
        return wanted
    if best_of < wanted:
        raise invalid(f"`best_of`: {best_of} is less than the {wanted} answers of `n`", param="best_of")
    if best_of > wanted and body.stream:
        raise invalid("`best_of` above `n` needs every answer whole: drop `stream`", param="best_of")
    return best_of


def likeliest(pieces: Sequence[Sequence[Piece]], *, made: int, wanted: int) -> list[int]:
    """Return the places of the answers to return: of each prompt's `made` the best `wanted`, best first."""
    if made == wanted:
        return list(range(len(pieces)))
    kept: list[int] = []
    for first in range(0, len(pieces), made):
        ranked = sorted(range(first, first + made), key=lambda place: -_mean_logprob(pieces[place]))
        kept += ranked[:wanted]
    return kept


def _mean_logprob(pieces: Sequence[Piece]) -> float:
    found = [token.chosen for piece in pieces for token in piece.logprobs]
    return sum(found) / len(found) if found else 0.0
