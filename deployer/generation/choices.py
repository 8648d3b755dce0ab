"""The sequences of a request, and the engine's messages for them, pixels included."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count

from deployer.config.schema import SamplingConfig
from deployer.generation.image_inputs import link_images, write_images
from deployer.generation.sampling import SamplingRules, TextRules, Vocabulary, sampling_of, text_rules
from deployer.prompt.assemble import Prompt
from engines.ipc.pixel_files import PixelFiles
from engines.messages import ImageInput, Sampling, Submit


@dataclass(frozen=True, kw_only=True, slots=True)
class QueuePlace:
    """Where a sequence stands among others in the engine."""

    service_class: int = 0  # number in `server.qos`
    priority: int = 0


FIRST_COME = QueuePlace()


@dataclass(frozen=True, kw_only=True, slots=True)
class Choice:
    """One sequence to run and how its text is cut."""

    index: int
    request_id: str
    prompt: Prompt
    sampling: Sampling
    text: TextRules
    adapter: str | None = None  # the LoRA adapter that it runs through
    place: QueuePlace = FIRST_COME


def choices_of(
    rules: SamplingRules,
    prompts: Sequence[Prompt],
    *,
    request_id: str,
    vocabulary: Vocabulary,
    defaults: SamplingConfig,
    adapter: str | None = None,
    place: QueuePlace = FIRST_COME,
) -> list[Choice]:
    """Return the sequences of a request: all choices of its first prompt, then those of the second, ...

    Raises InvalidFieldError where an answer does not fit behind its prompt.
    """
    text = text_rules(rules, vocabulary)
    num_choices = rules.asked.n
    return [
        Choice(
            index=first + number,
            request_id=f"{request_id}-{first + number}",
            prompt=prompt,
            sampling=sampling_of(rules, prompt, choice=number, defaults=defaults, vocabulary=vocabulary),
            text=text,
            adapter=adapter,
            place=place,
        )
        for first, prompt in zip(count(step=num_choices), prompts)
        for number in range(num_choices)
    ]


def submits_of(choices: Sequence[Choice], files: PixelFiles) -> list[Submit]:
    """Return one message a choice; the pictures of a prompt are written for its first choice."""
    written: dict[int, tuple[ImageInput, ...]] = {}
    submits = []
    for choice in choices:
        first = written.get(id(choice.prompt))
        images = write_images(choice.prompt, files) if first is None else link_images(first, files)
        written.setdefault(id(choice.prompt), images)
        submits.append(
            Submit(
                request_id=choice.request_id,
                token_ids=choice.prompt.token_ids,
                images=images,
                sampling=choice.sampling,
                priority=choice.place.priority,
                service_class=choice.place.service_class,
                adapter=choice.adapter,
            )
        )
    return submits
