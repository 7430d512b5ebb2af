"""From the words of a command line to an experiment."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from genutil.config import KEYS, Experiment, nearest_key
from genutil.errors import UserError, shortened
from genutil.saved.sources import Sources
from genutil.settings import app_files, dialect_2019
from genutil.settings.field_types import expectation, is_list, is_switch

SWITCH_WORDS = {
    **dict.fromkeys(("true", "yes", "on", "1"), True),
    **dict.fromkeys(("false", "no", "off", "0"), False),
}
NAMES = (*KEYS, *dialect_2019.KEYS)


@dataclass
class CommandLine:
    """What a command line asks for; settings still untyped."""

    app: str | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    help: bool = False


def parse(words: Sequence[str]) -> CommandLine:
    """Take a command line apart: app:<name>, --key value ..., --switch, --no-switch, --key=value, --help.

    Raises UserError for an unknown key, a missing or superfluous value, or a word that belongs to nothing.
    """
    for word in words:
        if "\0" in word or any("\ud800" <= letter <= "\udfff" for letter in word):
            raise UserError(f"{shortened(word)} is no text in the encoding of this system.")
    line = CommandLine(help=not words)
    for option, values in _groups(words):
        if option in ("--help", "-h"):
            line.help = True
        elif option.startswith("app:"):
            if line.app not in (None, option[4:]):
                raise UserError(f"Two experiments are given, {line.app} and {option[4:]}; run one at a time.")
            line.app = option[4:]
        else:
            key, value = _setting(option, values)
            line.settings[key] = value
    return line


def documents(line: CommandLine) -> int:
    """How many experiments the app file of a command line holds; 1 where it names none.

    Raises UserError where there is no such file, or where it cannot be read.
    """
    return 1 if line.app is None else app_files.count(app_files.find(line.app))


def is_sweep(line: CommandLine) -> bool:
    """Whether a command line asks for several trainings of one experiment: by `seeds`, or by a file that sweeps.

    Raises UserError where its file cannot be read.
    """
    if line.settings.get("seeds") is not None or line.app is None:
        return "seeds" in line.settings
    path = app_files.find(line.app)
    return bool(app_files.sweep(path)) or app_files.read(path).settings.get("seeds") is not None


def resolve(
    line: CommandLine,
    environment: Mapping[str, str] = os.environ,
    document: int | None = None,
    sources: Sources | None = None,
) -> Experiment:
    """The experiment of an app file, or of the checkpoint to resume, under what the command line sets.

    Of a file with several experiments `document` says which, counted from 0. A checkpoint is opened in `sources`, so
    that the run need not open it again.

    Raises UserError where a setting is a mistake, or where nothing names an experiment.
    """
    given = dialect_2019.translate(line.settings)
    if line.app is not None:
        path = app_files.find(line.app)
        app = app_files.read(path, document=document, over=given)
        name = app_files.app_name(path) + ("" if document is None else f"/{document + 1}")
        settings = {"name": name, "experiment": name, **app.settings}
        origins = app.origins | {dialect_2019.KEYS.get(key, key): f"--{key}" for key in line.settings}
        experiment = Experiment.from_settings(_with_data_dir(settings, environment), origins)
    elif given.get("resume") == "auto":
        raise UserError("--resume auto needs an experiment, app:<name>, whose newest checkpoint is looked for.")
    elif given.get("resume"):
        saved = (sources or Sources()).open(given["resume"]).settings()
        experiment = Experiment.from_saved(saved, _with_data_dir(given, environment))
    else:
        raise UserError("Name an experiment, app:<name>, or a checkpoint, --resume CKPT; --help lists them.")
    return experiment


def _groups(words: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
    """Each option with the words that follow it; an app's name stands alone."""
    options: list[tuple[str, list[str]]] = []
    for word in words:
        if word.startswith("app:"):
            options.append((word, []))
        elif word.startswith("--"):
            option, equals, value = word.partition("=")
            options.append((option, [value] if equals else []))
        elif word == "-h":
            options.append((word, []))
        elif re.match(r"-[a-zA-Z]", word):
            raise UserError(f"{word} is no option; options begin with two dashes, as --lr.")
        elif not options or options[-1][0].startswith("app:"):
            raise UserError(f"{word} belongs to no option; give an experiment as app:<name>, a setting as --key value.")
        else:
            options[-1][1].append(word)
    yield from options


def _setting(option: str, values: list[str]) -> tuple[str, Any]:
    name = option[2:].replace("-", "_")
    if name in NAMES:
        return name, _value(option, name, values)
    for prefix in ("no_", "no"):
        key = name.removeprefix(prefix)
        if key != name and key in NAMES and _is_switch(key):
            if values:
                raise UserError(f"{option} takes no value; it is --{key} false.")
            return key, False
    raise UserError(f"{option} is not a setting; the nearest is --{nearest_key(name)}.")


def _value(option: str, name: str, values: list[str]) -> Any:
    if _is_switch(name):
        return _switch(option, values)
    setting = KEYS[dialect_2019.KEYS.get(name, name)]
    if not values:
        raise UserError(f"{option} needs a value: {expectation(setting)}.")
    if is_list(setting):
        parts = [part for value in values for part in re.split(r"[,\s]+", value.strip("[]")) if part]
        return parts[0] if parts in (["none"], ["null"]) else parts
    if len(values) > 1:
        raise UserError(f"{option} takes one value, not {len(values)}: {' '.join(values)}.")
    return values[0]


def _is_switch(name: str) -> bool:
    return is_switch(KEYS[dialect_2019.KEYS.get(name, name)])


def _switch(option: str, values: list[str]) -> bool:
    if not values:
        return True
    if len(values) > 1 or values[0].lower() not in SWITCH_WORDS:
        raise UserError(f"{option} is true or false, not {' '.join(values)}.")
    return SWITCH_WORDS[values[0].lower()]


def _with_data_dir(settings: dict[str, Any], environment: Mapping[str, str]) -> dict[str, Any]:
    from_environment = environment.get("DATA_DIR")
    if from_environment and not settings.get("data_dir"):
        return {**settings, "data_dir": from_environment}
    return settings
