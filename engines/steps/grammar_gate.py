"""What rank 0 keeps back: requests whose grammar is being compiled, so that no sequence waits for it.

    Submit ──▶ Compile, which every rank of a group takes at once and works off on a thread
           ──▶ Submit, once rank 0 has compiled it; the others, which began when rank 0 did, wait for the rest

So what the ranks take follows from messages alone, although rank 0's clock decided when.
"""

from collections.abc import Sequence

from engines.messages import Abort, Compile, Done, Failed, Order, Reply, Submit, Usage
from engines.sampling.grammar import Grammars

POLL_S = 0.002  # how long to wait for messages while a grammar is being compiled


class GrammarGate:
    """The requests that wait for their grammar; each comes out once, or is answered here."""

    def __init__(self, grammars: Grammars) -> None:
        self._grammars = grammars
        self._waiting: dict[str, tuple[Submit, str]] = {}  # by request id, with the grammar

    @property
    def is_empty(self) -> bool:
        """Whether nothing waits."""
        return not self._waiting

    def let_through(self, arrived: Sequence[Order]) -> tuple[list[Order], list[Reply]]:
        """Return what is to be taken now, and the answers to what was aborted while it waited."""
        through: list[Order] = []
        answers: list[Reply] = []
        for order in arrived:
            if isinstance(order, Submit) and (grammar := order.sampling.grammar) is not None:
                self._waiting[order.request_id] = (order, grammar)
            elif isinstance(order, Abort) and order.request_id in self._waiting:
                answers.append(_aborted(self._waiting.pop(order.request_id)[0]))
            else:
                through.append(order)
        new: dict[str, Order] = {}
        for name, (submit, grammar) in tuple(self._waiting.items()):
            if self._grammars.is_compiled(grammar):
                del self._waiting[name]
                through.append(submit)
            elif not self._grammars.is_begun(grammar):  # or it was, and had to give way to others since
                new[grammar] = Compile(grammar=grammar)
        # Behind the requests: a grammar that is begun may take the place of one that these still open.
        return [*through, *new.values()], answers

    def fail_all(self, message: str) -> list[Reply]:
        """End all that wait with an engine error."""
        waiting, self._waiting = self._waiting, {}
        return [Failed(request_id=name, code="engine_error", message=message) for name in waiting]


def _aborted(submit: Submit) -> Done:
    usage = Usage(
        prompt_tokens=len(submit.token_ids),
        cached_tokens=0,
        image_tokens=sum(image.num_tokens for image in submit.images),
        output_tokens=0,
        queue_s=0.0,
        prefill_s=0.0,
        encode_s=0.0,
        decode_s=0.0,
        num_preemptions=0,
    )
    return Done(request_id=submit.request_id, finish_reason="abort", stop_token_id=None, usage=usage)
