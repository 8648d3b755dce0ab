"""Whether calls of tools and their results fit each other in a conversation that is sent.

Each call is answered once, behind its turn and before anything else is said: what OpenAI's and Anthropic's
APIs hold to, and what templates write. Ids must differ among the calls of a turn.
"""

from deployer.serve.api_errors import ApiError, invalid


class ToolHistory:
    """Reads a conversation once, in order. `at` is where something stands in the body, for errors."""

    def __init__(self) -> None:
        self._waiting: dict[str, str] = {}  # ids of calls without a result, and where each stands
        self._answered: set[str] = set()  # the others of the same turn

    def call(self, call_id: str, *, at: str) -> None:
        """Take a call. Raises ApiError 400 where its turn has one of this id."""
        if self._answered:
            self.turn()
        if call_id in self._waiting:
            raise invalid(
                f"`{at}`: `{call_id}` is the id of `{self._waiting[call_id]}` too: must differ from those of "
                "other calls of the turn; give each an id of its own",
                param=at,
            )
        self._waiting[call_id] = at

    def result(self, call_id: str, *, at: str) -> None:
        """Take what came of a call. Raises ApiError 400 where there is no such call, or it has a result."""
        if call_id in self._answered:
            raise invalid(
                f"`{at}`: call `{call_id}` has a result already: must be one a call; put both into one",
                param=at,
            )
        if call_id not in self._waiting:
            raise invalid(
                f"`{at}`: `{call_id}` is no call of the assistant's turn in front of it: must be one of its "
                "ids; send the turn that made the call, its results right behind it",
                param=at,
            )
        del self._waiting[call_id]
        self._answered.add(call_id)

    def turn(self) -> None:
        """Take the beginning of another turn, or the end. Raises ApiError 400 where calls wait."""
        if self._waiting:
            raise self._unanswered()
        self._answered.clear()

    def _unanswered(self) -> ApiError:
        listed = ", ".join(f"`{call_id}` (`{at}`)" for call_id, at in self._waiting.items())
        return invalid(
            f"calls without a result: {listed}: must have one each, right behind their turn; send it, also "
            "for a call that failed or was not made",
            param=next(iter(self._waiting.values())),
        )
