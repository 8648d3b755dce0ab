"""What a checkpoint folder and the chat template are, by their hashes."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from deployer.config.schema import DeployConfig
from deployer.hub import checkpoint_files, snapshot_commit
from deployer.prompt.checkpoint_template import template_file
from deployer.prompt.template_choice import FROM_CHECKPOINT, choose_template, is_from_checkpoint
from deployer.recipes.file_hashes import hash_files, hash_together
from deployer.recipes.lock_file import LockedFile, LockedModel

WEIGHTS = (".bin", ".safetensors")
TOKENIZER_FILES = (
    "added_tokens.json",
    "merges.txt",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.json",
)


def locked_model(config: DeployConfig, folder: Path, *, with_weights: bool = True) -> LockedModel:
    """Return the files of a checkpoint folder and of the template, hashed.

    Without weights these are known by their size alone, which takes no time.
    """
    files = checkpoint_files(folder)
    from_checkpoint = is_from_checkpoint(config.chat_template)
    template = template_file(folder) if from_checkpoint else choose_template(config.chat_template)[0]
    tokenizer = [path for path in files if _is_tokenizer(path.name)]
    return LockedModel(
        hub=config.model.hub,
        repo=config.model.repo,
        asked_revision=config.model.revision,
        commit=snapshot_commit(folder),
        files=_hashed(files, with_weights=with_weights),
        tokenizer_sha256=hash_together((path.name, path.read_bytes()) for path in tokenizer),
        chat_template=FROM_CHECKPOINT if from_checkpoint else template.stem,
        chat_template_sha256=hash_together([(template.name, template.read_bytes())]),
    )


def file_faults(locked: LockedModel, here: LockedModel) -> Iterator[str]:
    """Yield each file that is not what was locked; a hash that one side has not made is not compared."""
    for name in sorted(locked.files.keys() | here.files.keys()):
        was, now = locked.files.get(name), here.files.get(name)
        if now is None:
            yield f"`{name}` is missing"
        elif was is None:
            yield f"`{name}` was not there when it was locked"
        elif was.bytes != now.bytes:
            yield f"`{name}` has {now.bytes:,} bytes, locked were {was.bytes:,}"
        elif was.sha256 and now.sha256 and was.sha256 != now.sha256:
            yield f"`{name}` has other content: SHA-256 {now.sha256[:12]}, locked was {was.sha256[:12]}"
    if locked.chat_template_sha256 != here.chat_template_sha256:
        change = f"`{locked.chat_template}` -> `{here.chat_template}`"
        yield f"chat template {change if locked.chat_template != here.chat_template else 'has other content'}"


def _hashed(files: Sequence[Path], *, with_weights: bool) -> dict[str, LockedFile]:
    weights = [] if with_weights else [path for path in files if path.suffix in WEIGHTS]
    sizes = {path.name: LockedFile(bytes=path.stat().st_size, sha256=None) for path in weights}
    return {**sizes, **hash_files([path for path in files if path not in weights])}


def _is_tokenizer(name: str) -> bool:
    return name.endswith(".model") or name in TOKENIZER_FILES
