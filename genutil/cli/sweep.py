"""Many trainings of one experiment: a seed each (`seeds`), a grid of values (`sweep:` in its app file), or both."""

from __future__ import annotations

import itertools
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from genutil.cli import command_line
from genutil.cli.command_line import CommandLine
from genutil.cli.series import check, first, say
from genutil.compared_runs import of_result
from genutil.config import Experiment
from genutil.errors import UserError
from genutil.reports import results
from genutil.reports.comparison import mean_runs, text_table
from genutil.run import run
from genutil.saved.source import open_source
from genutil.settings import app_files
from genutil.system.files import require_place, to_json, write_text


@dataclass
class Member:
    """A training of a sweep.

    Attributes:
        name: of its folders.
        changes: its values of the keys that are swept over, the seed among them.
        experiment: what is trained; resumes what an earlier call has left.
        result: its file of results, where it is finished.
        fault: why, where it failed.
    """

    name: str
    changes: dict[str, Any]
    experiment: Experiment
    result: Path | None = None
    fault: str | None = None


def run_sweep(line: CommandLine, environment: Mapping[str, str] = os.environ) -> int:
    """Train all members that are not finished, one after the other; print means and standard deviations over seeds.

    What is finished is known by its file of results, what is not goes on from its last checkpoint. A member that fails
    is told, and the next one is trained. The summary is written beside the checkpoints, and to the `json` file.

    Args:
        line: names the experiment.
        environment: where SLURM says which part of an array this is.

    Returns:
        The exit status: 0, or 2 where a training failed.

    Raises:
        UserError: the sweep asks for something that cannot be; nothing is trained then.
        KeyboardInterrupt: an interruption ends the sweep.
    """
    base, members = _members(line)
    folder = Path(base.results_dir or Path(base.save_dir, f"{base.name}-results"))
    results.require_folder(folder)
    if base.json_file:
        require_place(Path(base.json_file))
    chosen = [members[i] for i in _chosen(len(members), base.index, environment)]
    for member in chosen:
        _look_for_earlier(member, folder)
    try:
        waiting = [member for member in chosen if member.result is None]
        say(f"{len(members)} runs; of the {len(chosen)} of this call {len(chosen) - len(waiting)} are finished.")
        if waiting and not waiting[0].experiment.skip_error_test:
            _attempt(waiting[0], "checking", check)
        for number, member in enumerate(waiting, 1):
            found = _attempt(member, f"run {number} of {len(waiting)}", run)
            member.result = Path(found["result"]) if found and found["result"] else member.result
    finally:
        _summarise(base, members, folder)
    return 2 if any(member.fault for member in chosen) else 0


def _members(line: CommandLine) -> tuple[Experiment, list[Member]]:
    """The experiment without its variations, and all of these in their order, the seed changing fastest."""
    base = command_line.resolve(line)
    if line.app is None or base.resume or not base.trains:
        raise UserError("A sweep trains an experiment, app:<name>: leave out resume, evaluate and profile.")
    if base.only_batches:
        raise UserError("A sweep keeps results, and only_batches tries a run out: leave it out.")
    grid = app_files.sweep(app_files.find(line.app))
    if base.seeds is not None:
        if "seed" in grid:
            raise UserError("seeds and sweep both say which seeds: give one of them.")
        grid = {**grid, "seed": list(base.seeds)}
    for key, values in grid.items():
        if len({repr(value) for value in values}) < len(values) or not values:
            raise UserError(f"{'seeds' if key == 'seed' else key} names a value twice, or none: {values}.")
        if key in line.settings:
            raise UserError(f"--{key} is given, and the runs of the sweep differ in it.")
    return base, [_member(line, base, changes) for changes in _cells(grid)]


def _cells(grid: Mapping[str, list[Any]]) -> Iterator[dict[str, Any]]:
    keys = [key for key in grid if key != "seed"] + ["seed"] * ("seed" in grid)
    for values in itertools.product(*(grid[key] for key in keys)):
        yield dict(zip(keys, values, strict=True))


def _member(line: CommandLine, base: Experiment, changes: dict[str, Any]) -> Member:
    cell = "".join(f"-{key}_{_in_name(value)}" for key, value in changes.items() if key != "seed")
    seed = f"-seed_{changes['seed']}" if "seed" in changes else ""
    own = {**changes, "name": f"{base.name}{cell}{seed}", "experiment": f"{base.experiment or base.name}{cell}"}
    folder = base.results_dir or str(Path(base.save_dir, f"{base.name}-results"))
    own |= {"seeds": None, "index": None, "json": None, "results_dir": folder}
    settings = {key: value for key, value in line.settings.items() if key not in (*own, "json_file")}
    return Member(own["name"], changes, command_line.resolve(replace(line, settings={**settings, **own})))


