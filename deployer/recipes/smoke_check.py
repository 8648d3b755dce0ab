"""A smoke answer held against the locked one.

The text must be the same on the same kind of device and engine. Times are compared on the same processor
only, and only slower counts.
"""

from collections.abc import Iterator

from deployer.recipes.findings import Finding
from deployer.recipes.lock_file import Smoke


def smoke_findings(locked: Smoke, now: Smoke, *, tolerance: float) -> Iterator[Finding]:
    """Yield what holds and what does not."""
    yield _answer(locked, now)
    if _processor(locked) != _processor(now) or locked.device != now.device:
        text = f"times are not compared: locked on {locked.machine}, this is {now.machine}"
        yield Finding(level="warning", part="smoke", text=text)
        return
    for name, was in sorted(locked.figures.items()):
        is_now = now.figures.get(name, 0.0)
        most = was * (1 + tolerance)
        text = f"{name} {is_now:g}, locked {was:g}, at most {most:g}"
        if is_now <= most:
            yield Finding(level="ok", part="smoke", text=text)
        else:
            tail = f"; the machine is busy ({now.machine}) or slower: smoke=false skips this"
            yield Finding(level="error", part="smoke", text=text + tail)


def _answer(locked: Smoke, now: Smoke) -> Finding:
    if (locked.question, locked.picture) != (now.question, now.picture):
        text = f"another question is asked now: `{locked.question}` -> `{now.question}`; lock it again"
        return Finding(level="warning", part="smoke", text=text)
    if locked.answer == now.answer:
        return Finding(level="ok", part="smoke", text=f"`{now.question}` -> `{now.answer}`")
    text = f"`{now.question}` was answered `{locked.answer}`, and is answered `{now.answer}`"
    same = (locked.engine, locked.device, locked.dtype) == (now.engine, now.device, now.dtype)
    if same:
        return Finding(level="error", part="smoke", text=text)
    other = (
        f"locked with engine={locked.engine} on {locked.device}, this is engine={now.engine} on {now.device}"
    )
    return Finding(level="warning", part="smoke", text=f"{text}: {other}")


def _processor(smoke: Smoke) -> str:
    return smoke.machine.partition(", load")[0]
