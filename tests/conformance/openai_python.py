"""openai-python's own tests against a server of ours: `python tests/conformance/openai_python.py FOLDER`.

FOLDER is the unpacked source distribution of `openai` (`pip download --no-binary :all: --no-deps
openai`). Its tests need `httpx2`, `respx`, `aiohttp` and `pytest-asyncio`. They were made for a mock that
accepts anything: `DESELECTED` says which of them a real server cannot pass, and why.
"""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

from live_server import live_server

# The name of the model is that which the tests of a file ask for.
FILES: Mapping[str, Sequence[str]] = {
    "gpt-6-astra": (
        "tests/api_resources/chat/test_completions.py",
        "tests/api_resources/test_models.py",
        "tests/api_resources/test_responses.py",
        "tests/api_resources/responses/test_input_items.py",
    ),
    "gpt-3.5-turbo-instruct": ("tests/api_resources/test_completions.py",),
}
ALL_PARAMS = "sends every field there is, audio, functions and web search among them: refused by name"
NOT_KEPT = "chat completions are not kept: nothing to retrieve, update, list or delete"
MADE_UP = "asks for the response of a made-up id: a 404"
NO_INPUT = "sends no `input`: a 400"
# Part of a test's id -> why it cannot pass.
DESELECTED: Mapping[str, str] = {
    "create_with_all_params": ALL_PARAMS,
    "chat/test_completions.py:retrieve": NOT_KEPT,
    "chat/test_completions.py:update": NOT_KEPT,
    "chat/test_completions.py:list": NOT_KEPT,
    "chat/test_completions.py:delete": NOT_KEPT,
    "test_models.py:delete": "models are not deleted by clients",
    "test_responses.py:create": NO_INPUT,
    "test_responses.py:retrieve": MADE_UP,
    "test_responses.py:delete": MADE_UP,
    "test_responses.py:cancel": MADE_UP,
    "test_responses.py:compact": "conversations are not compacted",
    "test_input_items.py:list": MADE_UP,
}
NEVER = "path_params"  # these never reach a server, and pass


def main() -> int:
    folder, failed = Path(sys.argv[1]).resolve(), 0
    for model, files in FILES.items():
        with live_server(
            "+model=pocket_vl", f"server.model_name={model}", "sampling.max_new_tokens=16"
        ) as server:
            for file in files:
                failed |= run(folder, file, f"{server.url}/v1")
    return failed


def run(folder: Path, file: str, url: str) -> int:
    """Run the tests of one file that can pass; returns pytest's exit code."""
    words = [key.rpartition(":")[2] for key in DESELECTED if ":" not in key or key.partition(":")[0] in file]
    chosen = f"{NEVER} or not ({' or '.join(words)})"
    command = (sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", chosen, file)
    print(f"{file}, without {', '.join(words)}", flush=True)
    environment = {**os.environ, "TEST_API_BASE_URL": url}
    return subprocess.run(command, cwd=folder, env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