def _in_name(value: Any) -> str:
    text = "_".join(map(str, value)) if isinstance(value, list) else str(value)
    return re.sub(r"[^\w.+-]+", "_", text)


def _chosen(members: int, index: list[int] | None, environment: Mapping[str, str]) -> list[int]:
    """Which members are this call's: those of `index`, else this task's part of a SLURM array, else all.

    Task k of an array of n takes the members k, k + n, k + 2 n, ….
    """
    if index is not None:
        if not index or max(index) >= members or len(set(index)) < len(index):
            raise UserError(f"index counts the {members} runs from 0 to {members - 1}, each once, not {index}.")
        return list(index)
    task = environment.get("SLURM_ARRAY_TASK_ID")
    if task is None:
        return list(range(members))
    try:
        names = ("SLURM_ARRAY_TASK_MIN", "SLURM_ARRAY_TASK_STEP", "SLURM_ARRAY_TASK_COUNT")
        low, step, count = (int(environment.get(name, default)) for name, default in zip(names, "011", strict=True))
        place, rest = divmod(int(task) - low, step)
    except (ValueError, ZeroDivisionError) as error:
        raise UserError(f"SLURM's variables of the array are no numbers: {error}.") from None
    if rest or not 0 <= place < count:
        raise UserError(f"Task {task} of the SLURM array is none of an even range: ask for --array=0-{members - 1}.")
    return list(range(place, members, count))


def _look_for_earlier(member: Member, folder: Path) -> None:
    """Find what an earlier call has left: the result of a finished training, or a checkpoint to go on from.

    Raises UserError where the checkpoint is one of another training.
    """
    wanted = member.experiment.to_saved()
    for path in sorted(folder.rglob("*.json")) if folder.is_dir() else []:
        try:
            found = results.read(path)["settings"]
        except UserError:
            continue
        if not results.differences(wanted, found):
            member.result = path
            return
    own = Path(member.experiment.save_dir, member.name)
    checkpoint = next((own / name for name in ("last.pt", "init.pt") if (own / name).exists()), None)
    if checkpoint is None:
        return
    differing = results.differences(wanted, open_source(checkpoint).settings())
    if differing:
        key, (ours, theirs) = next(iter(differing.items()))
        raise UserError(f"{checkpoint} is of another training: {key} is {theirs} there and {ours} here. Give a --name.")
    member.experiment = member.experiment.but(resume=str(checkpoint))


def _attempt(member: Member, title: str, act: Callable[[Experiment], dict[str, Any] | None]) -> dict[str, Any] | None:
    """Train or check a member that has not failed; a failure is told and noted."""
    if member.fault:
        return None
    say(f"\n== {title}: {member.name}")
    try:
        return act(member.experiment)
    except UserError as mistake:
        member.fault = str(mistake)
    except Exception as error:  # whatever it is, the other runs are not to suffer from it
        traceback.print_exc()
        member.fault = f"{type(error).__name__}: {error}"
    if first():
        print(f"{member.name}: {member.fault}", file=sys.stderr, flush=True)
    return None


def _summarise(base: Experiment, members: list[Member], folder: Path) -> None:
    """Print and write means and deviations of all that is finished, whoever trained it."""
    if not first():
        return
    for member in members:
        if member.result is None and not member.fault:
            _look_for_result(member, folder)
    runs = {member.name: of_result(member.result) for member in members if member.result}
    means = mean_runs([replace(found, name=name) for name, found in runs.items()])
    missing = [member.name for member in members if member.result is None]
    if means:
        say("\n" + text_table(means))
    for member in members:
        if member.result is None:
            say(f"{member.name}: {member.fault or 'not finished'}")
    summary = {
        "name": base.name,
        "means": [mean.to_dict() for mean in means],
        "runs": {name: found.to_dict() for name, found in runs.items()},
        "unfinished": missing,
    }
    if runs:
        text = to_json(summary, indent=2) + "\n"
        places = [folder / f"{Path(str(base.name)).name}-summary.json"]
        places += [Path(base.json_file)] if base.json_file else []
        for place in places:
            place.parent.mkdir(parents=True, exist_ok=True)
            write_text(place, text)
        say(f"summary: {places[0]}")


def _look_for_result(member: Member, folder: Path) -> None:
    """What another machine has finished meanwhile."""
    ready = replace(member)
    try:
        _look_for_earlier(ready, folder)
    except UserError:
        return
    member.result = ready.result
