"""`deploy recipe drift RECIPE --against URL`: what runs there, held against what is locked here."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from deployer.errors import EXIT_DRIFT, EXIT_OK, UsageError
from deployer.output import take_output
from deployer.recipes.checkpoint import file_faults
from deployer.recipes.command import one_recipe
from deployer.recipes.findings import Finding, has_errors, print_findings
from deployer.recipes.flat import moved
from deployer.recipes.lock_file import Lock, lock_path, read_lock
from deployer.recipes.options import take_words
from deployer.recipes.running import Running, fetch_running
from deployer.recipes.verify import config_findings, software_findings


def run(words: Sequence[str], config_dirs: Sequence[Path]) -> int:
    """Print every finding; exit code 1 where the server is not what is locked."""
    output, words = take_output(words)
    taken = take_words(words, verb="recipe drift", switches={}, texts=("against", "api_key"))
    if "against" not in taken.texts:
        raise UsageError("`deploy recipe drift` compares with a server; add --against http://host:port")
    path = one_recipe(taken.names, config_dirs, verb="recipe drift")
    lock = read_lock(lock_path(path))
    url = taken.texts["against"]
    running = fetch_running(url, api_key=taken.texts.get("api_key"))
    findings = list(drift_findings(lock, running, url=url))
    drifted = has_errors(findings)
    verdict = f"{path.stem}: {url} {'has drifted from its lock' if drifted else 'runs what is locked'}"
    print_findings(findings, verdict, output=output)
    return EXIT_DRIFT if drifted else EXIT_OK


def drift_findings(lock: Lock, running: Running, *, url: str) -> Iterator[Finding]:
    """Yield how a server differs from a lock; its weights are compared by size, as it tells no more."""
    yield Finding(level="ok", part="server", text=f"fingerprint {running.fingerprint[:12]}")
    yield from config_findings(list(moved(lock.config, running.config)), lock, see=url)
    faults = list(file_faults(lock.model, running.model))
    if lock.model.commit != running.model.commit:
        faults.append(f"commit {lock.model.commit} -> {running.model.commit}")
    yield from (Finding(level="error", part="files", text=text) for text in faults)
    if not faults:
        yield Finding(level="ok", part="files", text=f"{len(lock.model.files)} files, weights by size")
    yield from software_findings(lock, here=running.packages, kernels=running.kernels_sha256)
