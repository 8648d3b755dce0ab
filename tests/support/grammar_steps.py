"""What tokens proposed by grammars spare: the same requests with and without, in this process.

    python tests/support/grammar_steps.py +model=internvl2_8b engine=turbomind [OVERRIDE ...]
    python tests/support/grammar_steps.py +model=pocket_vl engine=pytorch

Random weights of the model's shapes that lean to JSON (`extraction.py`) read into the forms there, drawn at a
temperature of 0.7. `tokens=0,8`: proposed at most, an engine each, in turns; `at_once=1,4,8` sequences,
`answers=4` for each, `held=1` of those at once that follow a form (others are as long as an answer of one);
`indent=2` in place of one line. `logits=1` holds the logits behind the tokens of all engines to those of the
first, and the first to itself with other company.
"""

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from extraction import FORMS, Writer, lean
from row_logits import RowLogits, Rows, compared, num_misjudged
from sequences import sampling

from deployer.config.devices import choose_engine
from deployer.config.engine_options import engine_options
from deployer.config.load import load_config
from deployer.config.schema import DeployConfig
from deployer.generation.open_model import sized_model
from deployer.generation.response_format import grammar_of
from deployer.generation.weight_format import with_weights
from engines.loading import load_engine
from engines.messages import Delta, Done, Start, Submit
from engines.network_loaders import load_random
from engines.sampling.grammar import Grammars
from engines.stats import Stats
from engines.steps.engine_loop import EngineLoop

PROMPT = 300  # tokens
NEW_TOKENS = 600  # of an answer at most
GRAMMARS = [grammar_of({"type": "json_schema", "json_schema": {"schema": form}}) for form in FORMS.values()]
OWN = {
    "indent": "0", "at_once": "1,4,8", "answers": "4", "turns": "2", "tokens": "0,8", "held": "999",
    "logits": "0",
}  # fmt: skip
TEMPERATURE = 0.7
FREE_TOKENS = 160  # of an answer without a form


@dataclass(frozen=True, slots=True)
class Asked:
    """Answers by request, and what they took."""

    answers: dict[str, list[int]]
    rows: Rows  # where they are kept: the logits of each token
    seconds: float
    before: Stats
    after: Stats

    def line(self) -> str:
        """Return tokens a second, steps, ms that the device worked on one and waited, and proposals."""
        first, last = self.before, self.after
        num_tokens, steps = sum(map(len, self.answers.values())), last.steps - first.steps
        decode, decode_before = (
            next(one for one in stats.phases if one.phase == "decode") for stats in (last, first)
        )
        decode_s = (decode.seconds - decode_before.seconds) / max(decode.steps - decode_before.steps, 1)
        proposed = last.proposed_tokens - first.proposed_tokens
        right = last.accepted_tokens - first.accepted_tokens
        return (
            f"{num_tokens / self.seconds:7.0f} {steps:6} {decode_s * 1e3:7.2f} "
            f"{(last.gap_s - first.gap_s) / steps * 1e3:6.2f} {proposed / steps:9.1f} "
            f"{right / max(proposed, 1):6.0%} {right / num_tokens:7.0%}"
        )


class Measured:
    """An engine, and what became of the requests it was asked."""

    def __init__(
        self, config: DeployConfig, writer: Writer, networks: list[Any], *, grammar_tokens: int
    ) -> None:
        """`networks`: the one that engines share; empty before the first."""
        choice = choose_engine(config.engine)
        model = with_weights(config, sized_model(config.model, tower=config.vision.name))
        engine = replace(config.engine, speculative_grammar_tokens=grammar_tokens)
        options = engine_options(replace(config, engine=engine), choice)

        def load(folder: Path, spec: Any, backend: Any) -> Any:
            if not networks:
                networks.append(load_random(folder, spec, backend))
                lean(networks[0], writer, backend.device, backend.dtype)
            return networks[0]

        spec = replace(model.spec, vision=None)
        start = Start(folder="nowhere", spec=spec, options=options, vocabulary=writer.vocabulary)
        self.loop: EngineLoop
        self.loop, self.ready = load_engine(start, on_phase=lambda _: None, load=load)
        self.grammar_tokens = grammar_tokens
        self.end_id = writer.end_id
        self.logits: RowLogits | None = None

    def ask(self, *, at_once: int, num: int, held: int) -> Asked:
        """Keep so many answers going until `num` are whole; return them and what that took."""
        found: dict[str, list[int]] = {}
        whole = 0
        clock = (
            time.process_time if self.ready.device.startswith("cpu") else time.perf_counter
        )  # a CPU may have other work
        before, started = self.loop.stats(), clock()
        while len(found) < num or self.loop.has_work:
            while len(found) < num and len(found) - whole < at_once:
                request = request_of(len(found), self.end_id, is_held=len(found) % at_once < held)
                found[request.request_id] = []
                assert self.loop.submit(request) == []
            for reply in self.loop.step():
                if isinstance(reply, Delta):
                    found[reply.request_id] += reply.token_ids
                    continue
                assert isinstance(reply, Done), reply
                whole += 1
                found[reply.request_id] += [self.end_id] if reply.finish_reason == "stop" else []
        seconds = clock() - started
        rows = {} if self.logits is None else self.logits.take(found)
        return Asked(found, rows, seconds, before, self.loop.stats())


