"""What an engine loop has done since its start, from which `Stats` are made."""

from dataclasses import dataclass

from engines.schedule.scheduler import Scheduler
from engines.schedule.sequence import Sequence
from engines.stats import Stats
from engines.steps.phase_work import WorkByPhase
from engines.steps.runner import Runner


@dataclass(kw_only=True, slots=True)
class LoopBooks:
    """Counts of one loop; what its scheduler and its runner count is read from them."""

    num_pages: int
    work: WorkByPhase
    steps: int = 0
    step_s: float = 0.0
    prompt_tokens: int = 0  # of sequences that have their first token, as the next
    cached_tokens: int = 0
    output_tokens: int = 0

    def add_prompt(self, sequence: Sequence) -> None:
        """Count the prompt of a sequence, once it has its first token."""
        self.prompt_tokens += sequence.num_prompt_tokens
        self.cached_tokens += sequence.cached_tokens

    def stats(self, scheduler: Scheduler, runner: Runner) -> Stats:
        """Return the figures of now."""
        running_by_class, waiting_by_class = scheduler.by_class()
        phase_s = runner.phase_s
        return Stats(
            num_running=scheduler.num_running,
            num_waiting=scheduler.num_waiting,
            running_by_class=running_by_class,
            waiting_by_class=waiting_by_class,
            pages_used=scheduler.pages_used,
            pages_cached=scheduler.pages_cached,
            pages_total=self.num_pages,
            steps=self.steps,
            prompt_tokens=self.prompt_tokens,
            cached_tokens=self.cached_tokens,
            output_tokens=self.output_tokens,
            images_encoded=runner.images_encoded,
            encoder_cache_hits=runner.encoder_cache_hits,
            preemptions=scheduler.num_preemptions,
            proposed_tokens=scheduler.speculation.num_proposed,
            accepted_tokens=scheduler.speculation.num_accepted,
            step_s=self.step_s,
            wait_s=runner.wait_s,
            gap_s=runner.gap_s,
            encode_s=phase_s["encode"],
            phases=self.work.figures(prefill_s=phase_s["prefill"], decode_s=phase_s["decode"]),
        )
