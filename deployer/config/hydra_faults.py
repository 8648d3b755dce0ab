"""What Hydra, OmegaConf and PyYAML complain about, in our words: the file and line, the rule, the way out."""

import re
from pathlib import Path

import yaml
from omegaconf.errors import OmegaConfBaseException

from deployer.config.hydra_loader import ClashError
from deployer.config.origins import Origins, shown_path
from deployer.config.recipe_file import DEFAULTS
from deployer.config.suggest import near, quoted, way_out
from deployer.config.tree import ConfigTree


def unresolved(key: str, error: OmegaConfBaseException, origins: Origins) -> str:
    """Return the message for a value with an interpolation that cannot be filled in."""
    reason = _why_unresolved(str(error).splitlines()[0], origins)
    return f"{key}={origins.of(key)[-1].text} ({origins.where(key)}): cannot be filled in: {reason}"


def _why_unresolved(told: str, origins: Origins) -> str:
    """Return OmegaConf's reason in our words, with the way out."""
    if missing := re.search(r"Missing mandatory value: (\S+)", told):
        return f"`{missing[1]}` has no value; set {missing[1]}=<value>"
    if variable := re.search(r"Environment variable '([^']+)' not found", told):
        name = variable[1]
        return f"the environment variable `{name}` is not set; export it, or write ${{oc.env:{name},<value>}}"
    if unknown := re.search(r"Interpolation key '([^']+)' not found", told):
        close = near(unknown[1], origins.settings)
        shown = f"nearest keys: {quoted(close)}" if close else "`deploy explain` shows every key"
        return f"there is no key `{unknown[1]}`; {shown}"
    if resolver := re.search(r"Unsupported interpolation type (\S+)", told):
        return f"there is no `{resolver[1]}`; write ${{key}} or ${{oc.env:NAME}}"
    if "Recursive interpolation" in told:
        return "it leads back to itself; write the value out in one of the keys"
    return told


def broken_yaml(error: yaml.YAMLError) -> str:
    """Return the message for a file that is not YAML."""
    if not isinstance(error, yaml.MarkedYAMLError):
        return f"a config file is not YAML: {str(error).splitlines()[0]}"
    mark = error.problem_mark or error.context_mark
    place = "a config file" if mark is None else f"{shown_path(Path(mark.name))}:{mark.line + 1}"
    what = ", ".join(part for part in (error.context, error.problem) if part)
    if mark is not None and "cannot start any token" in what and _line(mark).lstrip(" ").startswith("\t"):
        what = "a tab indents this line; use spaces"
    return f"{place}: is not YAML: {what}"


def _line(mark: yaml.Mark) -> str:
    lines = Path(mark.name).read_text(encoding="utf-8").splitlines()
    return lines[mark.line] if mark.line < len(lines) else ""


def unreadable(error: OSError | UnicodeDecodeError, tree: ConfigTree) -> str:
    """Return the message for a file that cannot be read, or is not text."""
    if isinstance(error, OSError):
        return f"{shown_path(Path(error.filename))}: cannot be read: {error.strerror}"
    files = (path for folder in tree.folders for path in sorted(folder.rglob("*.yaml")) if path.is_file())
    named = next((shown_path(path) for path in files if error.object in path.read_bytes()), "a config file")
    return f"{named}: is not UTF-8 text ({error.reason} at byte {error.start}); save it as UTF-8"


def clash(error: ClashError, tree: ConfigTree) -> str:
    """Return the message for a value where others have a group of keys."""
    file = tree.file(error.config_path)
    assert file is not None, "what was merged is a file of the tree"
    origins = Origins()
    origins.add_file(file, "")
    inside = error.key
    while inside and not origins.of(inside):  # a file of a group has no group in its keys
        inside = inside.partition(".")[2]
    return f"{error.key} ({origins.where(inside)}): is a group of keys; write its keys below it, indented"


def hydra_fault(error: Exception, tree: ConfigTree) -> str:
    """Return Hydra's own complaint about the files in one line, without its advice to add what is unknown."""
    text = str(error) or str(error.__cause__ or type(error).__name__)
    missing = re.search(r"(?:In '(?P<file>[^']+)': )?Could not (?:find|load) '(?P<name>[^']+)'", text)
    if missing:
        return _missing_file(missing["file"], missing["name"], tree)
    no_list = re.search(r"Invalid defaults list in '([^']+)'", text)
    if no_list:
        file = tree.file(no_list[1])
        return f"{shown_path(file) if file else no_list[1]}: `defaults` must be a list, as {DEFAULTS}"
    twice = re.search(r"Multiple values for (\S+)\. To override a value use '([^']+)'", text)
    if twice and tree.recipe is not None:
        place = shown_path(tree.recipe)
        return f"{place}: its defaults choose `{twice[1]}` twice; write {{{twice[2]}}}"
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    key = next((line.partition(":")[2].strip() for line in lines if line.startswith("full_key:")), "")
    if key:
        return f"{key}: is no interpolation: {lines[0]}; write ${{key}} or ${{oc.env:NAME}}"
    kept = [line for line in lines if not line.startswith(("To append", "Set the environment", "See https"))]
    if error.__cause__ is not None and str(error.__cause__) not in text:
        kept.append(str(error.__cause__).splitlines()[0])
    if tree.recipe is not None and "No match in the defaults list" in text:
        kept.append(f"begin the list of {shown_path(tree.recipe)} with `deploy`: {DEFAULTS}")
    return "the config files do not fit together: " + "; ".join(kept)


def _missing_file(by: str | None, name: str, tree: ConfigTree) -> str:
    group, _, option = name.rpartition("/")
    file = tree.file(by) if by else None
    where = f" ({shown_path(file)})" if file else ""
    if not group:
        return f"unknown config `{option}`{where}: looked in {tree.folders[0]}"
    if not tree.options(group):
        return f"unknown group `{group}`{where}: {way_out(group, tree.groups(), kind='groups')}"
    return f"unknown {group} `{option}`{where}: {way_out(option, tree.options(group), kind='options')}"
