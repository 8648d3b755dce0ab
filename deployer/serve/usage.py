"""What a request has cost so far: summed over its sequences for the answer, and noted in its record."""

import time
from collections.abc import Sequence
from typing import Any

from deployer.generation.choices import Choice
from deployer.generation.generate import Piece
from deployer.serve.request_record import RequestRecord


class Tally:
    """Counts the pieces of one request. The prompt of several choices counts once."""

    def __init__(self, choices: Sequence[Choice], record: RequestRecord) -> None:
        prompts = {id(choice.prompt): choice.prompt for choice in choices}.values()
        self._first_choices = {id(choice.prompt): choice.index for choice in reversed(choices)}.values()
        self._record = record
        record.prompt_tokens = sum(len(prompt.token_ids) for prompt in prompts)
        record.image_tokens = sum(prompt.num_image_tokens for prompt in prompts)
        record.num_images = sum(len(prompt.images) for prompt in prompts)
        record.pictures = tuple(image.times for prompt in prompts for image in prompt.images)
        record.submitted_s = time.perf_counter()
        record.image_notes = tuple(
            f"{image.name}: {note}" for prompt in prompts for image in prompt.images for note in image.notes
        )

    def add(self, piece: Piece) -> None:
        """Count one piece."""
        record = self._record
        record.saw_tokens(len(piece.token_ids))
        if piece.finish is None:
            return
        record.finish = piece.finish.reason
        cost = piece.finish.usage
        record.queue_s = max(record.queue_s, cost.queue_s)
        record.prefill_s = max(record.prefill_s, cost.prefill_s)
        record.encode_s = max(record.encode_s, cost.encode_s)
        record.decode_s = max(record.decode_s, cost.decode_s)
        if piece.choice in self._first_choices:
            record.cached_tokens += piece.finish.usage.cached_tokens

    def usage(self) -> dict[str, Any]:
        """Return OpenAI's usage object; `image_tokens`, `image_notes` and `timings` are ours."""
        record = self._record
        usage = {
            "prompt_tokens": record.prompt_tokens,
            "completion_tokens": record.output_tokens,
            "total_tokens": record.prompt_tokens + record.output_tokens,
            "prompt_tokens_details": {
                "cached_tokens": record.cached_tokens,
                "image_tokens": record.image_tokens,
                **record.notes(),
            },
        }
        return {**usage, "timings": record.timings()} if record.wants_timings else usage
