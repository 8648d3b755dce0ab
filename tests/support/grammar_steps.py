"""What tokens proposed by grammars spare: the same requests with and without, in this process.

    python tests/support/grammar_steps.py +model=internvl2_8b engine=turbomind [OVERRIDE ...]
    python tests/support/grammar_steps.py +model=pocket_vl engine=pytorch

Random weights of the model's shapes that lean to JSON (`extraction.py`) read into the forms there, drawn at a
temperature of 0.7; `indent=2` in place of one line, `at_once=1,4,8` sequences, `requests=6` for each.
"""

import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from extraction import FORMS, Writer, lean
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
from engines.steps.engine_loop import EngineLoop

PROMPT = 300  # tokens
NEW_TOKENS = 600  # of an answer at most
OWN = {"indent": "0", "at_once": "1,4,8", "answers": "4", "turns": "2", "tokens": "8"}


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
        self._end_id = writer.end_id

    def ask(self, *, at_once: int, num: int) -> tuple[list[list[int]], float]:
        """Keep so many answers going until `num` are whole; return them and the seconds that took."""
        grammars = [
            grammar_of({"type": "json_schema", "json_schema": {"schema": form}}) for form in FORMS.values()
        ]
        found: dict[str, list[int]] = {}
        clock = (
            time.process_time if self.ready.device.startswith("cpu") else time.perf_counter
        )  # a CPU may have other work
        started = clock()
        while len(found) < num or self.loop.has_work:
            while len(found) < num and sum(self.loop.counts) < at_once:
                request = self._request(len(found), grammars[len(found) % len(grammars)])
                found[request.request_id] = []
                assert self.loop.submit(request) == []
            for reply in self.loop.step():
                if isinstance(reply, Delta):
                    found[reply.request_id] += reply.token_ids
                else:
                    assert isinstance(reply, Done), reply
        return list(found.values()), clock() - started

    def _request(self, number: int, grammar: str | None) -> Submit:
        how = sampling(
            max_new_tokens=NEW_TOKENS,
            temperature=0.7,
            seed=number,
            eos_token_ids=(self._end_id,),
            grammar=grammar,
        )
        prompt = tuple((7 * number + place) % 256 for place in range(PROMPT))
        return Submit(request_id=f"request-{number}", token_ids=prompt, images=(), sampling=how, priority=0)


def main(words: Sequence[str]) -> None:
    """Ask both engines in turns and print what they took."""
    own = OWN | dict(word.split("=", 1) for word in words if word.split("=", 1)[0] in OWN)
    config = load_config([word for word in words if word.split("=", 1)[0] not in OWN])
    vocab = sized_model(config.model, tower=config.vision.name).spec.decoder.vocab
    writer = Writer(vocab, indent=int(own["indent"]) or None)
    networks: list[Any] = []
    engines = [
        Measured(config, writer, networks, grammar_tokens=tokens) for tokens in (0, int(own["tokens"]))
    ]
    for engine in engines:
        engine.loop.rest()
        print({name: round(seconds, 2) for name, seconds in engine.ready.phase_s.items()})
    tokens = writer.vocabulary.tokens
    print(f"{'at once':>8} {'tokens/s':>9} {'with':>7} {'times':>6} {'steps':>6} {'with':>6} "
          f"{'proposed':>9} {'right':>6} {'of all':>7} {'same answers':>13}")  # fmt: skip
    for at_once in (int(one) for one in own["at_once"].split(",")):
        num = at_once * int(own["answers"])
        rates: list[list[float]] = [[], []]
        steps, answers = [0, 0], [[], []]  # type: ignore[var-annotated]
        before = engines[1].loop.stats()
        for _ in range(int(own["turns"])):
            for index, engine in enumerate(engines):
                first = engine.loop.stats().steps
                answers[index], seconds = engine.ask(at_once=at_once, num=num)
                steps[index] = engine.loop.stats().steps - first
                rates[index].append(sum(map(len, answers[index])) / seconds)
        after = engines[1].loop.stats()
        proposed = after.proposed_tokens - before.proposed_tokens
        accepted = after.accepted_tokens - before.accepted_tokens
        plain, quick = (max(one) for one in rates)
        share = accepted / (after.output_tokens - before.output_tokens)
        same = sum(mine == other for mine, other in zip(*answers, strict=True))
        print(f"{at_once:>8} {plain:>9.0f} {quick:>7.0f} {quick / plain:>6.2f} {steps[0]:>6} {steps[1]:>6} "
              f"{proposed:>9} {accepted / max(proposed, 1):>6.0%} "
              f"{share:>7.0%} {same:>6} of {num}", flush=True)  # fmt: skip
    print("one answer:", b"".join(tokens[token] for token in answers[1][0])[:300].decode(errors="replace"))


if __name__ == "__main__":
    with torch.inference_mode():
        main(sys.argv[1:])
