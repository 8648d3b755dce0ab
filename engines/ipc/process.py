"""The engine process: `python -m engines.ipc.process --connect ENDPOINT --parent PID`.

It reads one Start, loads, says Ready or StartFailed, and then turns forever: take what came in, run a step,
send all it gave in one frame. Stats go out every second and are the heartbeat: a step that hangs stops it,
and the parent ends the process. It ends by itself with Stop, on SIGTERM, and when its parent is gone.

With `engine.tp` above 1 it is rank 0 and starts the others (`engines/ipc/followers.py`), which are this
command with `--rank`; they take what rank 0 took and run the same steps, and say nothing.
"""

import argparse
import gc
import logging
import os
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import msgspec

from engines.errors import DeviceError, EngineError
from engines.ipc.early_context import open_context_early
from engines.ipc.followers import Followers
from engines.ipc.link import Link
from engines.messages import (
    HEARTBEAT_S,
    FromEngine,
    Go,
    Loading,
    Order,
    Ready,
    Start,
    StartFailed,
    Turn,
)
from engines.steps.grammar_gate import POLL_S, GrammarGate

if TYPE_CHECKING:  # torch comes in with Start, so that its absence is answered and not only printed
    from engines.backends import Backend
    from engines.loading import Meet
    from engines.network_loaders import LoadNetwork
    from engines.steps.engine_loop import EngineLoop

PARENT_CHECK_S = 0.5
RESTED_S = 0.5  # without work and messages: time for what would hold up sequences
GC_OBJECTS = 50_000  # new objects before the youngest are looked through; Python has 700
RANK_FAULT_S = 0.5  # after a step failed: how long a rank that died may take to be seen as dead

logger = logging.getLogger("engines.ipc.process")  # as a command its __name__ is another


def main(load: "LoadNetwork | None" = None) -> int:
    """Run one engine until it is told to leave; `load` replaces how the network is made."""
    parser = argparse.ArgumentParser(prog="engines.ipc.process")
    parser.add_argument("--connect", required=True)
    parser.add_argument("--parent", required=True, type=int)
    parser.add_argument("--rank", type=int, default=0)
    parser.add_argument("--rendezvous", type=Path)
    arguments = parser.parse_args()
    name = f"engine rank {arguments.rank}" if arguments.rank else "engine"
    logging.basicConfig(format=f"{name} %(levelname)s %(message)s", stream=sys.stderr)
    threading.Thread(target=_leave_with_parent, args=(arguments.parent,), daemon=True).start()
    link = Link(arguments.connect)
    try:
        start = link.wait()
        assert isinstance(start, Start), "the first message is Start"
        if start.log_level is not None:  # of what we say; other packages say what Python lets them
            logging.getLogger("engines").setLevel(start.log_level.upper())
        if arguments.rank:
            return _follow(start, link, load, rank=arguments.rank, rendezvous=arguments.rendezvous)
        return _lead(start, link, load)
    finally:
        link.close()


def leave(status: int) -> NoReturn:
    """End this process: at once where ranks have met, else as Python ends one.

    A thread that watches over NCCL asks the driver which device is its own. Where it does so while a process
    ends, it ends in SIGABRT, with its stack in the log of a server that was only stopped.
    """
    distributed = sys.modules.get("torch.distributed")
    if distributed is not None and distributed.is_initialized():
        logging.shutdown()
        sys.stdout.flush()
        os._exit(status)
    sys.exit(status)


def _lead(start: Start, link: Link, load: "LoadNetwork | None") -> int:
    """Load and serve, with the other ranks of a group if there are any."""
    try:
        followers = Followers(start, leave_word=link.leave_word)
    except EngineError as error:
        link.send([StartFailed(kind=type(error).__name__, message=str(error))])
        return 1
    try:
        meet = followers.meet if start.options.tp > 1 else None
        loop = _load(start, link, load, rank=0, meet=meet)
        return 1 if loop is None else _serve(loop, link, followers)
    finally:
        followers.close()


def _follow(start: Start, link: Link, load: "LoadNetwork | None", *, rank: int, rendezvous: Path) -> int:
    """Load a rank's share and run the steps of rank 0; the status is 1 where they do not agree."""

    def meet(backend: "Backend") -> None:
        go = link.wait()
        assert isinstance(go, Go), "rank 0 says Go once every rank has its weights"
        backend.group.join(rendezvous, backend.device)

    loop = _load(start, link, load, rank=rank, meet=meet)
    if loop is None:
        return 1
    _leave_alone_what_stays()
    while isinstance(turn := link.wait(), Turn):
        if turn.digest != loop.digest:
            logger.error("this rank sampled other tokens than rank 0")
            return 1
        for message in turn.messages:
            loop.take(message)
        loop.step()
    return 0


