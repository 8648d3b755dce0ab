"""What holds for the two queues of a scheduler between steps. Ints only; tests ask after every step."""

from collections.abc import Sequence as Seq
from operator import attrgetter

from engines.options import SchedulerOptions
from engines.schedule.sequence import Sequence


def check_queues(
    waiting: Seq[Sequence], running: Seq[Sequence], options: SchedulerOptions, *, page_tokens: int
) -> None:
    """Raise AssertionError unless both are in order and nobody is where it cannot be."""
    for queue in (waiting, running):
        assert queue == sorted(queue, key=attrgetter("rank")), "a queue is out of order"
    assert len(running) <= options.max_batch_size, "more sequences run than max_batch_size"
    for sequence in waiting:
        assert not sequence.pages and sequence.num_computed == 0, f"`{sequence.request_id}` waits with pages"
    for sequence in running:
        room = len(sequence.pages) * page_tokens
        assert sequence.num_computed <= room, f"`{sequence.request_id}` has computed past its pages"
        assert sequence.num_computed < sequence.num_tokens, f"`{sequence.request_id}` has nothing to do"
