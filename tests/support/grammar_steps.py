"""What tokens proposed by grammars spare: the same requests with and without, in this process.

    python tests/support/grammar_steps.py +model=internvl2_8b engine=turbomind [OVERRIDE ...]
    python tests/support/grammar_steps.py +model=pocket_vl engine=pytorch

Random weights of the model's shapes that lean to JSON (`extraction.py`) read into the forms there, drawn at a
temperature of 0.7. `tokens=8`: proposed at most, one or several, each against none, in turns over one start;
`8free`: at any price. `at_once=1,4,8/0` sequences, `/` and how many of those follow a form (all; others are
as long as an answer of one); `each=200` tokens a sequence and turn; `turns=2`, none begun after `seconds=600`
since the start; `indent=2` in place of one line.

`checked=8` answers of the first that proposes are held before, logit by logit, to those of the loop that does
not: where they part, and whether at a tie.
"""

import sys
import time
from collections.abc import Callable, Sequence
from statistics import fmean

import torch
from extraction import Writer
from leaning_engine import GRAMMARS, TEMPERATURE, LeaningLoop, Took, leaning_loops
from row_logits import RowLogits, are_ties, compared, num_misjudged, size_of

from deployer.config.load import load_config
from deployer.generation.open_model import sized_model
from engines.sampling.grammar import Grammars

OWN = {
    "indent": "0", "at_once": "1,4,8", "each": "200", "turns": "2", "tokens": "8", "seconds": "600",
    "checked": "0",
}  # fmt: skip
TOGETHER = 4  # answers of the check at once; twice as many are the other company


def main(words: Sequence[str]) -> None:
    """Ask all loops in turns and print what they took."""
    ends_s = time.perf_counter()
    own = OWN | dict(word.split("=", 1) for word in words if word.split("=", 1)[0] in OWN)
    ends_s += float(own["seconds"])
    config = load_config([word for word in words if word.split("=", 1)[0] not in OWN])
    vocab = sized_model(config.model, tower=config.vision.name).spec.decoder.vocab
    writer = Writer(vocab, indent=int(own["indent"]) or None)
    loops, ready, prices = leaning_loops(config, writer, ["0", *own["tokens"].split(",")])
    print({name: round(seconds, 2) for name, seconds in ready.phase_s.items()}, prices, flush=True)
    for loop in loops:  # grammars are compiled, and what answers of them chose is known
        loop.answers(at_once=TOGETHER, num=TOGETHER)
    if int(own["checked"]):
        check(loops, writer, num=int(own["checked"]))
    mixes = [_mix(text) for text in own["at_once"].split(",")]
    turns: dict[tuple[int, int], list[list[Took]]] = {mix: [] for mix in mixes}
    try:
        for turn in range(int(own["turns"])):
            take_turn(turn, loops, turns, each=int(own["each"]), ends_s=ends_s)
    finally:  # also where time is up
        print("  n forms tok/s        ", *(f"{loop.name:>5}" for loop in loops[1:]))
        for (at_once, held), found in turns.items():
            if found:
                print(_line(at_once, held, found))


def take_turn(
    turn: int,
    loops: Sequence[LeaningLoop],
    turns: dict[tuple[int, int], list[list[Took]]],
    *,
    each: int,
    ends_s: float,
) -> None:
    """Ask all loops for every mix, in the other order each time; add what they took to `turns`."""
    for (at_once, held), found in turns.items():
        if time.perf_counter() > ends_s:
            return
        order = loops if turn % 2 == 0 else loops[::-1]
        took = {one.name: one.took(at_once=at_once, held=held, tokens_each=each) for one in order}
        found.append([took[one.name] for one in loops])
        for name, one in took.items():
            print(f"{at_once:>3} {held:>3} {name:>5}: {one}", flush=True)
        print(f"{ends_s - time.perf_counter():.0f} s left", flush=True)


def check(loops: Sequence[LeaningLoop], writer: Writer, *, num: int) -> None:
    """Print where answers part from those of the loop that proposes nothing, and how far logits are off."""
    seeds = {f"request-{number}": number for number in range(num)}
    grammars = Grammars(writer.vocabulary, vocab=len(writer.pairs.rows_V))
    masks: dict[str, Callable[[list[int]], bytes]] = {
        name: grammars.open(GRAMMARS[number % len(GRAMMARS)]).mask for name, number in seeds.items()
    }
    logits = RowLogits(loops[0].loop)

    def asked(
        loop: LeaningLoop, together: int
    ) -> tuple[dict[str, list[int]], dict[tuple[str, int], torch.Tensor]]:
        answers = loop.answers(at_once=together, num=num)
        return answers, logits.take(answers)

    first = asked(loops[0], TOGETHER)
    size, off = size_of(first[1]), 0.0
    print(f"{num} answers, logits of size {size:.3f}: same, ties of those that part, most lead, most moved, "
          "off there at most, off: median, most, not the best of their own logits")  # fmt: skip
    for loop, together in ((loops[0], 2 * TOGETHER), (loops[1], TOGETHER)):
        other = asked(loop, together)
        found = compared(first, other, seeds=seeds, temperature=TEMPERATURE)
        wrong = num_misjudged(*other, seeds=seeds, temperature=TEMPERATURE, masks=masks)
        off = off or float(found.off.max())  # of other company
        ties = are_ties(found, size=size, other_company=off)
        lead, moved, there = (
            max((getattr(one, name) for one in found.partings), default=0.0)
            for name in ("lead", "moved", "off")
        )
        print(
            f"{loop.name:>3} tokens, {together} at once: {found.num_same}, "
            f"{sum(ties)} of {len(ties)}, {lead:.3f}, {moved:.3f}, {there:.4f}, "
            f"{float(found.off.median()):.4f}, {float(found.off.max()):.4f}, {wrong}",
            flush=True,
        )
    logits.stop()


def _mix(text: str) -> tuple[int, int]:
    """Return how many sequences and how many of them follow a form."""
    at_once, _, held = text.partition("/")
    return int(at_once), int(held or at_once)


def _line(at_once: int, held: int, turns: Sequence[Sequence[Took]]) -> str:
    """Return tokens a second of the loop that proposes nothing, and how many times that the others have.

    Means over the turns; behind ±, half of what lies between the turns of the former.
    """
    plain, *others = zip(*turns, strict=True)
    times = [fmean(one.rate / none.rate for one, none in zip(loop, plain, strict=True)) for loop in others]
    rates = [one.rate for one in plain]
    spread = (max(rates) - min(rates)) / 2 / fmean(rates)
    columns = " ".join(f"{one:5.3f}" for one in times)
    return f"{at_once:>3} {held:>3} {fmean(rates):6.0f} ±{spread:4.1%} {columns}"


if __name__ == "__main__":
    with torch.inference_mode():
        main(sys.argv[1:])
