"""The engine without its process: messages in, steps, messages out. Benchmarks and tests run it anywhere.

With `overlap` a step is launched before the results of the one before it are taken, so that the device finds
work while the host reads, answers and schedules. A sequence that turns out to have ended was computed once
more for nothing. Where a next token depends on the last one (grammars), the tokens of a step are chosen late:

    device   network N ▸ choice N ▸ network N+1 ·········· ▸ choice N+1 ▸ network N+2
    host                  launch N+1 │ take N, make masks, launch choice N+1 │ launch N+2

A step that raises fails the sequences that were in it and nobody else; the cause goes to the log under an
id that the client is told. With other ranks beside it, it ends the engine.
"""

import time
from collections.abc import Iterator
from itertools import chain
from zlib import crc32

from engines.errors import RequestError
from engines.messages import Abort, Compile, Failed, Flush, Order, Reply, Submit
from engines.sampling.grammar import Grammars
from engines.schedule.batch_plan import BatchPlan, Progress
from engines.schedule.scheduler import Scheduler
from engines.schedule.sequence import Sequence
from engines.spec import ModelSpec
from engines.stats import Stats
from engines.steps.batch import touched_images
from engines.steps.intake import take_sequence
from engines.steps.launched import Launched, TokenChoice
from engines.steps.loop_books import LoopBooks
from engines.steps.phase_work import WorkByPhase
from engines.steps.replies import delta, done, failures, prompt_delta
from engines.steps.runner import Runner


