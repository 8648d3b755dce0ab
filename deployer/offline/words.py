"""What a Python call says of a deployment, as the words that the command line would take.

    pipeline("internvl2_8b", "engine=turbomind", "engine.tp=2")
    pipeline("internvl2_8b", engine="turbomind", vision={"max_tiles": 6})

So every option, rule and message is that of `deploy`.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from deployer.config.override_text import override_text
from deployer.config.repositories import options_by_repository
from deployer.config.tree import config_tree
from deployer.config.words import is_recipe_file
from deployer.errors import UsageError
from deployer.typed_path import names_folder, typed_path

# LMDeploy's arguments of `pipeline` -> what says the same here.
LMDEPLOYS: Mapping[str, str] = {
    "backend_config": 'engine="turbomind" or engine="pytorch", and its fields as "engine.tp=2"',
    "chat_template_config": 'chat_template="<name>", and its fields as "chat_template.meta_instruction=..."',
    "vision_config": 'vision={"max_batch_size": 8}',
    "model_name": 'chat_template="<name>" for the template, "server.model_name=..." for a server',
    "log_level": 'logging.getLogger("deployer").setLevel("ERROR"), of Python itself',
    "tp": '"engine.tp=2"',
    "speculative_config": '"engine.speculative_num_draft_tokens=4": proposed from the text itself',
    "trust_remote_code": "nothing: no code of a checkpoint runs here",
}


def deployment_words(
    model: str | Path,
    overrides: Sequence[str],
    groups: Mapping[str, Any],
    *,
    config_dirs: Sequence[Path] = (),
) -> list[str]:
    """Return the words that name the model, then those of the keywords, then the overrides.

    `model`: a model option, a checkpoint folder, a recipe file or a repository that an option stands for.
    Raises UsageError for a value that has no words.
    """
    theirs = [name for name in groups if name in LMDEPLOYS]
    if theirs:
        told = (f"`{name}`: is an argument of LMDeploy; write {LMDEPLOYS[name]}" for name in theirs)
        raise UsageError("\n".join(told))
    for word in overrides:
        if not isinstance(word, str):
            raise UsageError(f'{word!r}: is no word of the command line; write text as "engine.tp=2"')
    words = _model_words(model, config_dirs)
    for name, value in groups.items():
        words += _flags(name, value)
    return [*words, *overrides]


def _model_words(model: str | Path, config_dirs: Sequence[Path]) -> list[str]:
    text = str(model)
    if is_recipe_file(text):
        return [text]
    is_path = isinstance(model, Path) or text.startswith((".", "~", "/")) or "/" in text
    if not is_path:
        return [f"+model={text}"]
    if not names_folder(typed_path(text)):
        option = options_by_repository(config_tree(None, config_dirs)).get(text.lower())
        if option is not None:
            return [f"+model={option}"]
    return ["+model=local", f"model.path={_value(text)}"]


def _flags(key: str, value: Any) -> Iterator[str]:
    if isinstance(value, Mapping) and value:
        for name, inner in value.items():
            yield from _flags(f"{key}.{name}", inner)
    else:
        yield f"{key}={_value(value)}"


def _value(value: Any) -> str:
    """Return a value in the grammar of overrides. Raises UsageError."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int) or (isinstance(value, float) and math.isfinite(value)):
        return repr(value)
    if isinstance(value, str | Path):
        return override_text(str(value))
    if isinstance(value, list | tuple):
        return f"[{','.join(_value(item) for item in value)}]"
    if isinstance(value, Mapping) and not value:
        return "{}"
    raise UsageError(f"{value!r}: an option is text, a number, a bool, None, a list or a mapping of these")