def _load(
    start: Start, link: Link, load: "LoadNetwork | None", *, rank: int, meet: "Meet | None"
) -> "EngineLoop | None":
    """Return the loop that serves; None after StartFailed was sent."""
    link.send([Loading(phase="import")])
    began = time.monotonic()
    gc.disable()  # a start makes a million objects that stay: to walk them takes a fifth of an import
    open_context_early(start.options.device, rank=rank)
    try:
        import torch

        from engines.loading import load_engine

        import_s = time.monotonic() - began
        torch.set_num_threads(_num_threads(start.options.device, ranks=start.options.tp))
        loop, ready = load_engine(
            start,
            on_phase=lambda phase: link.send([Loading(phase=phase)]),
            load=load,
            rank=rank,
            meet=meet,
        )
    except ModuleNotFoundError as error:
        message = (
            f"`{error.name}` is not installed: every engine needs it; pip install 'vlm-deployer[engine]'"
        )
        link.send([StartFailed(kind=DeviceError.__name__, message=message)])
        return None
    except Exception as error:
        if not isinstance(error, EngineError):
            logger.exception("the engine did not start")
        link.send([StartFailed(kind=type(error).__name__, message=str(error))])
        return None
    ready = msgspec.structs.replace(ready, phase_s={"import": import_s, **ready.phase_s})
    _log_ready(ready)
    link.send([ready])
    return loop


def _serve(loop: "EngineLoop", link: Link, followers: Followers) -> int:
    """Turn until asked to leave; the status is 1 where the device or the books were lost."""
    link.leave_on_signals()
    _leave_alone_what_stays()
    gate = GrammarGate(loop.grammars)
    stats_due = 0.0
    counted = (0, 0)
    while not link.is_asked_to_leave:
        wait_s = 0.0 if loop.has_work else max(stats_due - time.monotonic(), 0.0)
        arrived = link.inbox(wait_s if gate.is_empty else min(wait_s, POLL_S))
        if not arrived and wait_s > RESTED_S and gate.is_empty:
            loop.rest()
        orders = [message for message in arrived if isinstance(message, Order)]
        link.is_asked_to_leave |= len(orders) < len(arrived)
        messages, answers = gate.let_through(orders)
        link.send(answers)
        if messages or loop.has_work:
            followers.turn(messages, loop.digest)
        for message in messages:
            link.send(loop.take(message))
        try:
            out: list[FromEngine] = [*loop.step()]
        except Exception:
            logger.exception("the engine cannot go on")
            fault = followers.fault(within_s=RANK_FAULT_S)
            if fault is not None:
                link.leave_word(fault)
            why = "the engine failed" if fault is None else f"the engine failed: {fault}"
            _fail_all(loop, gate, link, f"{why}; it is being restarted")
            followers.close()
            link.close()
            os._exit(1)  # the error's frames hold tensors, and to free those of a lost device ends in SIGABRT
        if time.monotonic() >= stats_due or loop.counts != counted:
            stats_due = time.monotonic() + HEARTBEAT_S
            counted = loop.counts
            out.append(loop.stats())
        link.send(out)
    _fail_all(loop, gate, link, "the engine was stopped")
    return 0


def _fail_all(loop: "EngineLoop", gate: GrammarGate, link: Link, message: str) -> None:
    link.send([*loop.fail_all(message), *gate.fail_all(message)])


def _leave_alone_what_stays() -> None:
    """Keep the garbage collector from walking all modules and weights time and again, in the middle of steps.

    A step makes some thousand short-lived objects and no cycles, so most of its walks would find nothing.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_OBJECTS)
    gc.enable()


def _num_threads(device: str, *, ranks: int = 1) -> int:
    """Return how many threads torch may use: what the environment says, else a rank's share of our CPUs.

    One is left to the front end where there are several; a GPU's host work does not need many.
    """
    if "OMP_NUM_THREADS" in os.environ:
        return int(os.environ["OMP_NUM_THREADS"])
    num_cpus = len(os.sched_getaffinity(0))
    return max((num_cpus - 1) // ranks, 1) if device == "cpu" else min(num_cpus, 4)


def _leave_with_parent(parent: int) -> None:
    """End the process at once when its parent is gone; a thread, as the loop may be deep in a step."""
    while os.getppid() == parent:
        time.sleep(PARENT_CHECK_S)
    os._exit(1)


def _log_ready(ready: Ready) -> None:
    phases = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in ready.phase_s.items())
    logger.info(
        "ready on %s in %s: %d pages of %d tokens, sequences up to %d tokens (%s)",
        ready.device,
        ready.dtype,
        ready.num_pages,
        ready.page_tokens,
        ready.session_len,
        phases,
    )


if __name__ == "__main__":
    leave(main())