class EngineLoop:
    """A scheduler and a runner, and the books that `Stats` and `Usage` are read from."""

    def __init__(
        self,
        scheduler: Scheduler,
        runner: Runner,
        spec: ModelSpec,
        *,
        num_pages: int,
        session_len: int,
        overlap: bool,
        is_alone: bool = True,
        grammars: Grammars | None = None,
    ) -> None:
        self._scheduler = scheduler
        self._runner = runner
        self._spec = spec
        self._session_len = session_len
        self._is_alone = is_alone  # else: ranks beside this one wait for it in a step
        self.grammars = grammars or Grammars(None, vocab=spec.decoder.vocab)
        self.digest = 0  # of all sampled tokens; ranks of a group compare it
        self._overlap = overlap
        self._under_way: Launched | None = None
        self._arrivals = 0
        self._owed: list[Reply] = []  # of the step that runs
        work = WorkByPhase(window=spec.decoder.sliding_window)
        self._books = LoopBooks(num_pages=num_pages, work=work)

    @property
    def has_work(self) -> bool:
        """Whether a step would do anything."""
        return (
            self._scheduler.num_waiting > 0 or self._scheduler.num_running > 0 or self._under_way is not None
        )

    @property
    def counts(self) -> tuple[int, int]:
        """How many sequences run and how many wait."""
        return self._scheduler.num_running, self._scheduler.num_waiting

    def take(self, message: Order) -> list[Reply]:
        """Take a message of the front end."""
        if isinstance(message, Flush):
            self._scheduler.flush()
            return []
        if isinstance(message, Compile):
            self.grammars.compile(message.grammar, beside_others=self.has_work)
            return []
        return self.submit(message) if isinstance(message, Submit) else self.abort(message)

    def submit(self, request: Submit) -> list[Reply]:
        """Queue a sequence; the answer is empty, or Failed where it cannot run."""
        self._arrivals += 1
        try:
            sequence = take_sequence(
                request,
                self._spec,
                self.grammars,
                session_len=self._session_len,
                arrival=self._arrivals,
                now_s=time.monotonic(),
            )
        except RequestError as error:
            return [Failed(request_id=request.request_id, code=error.code, message=str(error))]
        self.add(sequence)
        return []

    def add(self, sequence: Sequence) -> None:
        """Queue a sequence that was made in this process and is known to run."""
        self._scheduler.add(sequence)

    def abort(self, request: Abort) -> list[Reply]:
        """End a sequence wherever it is; no answer where it has ended already."""
        sequence = self._scheduler.remove(request.request_id)
        return [] if sequence is None else [done(sequence, "abort", None, now=time.monotonic())]

    def step(self) -> list[Reply]:
        """Launch a step and return what is there; raises only where the device or the books are lost.

        What was there by then is the first of what `fail_all` returns.
        """
        started = time.monotonic()
        try:
            for reply in self._turn(started):
                self._owed.append(reply)
            owed, self._owed = self._owed, []
            return owed
        finally:
            self._books.step_s += time.monotonic() - started
            if not self.has_work:
                self._runner.rest()

    def rest(self) -> None:
        """Make what would hold up running sequences: nobody has asked for a while."""
        self.grammars.begin()

    def fail_all(self, message: str) -> list[Reply]:
        """End every sequence with an engine error; the device is done with the step under way by then."""
        launched, self._under_way = self._under_way, None
        if launched is not None:
            self._runner.let_end(launched)
        owed, self._owed = self._owed, []
        return owed + [
            Failed(request_id=one.request_id, code="engine_error", message=message)
            for one in self._scheduler.drain()
        ]

    def stats(self) -> Stats:
        """Return the figures of now."""
        return self._books.stats(self._scheduler, self._runner)

    def _turn(self, now: float) -> Iterator[Reply]:
        replies: Iterator[Reply] = iter(())
        if self._under_way is not None and self._scheduler.waits_for(self._under_way.plan):
            replies = self._settle(behind=None)
        plan = self._scheduler.schedule(now)
        if plan is None:
            yield from chain(replies, self._settle(behind=None))
            return
        self._books.steps += 1
        try:
            launched = self._runner.launch(plan)
        except Exception as error:
            yield from chain(replies, self._settle(behind=plan))
            yield from self._fail(plan, error, behind=None)
            return
        self._books.work.add(plan)
        _note_encoding(launched)
        yield from chain(replies, self._settle(behind=plan))
        try:
            self._under_way = self._runner.choose(launched)
        except Exception as error:
            yield from self._fail(plan, error, behind=None)
            return
        if not self._overlap:
            yield from self._settle(behind=None)

    def _settle(self, *, behind: BatchPlan | None) -> Iterator[Reply]:
        """Take the results of the step under way; `behind` was scheduled after it.

        What is answered is made as it is read, so that a step that waits for the results can go ahead of it.
        """
        launched, self._under_way = self._under_way, None
        if launched is None:
            return iter(())
        try:
            choices = self._runner.fetch(launched)
            scores = [] if launched.scores is None else launched.scores.wait()
        except Exception as error:
            return iter(self._fail(launched.plan, error, behind=behind))
        now = time.monotonic()
        scored = [reply for chunk, logprobs in scores for reply in prompt_delta(chunk, logprobs)]
        token_ids = [choice.token_id for choice in choices]
        self.digest = crc32(repr(token_ids).encode(), self.digest)
        progress = self._scheduler.commit(launched.plan, token_ids)
        return chain(scored, *(self._replies(item, choices[item.row], now) for item in progress))

    def _fail(self, plan: BatchPlan, error: Exception, *, behind: BatchPlan | None) -> list[Reply]:
        if not self._is_alone:
            raise error  # the others are in the same step and would wait for ever
        self._runner.rest()
        failed = failures(self._scheduler.fail(plan, behind=behind), "a step failed", error)
        try:
            self._runner.check_device()
        except Exception:
            self._owed += failed
            raise
        return failed

    def _replies(self, item: Progress, choice: TokenChoice, now: float) -> Iterator[Reply]:
        sequence = item.sequence
        if item.finish_reason == "error":
            yield from failures([sequence], "its logits are no numbers", None)
            return
        if sequence.first_token_s is None:
            sequence.first_token_s = now
            self._books.add_prompt(sequence)
        if item.token_id is not None:
            self._books.output_tokens += 1
            yield delta(sequence, item.token_id, choice)
        if item.finish_reason is None:
            return
        if sequence.grammar is not None and sequence.grammar.fault is not None:
            fault = sequence.grammar.fault
            yield Failed(request_id=sequence.request_id, code="grammar_failed", message=fault)
        else:
            yield done(sequence, item.finish_reason, item.stop_token_id, now=time.monotonic())


def _note_encoding(launched: Launched) -> None:
    """Let each sequence know of the passes of the tower that its pictures took part in."""
    if launched.encoding is None:
        return
    for chunk in launched.plan.chunks[launched.plan.num_decodes :]:
        if any(image.key in launched.encoding.keys for image in touched_images(chunk)):
            chunk.sequence.encodings.append(launched.encoding.span)
