"""The sequences of a request, and the engine's messages for them, pixels included."""

from collections.abc import Sequence
from dataclasses import dataclass

from deployer.config.schema import SamplingConfig
from deployer.prompt.assemble import Prompt, PromptBuilder
from deployer.serve.sampling import SamplingRules, TextRules, sampling_of, text_rules
from engines.messages import ImageInput, PixelRef, Sampling, Submit
from engines.pixel_files import PixelFiles


@dataclass(frozen=True, kw_only=True, slots=True)
class Choice:
    """One sequence to run and how its text is cut."""

    index: int
    request_id: str
    prompt: Prompt
    sampling: Sampling
    text: TextRules


def choices_of(
    rules: SamplingRules,
    prompts: Sequence[Prompt],
    *,
    completion: str,
    builder: PromptBuilder,
    defaults: SamplingConfig,
) -> list[Choice]:
    """Return the sequences of a request: all choices of its first prompt, then those of the second, ...

    Raises ApiError where an answer does not fit behind its prompt.
    """
    text = text_rules(rules.body, builder)
    return [
        Choice(
            index=place * rules.num_choices + number,
            request_id=f"{completion}-{place * rules.num_choices + number}",
            prompt=prompt,
            sampling=sampling_of(rules, prompt, choice=number, defaults=defaults, prompts=builder),
            text=text,
        )
        for place, prompt in enumerate(prompts)
        for number in range(rules.num_choices)
    ]


def submits_of(choices: Sequence[Choice], files: PixelFiles) -> list[Submit]:
    """Return one message a choice; a picture is written once and linked for further choices of its prompt."""
    written: dict[tuple[int, int], PixelRef] = {}
    return [_submit(choice, files, written) for choice in choices]


def _submit(choice: Choice, files: PixelFiles, written: dict[tuple[int, int], PixelRef]) -> Submit:
    images = []
    for place, image in enumerate(choice.prompt.images):
        first = written.get((id(choice.prompt), place))
        ref = files.write(image.tiles) if first is None else files.link(first)
        written.setdefault((id(choice.prompt), place), ref)
        images.append(ImageInput(key=image.key, start=image.start, num_tokens=image.num_tokens, pixels=ref))
    return Submit(
        request_id=choice.request_id,
        token_ids=choice.prompt.token_ids,
        images=tuple(images),
        sampling=choice.sampling,
        priority=0,
    )


def remove_pixels(submits: Sequence[Submit], files: PixelFiles) -> None:
    """Drop the pixels that the engine never took; those it took are gone already."""
    for submit in submits:
        for image in submit.images:
            files.remove(image.pixels)
