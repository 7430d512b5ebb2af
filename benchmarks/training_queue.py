"""The queue of trainings: what stands in queue.yml, checked before anything runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from genutil.cli import command_line
from genutil.cli.command_line import CommandLine
from genutil.errors import UserError, nearest

QUEUE = Path(__file__).with_name("queue.yml")
KEYS = ("experiment", "seeds", "settings", "name", "device", "after")
DEVICES = ("cpu", "gpu")


@dataclass(frozen=True)
class Entry:
    """An experiment to train.

    Attributes:
        experiment: as app: names it.
        seeds: a run each.
        name: of the folders of its runs, before their seed.
        settings: that differ from the app file's; {checkpoints} and {seed} are filled in.
        device: "cpu" or "gpu", the machines that it is for; None for both.
        after: whose run of the same seed has to be finished first.
    """

    experiment: str
    seeds: tuple[int, ...]
    name: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    device: str | None = None
    after: Entry | None = None

    def resolved(self, seed: int = 0, checkpoints: Path = Path("checkpoints")) -> dict[str, Any]:
        """The settings of a run, as a results file or a checkpoint has them (`Experiment.to_saved`)."""
        stated = {**self.stated(seed, checkpoints), "evaluate": True}  # so that no file has to be named yet
        return command_line.resolve(CommandLine(self.experiment, stated), {}).to_saved()

    def stated(self, seed: int, checkpoints: Path) -> dict[str, Any]:
        """The settings that a run states on its command line."""
        places = {"checkpoints": str(checkpoints), "seed": str(seed)}
        filled = {
            key: value.format(**places) if isinstance(value, str) else value for key, value in self.settings.items()
        }
        return {**filled, "seed": seed}


class Run(NamedTuple):
    """One training of the queue: an entry with one of its seeds."""

    entry: Entry
    seed: int

    @property
    def name(self) -> str:
        """Of its folders of checkpoints and logs."""
        return f"{self.entry.name}-{self.seed}"


def read(path: Path = QUEUE) -> list[Entry]:
    """The entries of a queue.

    Raises:
        UserError: the file cannot be read; an entry has a mistake, which is named; two have one name.
    """
    try:
        given = yaml.safe_load(path.read_text())
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise UserError(f"The queue {path} cannot be read: {' '.join(str(error).split())}.") from None
    if not isinstance(given, list) or not given:
        raise UserError(f"The queue {path} is no list of entries.")
    entries: list[Entry] = []
    for number, stated in enumerate(given, 1):
        entry = _entry(stated, f"Entry {number} of {path}", {entry.name: entry for entry in entries})
        if any(entry.name == other.name and _meet(entry, other) for other in entries):
            raise UserError(f"Entry {number} of {path} has the name {entry.name} of one before it: give it another.")
        entries.append(entry)
    return entries


def _meet(entry: Entry, other: Entry) -> bool:
    """Whether there is a machine for both of two entries."""
    return None in (entry.device, other.device) or entry.device == other.device


def runs(entries: Sequence[Entry]) -> list[Run]:
    """The trainings in their order."""
    return [Run(entry, seed) for entry in entries for seed in entry.seeds]


def _entry(stated: Any, where: str, before: Mapping[str, Entry]) -> Entry:
    """An entry as the file states it, with those before it by their names."""
    if not isinstance(stated, dict) or not isinstance(stated.get("experiment"), str):
        raise UserError(f"{where} names no experiment.")
    for key in stated:
        if key not in KEYS:
            raise UserError(f"{where} has the key {key}; the nearest is {nearest(str(key), KEYS)}.")
    seeds = stated.get("seeds", [0])
    if not isinstance(seeds, list) or not seeds or any(type(seed) is not int or seed < 0 for seed in seeds):
        raise UserError(f"{where} has the seeds {seeds}; they are a list of whole numbers from 0.")
    if len(set(seeds)) < len(seeds):
        raise UserError(f"{where} has one seed twice: {seeds}.")
    if stated.get("device") not in (None, *DEVICES):
        raise UserError(f"{where} has the device {stated['device']}; it is cpu or gpu.")
    settings = stated.get("settings", {})
    if not isinstance(settings, dict) or "seed" in settings:
        raise UserError(f"{where} has the settings {settings}; they are keys with values, and seed is none of them.")
    experiment, after = stated["experiment"], stated.get("after")
    if after not in (None, *before):
        raise UserError(f"{where} comes after {after}, and no entry before it has that name.")
    name = str(stated.get("name", experiment.rpartition("/")[2]))
    entry = Entry(experiment, tuple(seeds), name, settings, stated.get("device"), before.get(str(after)))
    try:
        entry.resolved()
    except UserError as mistake:
        raise UserError(f"{where}: {mistake}") from None
    except (KeyError, ValueError, IndexError):
        raise UserError(
            f"{where}: settings have {{checkpoints}} and {{seed}} to be filled in, and nothing else."
        ) from None
    return entry
