"""The results file of a finished training: one JSON file with all that it was and all that it reached."""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any

from genutil.errors import UserError
from genutil.system.files import to_json, write_texts

VERSION = 1

PLACES = frozenset(("name", "experiment", "save_dir", "log_dir"))
"""Settings that say where a run is kept; results files do without them."""

FILES = ("use_graph", "use_init", "graph_files", "train_records", "test_records")
"""Settings that name files; of a path, results files keep the last two parts."""

WITHOUT_EFFECT = PLACES | {
    *("workers", "verify", "test_batch_size", "activation_checkpointing", "keep_memory"),
    *("checkpoint_interval", "checkpoint_minutes", "log_interval", "snapshots", "report", "tracker"),
}
"""Settings that change nothing that a training reaches."""

FROM_DATA = ("mean", "std", "stage_graphs", "graph_seed")
"""Settings that a run fills in where they are not given."""

CURVE = {
    "epoch": "epoch",
    "step": "step",
    "lr": "lr",
    "train_loss": "train_loss",
    "train_top1": "train_top1",
    "top1": "validation_top1",
    "loss": "validation_loss",
    "edges_swapped": "edges_swapped",
    "live_nodes": "live_nodes",
    "seconds": "seconds",
}
"""The columns of a curve, with their names in the records of a training's history."""


def differences(wanted: Mapping[str, Any], found: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """The settings in which a run is another one than was wanted, with both values.

    Args:
        wanted: settings of a run, perhaps before it filled in what comes from its data.
        found: settings of a run, under the same keys; those that either lacks are not compared, nor are paths.
    """
    keys = [key for key in wanted if key in found and key not in WITHOUT_EFFECT and key not in FILES]
    filled_in = {key for key in FROM_DATA if wanted.get(key) in (None, [])}
    return {key: (wanted[key], found[key]) for key in keys if key not in filled_in and wanted[key] != found[key]}


def portable(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of a run without what says where its files lie."""
    kept = {key: value for key, value in settings.items() if key not in PLACES}
    return kept | {key: _short_paths(kept[key]) for key in FILES if key in kept}


def curve(history: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """The validations of a training as columns (`CURVE`), None where a record lacks a value.

    `epoch` counts from 1 and `step` updates; accuracies are in percent, losses in nats, `lr` is that of the last step,
    `edges_swapped` counts those that act and did not at the validation before. A column that no record has is left out.
    """
    records = [record for record in history if "validated_on" in record]
    columns = {name: [record.get(key) for record in records] for name, key in CURVE.items()}
    return {name: [_short(value) for value in values] for name, values in columns.items() if set(values) - {None}}


def seconds(progress: Mapping[str, Any]) -> float:
    """Seconds of training and validation, over all its pieces, as far as its history goes back."""
    noted = sum(record.get("seconds", 0.0) for record in progress.get("history", []))
    return noted + progress["totals"]["seconds"]


def best(progress: Mapping[str, Any], whole_test: bool, chosen_on: str) -> dict[str, Any] | None:
    """The best validation, on which images it was chosen, and its top-1 on all test images where that is the same."""
    found = progress["best"]
    return found and {**found, "chosen_on": chosen_on, "test_top1": found["top1"] if whole_test else None}


def require_folder(folder: Path) -> None:
    """See to it that results can be written into a folder, which need not exist.

    Raises:
        UserError: a part of its path is a file.
    """
    for place in (folder, *folder.parents):
        if place.exists() and not place.is_dir():
            raise UserError(f"Results cannot be written to {folder}: {place} is no folder.")


def write(folder: Path, result: Mapping[str, Any]) -> Path:
    """Write a result to <folder>/<experiment>/<length>-seed_<seed>.json, over an older one of the same run.

    That of a run with other settings stays, and -2, -3 … is put behind the name. Returns the file's path.

    Raises:
        UserError: the file system refuses, or a file there is no result.
    """
    for number in count(1):
        path = folder / _name(result, "" if number == 1 else f"-{number}")
        if not path.exists() or not differences(result["settings"], read(path)["settings"]):
            break
    content = {**result, "curve": None}
    lines = [f'  "{key}": {to_json(value)}' for key, value in content.items() if key != "curve"]
    columns = [f'    "{name}": {to_json(values)}' for name, values in result["curve"].items()]
    lines.append('  "curve": {\n' + ",\n".join(columns) + "\n  }")
    write_texts(folder, {str(path.relative_to(folder)): "{\n" + ",\n".join(lines) + "\n}\n"})
    return path


def read(path: Path) -> dict[str, Any]:
    """A result as it was written.

    Raises:
        UserError: the file cannot be read, or is no result.
    """
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read as a result: {error}.") from None
    if not isinstance(found, dict) or not isinstance(found.get("version"), int) or "settings" not in found:
        raise UserError(f"{path} is no result of a training.")
    if found["version"] > VERSION:
        raise UserError(f"{path} was written by a later version of this program (results of version {VERSION} here).")
    return found


def today() -> str:
    """The date, as results have it."""
    return datetime.date.today().isoformat()


def _name(result: Mapping[str, Any], end: str) -> str:
    settings = result["settings"]
    steps = settings.get("num_steps")
    length = f"{steps}_steps" if steps else f"{settings['num_epochs']}_epochs"
    return f"{result['experiment']}/{length}-seed_{settings['seed']}{end}.json"


def _short_paths(paths: str | list[str] | None) -> str | list[str] | None:
    if isinstance(paths, list):
        return [str(_short_paths(path)) for path in paths]
    return paths and str(Path(*Path(paths).parts[-2:]))


def _short(value: Any) -> Any:
    """A figure with as many digits as a curve needs."""
    return float(f"{value:.6g}") if isinstance(value, float) else value
