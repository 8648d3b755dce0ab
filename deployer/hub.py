"""From a model's config to its checkpoint folder: one on this machine, the model that ships, or a download.

Of a repository only what serving reads is fetched: the files at its top, and of the weights one format,
safetensors where there are any. Downloads show a progress bar on stderr and are kept in `model.download_dir`,
else in the hub client's cache, which also serves them where the hub cannot be reached.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

from deployer.config.folder import checkpoint_folder
from deployer.config.schema import ModelConfig
from deployer.errors import ConfigError, DeployError, UnavailableError
from engines.errors import CheckpointError

_DESCRIPTIONS = ("*.jinja", "*.json", "*.model", "*.tiktoken", "*.txt")
_SUBFOLDERS = ("*/*",)
_WAY_OUT = "download it elsewhere and set model.hub=folder model.path=DIR"

Download = Callable[[Sequence[str]], Path]  # file name patterns to the snapshot's folder


def fetch_checkpoint(
    model: ModelConfig, *, weights: bool = True, endpoint: str | None = None, offline: bool = False
) -> Path:
    """Return the folder with the checkpoint's config.json, weights and tokenizer, downloaded if need be.

    `weights=False` leaves the weights on the hub. `endpoint` is the Hugging Face hub's address; None:
    HF_ENDPOINT, else the public one. `offline` takes only what was downloaded before. Raises ConfigError,
    CheckpointError, UnavailableError.
    """
    if model.hub in ("folder", "package"):
        return _checked(_local(model))
    if model.repo is None:
        raise ConfigError([f"model.repo: must name a repository, as owner/name, with model.hub={model.hub}"])
    download = download_from(model, model.repo, endpoint=endpoint, offline=offline)
    if not weights:
        return _checked(download(_DESCRIPTIONS))
    folder = download([*_DESCRIPTIONS, "*.safetensors"])
    if not any(folder.glob("*.safetensors")):
        folder = download([*_DESCRIPTIONS, "*.bin"])
    return _checked(folder)


def download_from(
    model: ModelConfig, repo: str, *, endpoint: str | None = None, offline: bool = False
) -> Download:
    """Return what fetches files of a repository from the model's hub; a subfolder only if named.

    It raises ConfigError for the repository and UnavailableError for the hub.
    """
    if model.hub == "huggingface":
        return _huggingface(model, repo, endpoint, offline=offline)
    return _modelscope(model, repo, offline=offline)


def checkpoint_files(folder: Path) -> list[Path]:
    """Return the files of a checkpoint folder that serving may read, sorted; the rule of the download."""
    weights = "*.safetensors" if any(folder.glob("*.safetensors")) else "*.bin"
    found = {path for pattern in (*_DESCRIPTIONS, weights) for path in folder.glob(pattern)}
    return sorted(path for path in found if path.is_file())


def snapshot_commit(folder: Path) -> str | None:
    """Return the commit that a folder of the Hugging Face cache holds; None for any other folder."""
    is_commit = len(folder.name) == 40 and set(folder.name) <= set("0123456789abcdef")
    return folder.name if is_commit and folder.parent.name == "snapshots" else None


def _ignored(patterns: Sequence[str]) -> list[str]:
    return [] if any("/" in pattern for pattern in patterns) else list(_SUBFOLDERS)


def _local(model: ModelConfig) -> Path:
    if model.path is None:
        raise ConfigError([f"model.path: must be set with model.hub={model.hub}"])
    folder = checkpoint_folder(hub=model.hub, path=model.path)
    if not folder.is_dir():
        what = "there is no such folder" if not folder.exists() else "it is not a folder"
        raise ConfigError(
            [f"model.path={model.path}: must be a checkpoint folder; {what} ({folder.absolute()})"]
        )
    return folder


def _checked(folder: Path) -> Path:
    if not (folder / "config.json").is_file():
        raise CheckpointError(
            f"{folder} holds no `config.json`: a checkpoint folder must; fetch the model again"
        )
    return folder


def _huggingface(model: ModelConfig, repo: str, endpoint: str | None, *, offline: bool) -> Download:
    """Return a download from the Hugging Face hub. The client is imported here: it takes a while."""
    from huggingface_hub import snapshot_download

    def download(patterns: Sequence[str]) -> Path:
        try:
            return Path(
                snapshot_download(
                    repo,
                    revision=model.revision,
                    cache_dir=model.download_dir,
                    allow_patterns=list(patterns),
                    ignore_patterns=_ignored(patterns),
                    endpoint=endpoint,
                    local_files_only=offline,
                )
            )
        except Exception as error:  # the client's HTTP library and its errors differ between its releases
            raise _huggingface_fault(error, model, repo) from error

    return download


def _huggingface_fault(error: Exception, model: ModelConfig, repo: str) -> DeployError:
    """Return what an error of the hub's client means for the config."""
    from huggingface_hub import errors

    if isinstance(error, errors.GatedRepoError):
        return UnavailableError(
            f"model.repo={repo}: its owner gives access on request; accept the terms on the hub's page and "
            f"run `hf auth login` (or set HF_TOKEN), or {_WAY_OUT}"
        )
    if isinstance(error, errors.RepositoryNotFoundError):
        rule = "must be a repository of the hub that is public or open to you (HF_TOKEN)"
        return ConfigError([f"model.repo={repo}: {rule}; {_WAY_OUT}"])
    if isinstance(error, errors.RevisionNotFoundError):
        rule = f"must be a branch, tag or commit of {repo}"
        return ConfigError([f"model.revision={model.revision}: {rule}; null takes the default branch"])
    if isinstance(error, errors.HFValidationError):
        return ConfigError([f"model.repo={repo}: must look like owner/name; {error}"])
    if isinstance(error, errors.LocalEntryNotFoundError) and error.__cause__ is not None:
        return _unreachable("Hugging Face", repo, error.__cause__)
    return _unreachable("Hugging Face", repo, error)


def _modelscope(model: ModelConfig, repo: str, *, offline: bool) -> Download:
    """Return a download from ModelScope."""
    try:
        from modelscope.hub.snapshot_download import snapshot_download
    except ImportError as error:
        raise UnavailableError(
            "model.hub=modelscope: the package `modelscope` is not installed; "
            f"`pip install 'vlm-deployer[modelscope]'`, or {_WAY_OUT}"
        ) from error

    def download(patterns: Sequence[str]) -> Path:
        try:
            return Path(
                snapshot_download(
                    repo,
                    revision=model.revision,
                    cache_dir=model.download_dir,
                    allow_patterns=list(patterns),
                    ignore_patterns=_ignored(patterns),
                    local_files_only=offline,
                )
            )
        except Exception as error:  # the client raises its HTTP library's errors and a dozen of its own
            raise _unreachable("ModelScope", repo, error) from error

    return download


def _unreachable(hub: str, repo: str, error: BaseException) -> UnavailableError:
    first_line = (str(error).strip() or type(error).__name__).splitlines()[0]
    return UnavailableError(
        f"model.repo={repo}: cannot be fetched from {hub}: {first_line}; check the network, or {_WAY_OUT}"
    )