def request_of(number: int, end_id: int, *, is_held: bool) -> Submit:
    """Return a request, which follows a form or not."""
    grammar = GRAMMARS[number % len(GRAMMARS)] if is_held else None
    how = sampling(
        max_new_tokens=NEW_TOKENS if is_held else FREE_TOKENS,
        temperature=TEMPERATURE,
        seed=number,
        eos_token_ids=(end_id,),
        ignore_eos=not is_held,
        grammar=grammar,
    )
    prompt = tuple((7 * number + place) % 256 for place in range(PROMPT))
    return Submit(request_id=f"request-{number}", token_ids=prompt, images=(), sampling=how, priority=0)


def main(words: Sequence[str]) -> None:
    """Ask all engines in turns and print what they took."""
    own = OWN | dict(word.split("=", 1) for word in words if word.split("=", 1)[0] in OWN)
    config = load_config([word for word in words if word.split("=", 1)[0] not in OWN])
    vocab = sized_model(config.model, tower=config.vision.name).spec.decoder.vocab
    writer = Writer(vocab, indent=int(own["indent"]) or None)
    networks: list[Any] = []
    engines = [
        Measured(config, writer, networks, grammar_tokens=tokens) for tokens in _numbers(own["tokens"])
    ]
    for engine in engines:
        engine.loop.rest()
        engine.ask(at_once=2, num=4, held=2)  # grammars are compiled, and what answers of them chose is known
        phases = {name: round(seconds, 2) for name, seconds in engine.ready.phase_s.items()}
        print(f"tokens={engine.grammar_tokens}: {phases}")
    if int(own["logits"]):
        hold_logits(engines, writer, at_once=_numbers(own["at_once"]), answers=int(own["answers"]))
        return
    print(f"{'at once':>7} {'proposed':>8} {'times':>6} {'tok/s':>7} {'steps':>6} {'ms each':>7} "
          f"{'waits':>6} {'rows more':>9} {'right':>6} {'of all':>7}")  # fmt: skip
    for at_once in _numbers(own["at_once"]):
        turns: list[list[Asked]] = [[] for _ in engines]
        for _ in range(int(own["turns"])):
            for index, engine in enumerate(engines):
                turns[index].append(
                    engine.ask(at_once=at_once, num=at_once * int(own["answers"]), held=int(own["held"]))
                )
        best = [min(asked, key=lambda one: one.seconds / _num_tokens(one)) for asked in turns]
        for engine, one in zip(engines, best, strict=True):
            times = _num_tokens(one) / one.seconds * best[0].seconds / _num_tokens(best[0])
            print(f"{at_once:>7} {engine.grammar_tokens:>8} {times:6.2f} {one.line()}", flush=True)
    tokens = writer.vocabulary.tokens
    answer = next(iter(best[-1].answers.values()))
    print("one answer:", b"".join(tokens[token] for token in answer)[:300].decode(errors="replace"))


def hold_logits(engines: Sequence[Measured], writer: Writer, *, at_once: Sequence[int], answers: int) -> None:
    """Print where answers of the engines part from those of the first, and how far their logits are off."""
    num = max(at_once) * answers
    for engine in engines:
        engine.logits = RowLogits(engine.loop)
    seeds = {f"request-{number}": number for number in range(num)}
    first = engines[0].ask(at_once=at_once[0], num=num, held=num)
    print(f"{'proposed':>8} {'at once':>7} {'same':>5} {'of':>4} {'lead: most':>10} {'moved':>6} "
          f"{'off there':>9} {'median off':>10} {'most off':>8} {'misjudged':>9}")  # fmt: skip
    for engine in engines:
        for together in at_once:
            asked = engine.ask(at_once=together, num=num, held=num)
            found = compared(
                (first.answers, first.rows), (asked.answers, asked.rows), seeds=seeds, temperature=TEMPERATURE
            )
            assert all(-1e-4 <= one.lead <= one.moved + 1e-4 for one in found.partings), found.partings
            wrong = num_misjudged(
                asked.answers, asked.rows, seeds=seeds, temperature=TEMPERATURE, masks=_masks(writer, num)
            )
            print(f"{engine.grammar_tokens:>8} {together:>7} {found.num_same:>5} {num:>4} "
                  f"{max((one.lead for one in found.partings), default=0.0):>10.3f} "
                  f"{max((one.moved for one in found.partings), default=0.0):>6.3f} "
                  f"{max((one.off for one in found.partings), default=0.0):>9.4f} "
                  f"{float(found.off.median()):>10.4f} {float(found.off.max()):>8.4f} "
                  f"{wrong:>9}", flush=True)  # fmt: skip


def _masks(writer: Writer, num: int) -> dict[str, Callable[[list[int]], bytes]]:
    """Return for each request what says which tokens may follow, from states that propose nothing."""
    grammars = Grammars(writer.vocabulary, vocab=len(writer.pairs[0]))
    return {
        f"request-{number}": grammars.open(GRAMMARS[number % len(GRAMMARS)]).mask for number in range(num)
    }


def _num_tokens(one: Asked) -> int:
    return sum(map(len, one.answers.values()))


def _numbers(text: str) -> list[int]:
    return [int(one) for one in text.split(",")]


if __name__ == "__main__":
    with torch.inference_mode():
        main(sys.argv[1:])
