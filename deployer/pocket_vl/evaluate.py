"""`deploy evaluate`: held-out questions about pictures, asked of a deployment's own engine.

The whole way of a request but HTTP: messages, chat template, tiles, engine process, tokens, text. So any
engine, quantization and option can be judged. An answer is right if it is the expected one to the letter.
"""

import asyncio
import secrets
import sys
import time
from contextlib import aclosing
from pathlib import Path

from msgspec.structs import replace
from PIL import Image

from deployer.bench.offline import EngineBench, engine_bench
from deployer.config.schema import DeployConfig
from deployer.errors import ConfigError
from deployer.generation.deployment import Deployment
from deployer.generation.image_inputs import write_images
from deployer.pocket_vl.accuracy import Answer, print_accuracy
from deployer.pocket_vl.evaluate_options import EvaluateOptions, check_options
from deployer.pocket_vl.fonts import FontBook
from deployer.pocket_vl.held_out import Question, held_out_questions
from deployer.pocket_vl.painter import paint
from deployer.prompt.messages import Message
from deployer.prompt.tokenizer import decode
from deployer.serve.logs import set_up_logs
from engines.errors import EngineError
from engines.messages import Delta, Failed, Submit, greedy


def run(config: DeployConfig, options: EvaluateOptions) -> int:
    """Ask, judge and print; returns the exit code. Raises UnavailableError or EngineError where it cannot."""
    check_options(options)
    set_up_logs("warning")
    book = FontBook.system() if options.fonts is None else FontBook.open(Path(options.fonts))
    start = time.perf_counter()
    answers, about = asyncio.run(ask_deployment(config, options, book))
    about["fonts"] = f"{len(book.names)}: {', '.join(book.names)}"
    about["seconds"] = f"{time.perf_counter() - start:.0f}"
    print_accuracy(answers, about, options, out=sys.stdout)
    return 0


async def ask_deployment(
    config: DeployConfig, options: EvaluateOptions, book: FontBook
) -> tuple[list[Answer], dict[str, str]]:
    """Start the deployment's engine, ask, and return the answers and what answered."""
    deployment = Deployment.open(config, max_restarts=0)
    if deployment.model.spec.vision is None:
        raise ConfigError([f"model `{config.model.name}` reads text only: the questions are about pictures"])
    questions = held_out_questions(options.questions, book, first_picture=options.first_picture)
    async with engine_bench(deployment, output_tokens=options.max_new_tokens) as bench:
        ready = bench.engine.ready
        assert ready is not None, "a started engine has said what it got"
        answers = await ask_all(bench, questions, book, concurrency=options.concurrency)
    formats = f"weights {config.quantization.weights}, kv {config.quantization.kv}"
    engine = f"{deployment.choice.kind} on {ready.device}, {ready.dtype}, tp {config.engine.tp}"
    return answers, {"model": config.model.name, "engine": engine, "quantization": formats}


async def ask_all(
    bench: EngineBench, questions: list[Question], book: FontBook, *, concurrency: int
) -> list[Answer]:
    """Return the answers in the order of the questions, `concurrency` of them asked at once."""
    places = asyncio.Semaphore(concurrency)
    pictures: dict[int, Image.Image] = {}

    async def ask(question: Question) -> Answer:
        async with places:
            if question.scene is not None and question.scene_number not in pictures:
                pictures.clear()  # questions come picture by picture
                pictures[question.scene_number] = paint(question.scene, book)
            messages = conversation(question, pictures.get(question.scene_number))
            return Answer(question=question, text=await answer(bench, messages))

    return list(await asyncio.gather(*(ask(question) for question in questions)))


def conversation(question: Question, picture: Image.Image | None) -> list[Message]:
    """Return the messages of a question; the turns before it carry their right answers."""
    asked = [turn.question for turn in (*question.before, question.turn)]
    shown = () if question.scene is None or picture is None else (picture,)
    messages = [Message.of("user", asked[0], *shown)]
    for turn, further in zip(question.before, asked[1:], strict=True):
        messages += [Message.of("assistant", turn.answer), Message.of("user", further)]
    return messages


async def answer(bench: EngineBench, messages: list[Message]) -> str:
    """Return the greedy answer. Raises EngineError where a request fails."""
    prompt = await bench.prompts.chat(messages)
    sampling = greedy(bench.output_tokens, stop_token_ids=bench.prompts.stop_token_ids)
    submit = Submit(
        request_id=f"evaluate-{secrets.token_hex(8)}",
        token_ids=prompt.token_ids,
        images=write_images(prompt, bench.engine.pixels),
        sampling=replace(sampling, ignore_eos=False, eos_token_ids=bench.prompts.eos_token_ids),
        priority=0,
    )
    ids: list[int] = []
    async with aclosing(bench.engine.submit(submit)) as replies:
        async for reply in replies:
            if isinstance(reply, Delta):
                ids.extend(reply.token_ids)
            elif isinstance(reply, Failed):
                raise EngineError(f"a question of the evaluation failed, {reply.code}: {reply.message}")
    return decode(bench.prompts.tokenizer, ids).strip()
