"""Put the last weights of finished trainings into pretrained/weights, of each kind those of the median seed.

    python benchmarks/collect_weights.py --data_dir DIR [--folder trainings] [--results results] [--only NAME ...]

Of the seeds of an entry of the queue whose results are kept, that one is taken whose last accuracy is the median (of an
even number the lower one of the two), for the best would be a choice on test images. With --every_seed the others are
put beside it, as NAME-seed_N. Of each the last.pt has to be in the queue's folder, or the weights are shipped already:
those stay, under another name where another seed has become the median. What is new is evaluated on all test images and
has to reach the accuracy of its results file. Of a network whose file would be too large, only the edges that act are
shipped.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatch
from operator import methodcaller
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from benchmarks import training_queue
from benchmarks.trained_tables import kind_of
from benchmarks.training_queue import Entry
from data.batches import Batch
from genutil import build, run
from genutil.cli import command_line
from genutil.cli.command_line import CommandLine
from genutil.cli.export import load
from genutil.config import Experiment
from genutil.errors import UserError
from genutil.reports import results as results_files
from genutil.saved import checkpoints
from genutil.saved.exports import formats
from genutil.saved.source import open_source
from genutil.saved.sources import Sources
from genutil.system.files import write_whole
from genutil.system.one_process import OneProcess
from pretrained import trained
from pretrained.trained import OF_SEED, Trained

FIRST = 1000
"""Test images that every shipped network is tried on by the tests."""
MOST_BYTES, MOST_BYTES_IN_ALL = 10_000_000, 60_000_000
SAME_TOP1 = 0.005
"""Percent by which an accuracy may differ from itself as printed."""


def median_run(results: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """The result whose last accuracy is the median; of an even number the lower one of the two in the middle."""
    ranked = sorted(results, key=lambda result: (result["last"]["top1"], result["settings"]["seed"]))
    return ranked[(len(ranked) - 1) // 2]


def results_of(entry: Entry, results: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The results of an entry's seeds."""
    found = []
    for result in results:
        wanted = entry.resolved(result["settings"]["seed"])
        if result["experiment"] == entry.experiment and not results_files.differences(wanted, result["settings"]):
            found.append(result)
    return found


def last_weights(entry: Entry, result: Mapping[str, Any], folder: Path) -> Path:
    """The last checkpoint of the training that a result is of.

    Raises:
        UserError: it is not there, or is of another training.
    """
    path = folder / "checkpoints" / f"{entry.name}-{result['settings']['seed']}" / "last.pt"
    saved = checkpoints.read(path)
    progress = saved["progress"]
    steps = progress["epoch"] * progress["steps_per_epoch"] + progress["step"]
    if results_files.differences(result["settings"], saved["settings"]) or steps != result["run"]["steps"]:
        raise UserError(f"{path} is not the end of the training that its result is of.")
    return path


def wanted(
    entry: Entry, found: Sequence[Mapping[str, Any]], kept: Mapping[str, Trained], weights: Path, every_seed: bool
) -> dict[str, Mapping[str, Any]]:
    """The results whose weights are to be shipped, by their names, the median first.

    Args:
        entry: of the queue.
        found: the results of its seeds.
        kept: what is shipped already, which stays.
        weights: its folder.
        every_seed: not the median one alone.
    """
    median = median_run(found)
    name = f"{median['settings']['data']}_{entry.name}"
    others = [r for r in found if r is not median and (every_seed or shipped(name, r, kept, weights))]
    return {name: median, **{f"{name}{OF_SEED}{result['settings']['seed']}": result for result in others}}


def shipped(name: str, result: Mapping[str, Any], kept: Mapping[str, Trained], weights: Path) -> Trained | None:
    """The entry of a catalogue that has the weights of a result, under whichever of its names; None where none has.

    Of several one whose file is whole: an interruption may have left the weights under two names.
    """
    found = []
    for own in kept.values():
        same = own.name.partition(OF_SEED)[0] == name.partition(OF_SEED)[0] and own.experiment == result["experiment"]
        of_run = own.seed == result["settings"]["seed"] and own.length == _length(result)
        as_good = abs(own.top1 - result["last"]["top1"]) < SAME_TOP1
        if same and of_run and as_good and not _has_other_settings(own, result, weights):
            found.append(own)
    return min(found, key=lambda own: content_of(own, weights) is None, default=None)


def _has_other_settings(own: Trained, result: Mapping[str, Any], weights: Path) -> bool:
    """Whether a file that can be read says so."""
    if content_of(own, weights) is None:
        return False
    return bool(results_files.differences(result["settings"], open_source(own.file(weights)).settings()))


def content_of(own: Trained, weights: Path) -> bytes | None:
    """The file of a catalogue's entry; None where it is missing or damaged."""
    try:
        return own.file(weights).read_bytes()
    except (OSError, ValueError):
        return None


def collect(
    name: str, entry: Entry, result: Mapping[str, Any], folder: Path, places: Mapping[str, Any]
) -> tuple[Trained, bytes]:
    """The weights that a result is of as the file that is shipped, tried, and what the catalogue says of them.

    Args:
        name: that they get.
        entry: of the queue.
        result: of one of its seeds.
        folder: of the queue.
        places: settings that say where the data are.

    Raises:
        UserError: the checkpoint is missing or another one, the file is too large, or does not reach its accuracy.
    """
    what = load(str(last_weights(entry, result, folder)), name, [])
    with tempfile.TemporaryDirectory() as own:
        trial = Path(own) / f"{name}.safetensors"
        plain = replace(what, experiment=_without_places(what.experiment))
        if (size := formats.export(trial, plain)) > MOST_BYTES:
            size = formats.export(trial, replace(plain, acting_only=True))
        if size > MOST_BYTES:
            raise UserError(f"{trial.name} has {size:,} bytes, more than {MOST_BYTES:,}.")
        found = run.run(command_line.resolve(CommandLine(None, {**places, "resume": str(trial), "evaluate": True})))
        if abs(found["top1"] - result["last"]["top1"]) >= SAME_TOP1:
            reached = f"{found['top1']:.2f} %, and its training {result['last']['top1']:.2f} %"
            raise UserError(f"{trial.name} reaches {reached}.")
        right = right_of_first(str(trial), FIRST, places)
        sha256, content = trained.checksum(trial), trial.read_bytes()
    seed, top1 = result["settings"]["seed"], round(found["top1"], 4)
    return Trained(name, entry.experiment, seed, _length(result), top1, right, sha256), content


def ship(found: Mapping[str, tuple[Trained, bytes]], kept: dict[str, Trained], weights: Path) -> None:
    """Write weights and their catalogue; a name that they had before and no longer have is taken away.

    The median is written last, so that weights whose name it takes have their new one by then, in the catalogue too.
    """
    if not found:
        return
    weights.mkdir(parents=True, exist_ok=True)
    sums = {own.sha256 for own, _ in found.values()}
    gone = [name for name, own in kept.items() if own.sha256 in sums and name not in found]
    median, *others = found
    for names in (others, [median]):
        for name in names:
            own, content = found[name]
            write_whole(weights / f"{name}.safetensors", methodcaller("write", content))
            kept[name] = own
        trained.write_catalogue(kept, weights)
    for name in gone:
        del kept[name]
    trained.write_catalogue(kept, weights)
    for name in gone:
        (weights / f"{name}.safetensors").unlink(missing_ok=True)


def _length(result: Mapping[str, Any]) -> str:
    return kind_of(result["experiment"], result["settings"]).length()


def right_of_first(checkpoint: str, images: int, places: Mapping[str, Any]) -> tuple[int, int]:
    """How many of the first test images a checkpoint classifies rightly, and how many there were.

    Args:
        checkpoint: as `--resume` takes it.
        images: at most.
        places: settings that say where the data are.
    """
    network, batches = network_and_images(checkpoint, places)
    right = seen = 0
    with torch.inference_mode():
        for batch in batches:
            left = images - seen
            guesses = network(batch.images[:left]).argmax(1)
            right += int((guesses == batch.labels[:left]).sum())
            seen += len(guesses)
            if seen == images:
                break
    return right, seen


def network_and_images(checkpoint: str, places: Mapping[str, Any]) -> tuple[torch.nn.Module, Iterator[Batch]]:
    """The network of a checkpoint in evaluation mode, and its test images in their order."""
    sources = Sources()
    line = CommandLine(None, {**places, "resume": checkpoint, "evaluate": True})
    experiment = command_line.resolve(line, sources=sources)
    parts = build.build(experiment, OneProcess(), torch.device("cpu"), lambda _: None, sources)
    assert parts.data is not None
    return parts.network.eval(), iter(parts.data.test.epoch(0))


def _without_places(experiment: Experiment) -> Experiment:
    """An experiment without what says where its run is kept."""
    plain = Experiment()
    return experiment.but(**{key: getattr(plain, key) for key in results_files.PLACES - {"experiment"}})


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--folder", type=Path, default=Path("trainings"), help="of the queue [trainings]")
    parser.add_argument("--results", type=Path, default=Path("results"), help="folder of results [results]")
    parser.add_argument("--queue", type=Path, default=training_queue.QUEUE, help="[benchmarks/queue.yml]")
    parser.add_argument("--only", nargs="+", default=["*"], metavar="NAME", help="entries; * stands for anything")
    parser.add_argument("--every_seed", action="store_true", help="not the median one alone")
    parser.add_argument("--weights", type=Path, default=trained.WEIGHTS, help="folder to write to [pretrained/weights]")
    parser.add_argument("--data_dir", "--data-dir", help="folder of the data sets [the environment's DATA_DIR]")
    parser.add_argument("--verify", choices=("true", "false"), default="true", help="check files of data [true]")
    args = parser.parse_args()
    places = {"verify": args.verify == "true", "gpus": [], **({"data_dir": args.data_dir} if args.data_dir else {})}
    status = 0
    try:
        results = [results_files.read(path) for path in sorted(args.results.rglob("*.json"))]
        entries = [e for e in training_queue.read(args.queue) if any(fnmatch(e.name, one) for one in args.only)]
        kept = trained.catalogue(args.weights)
        for entry in entries:
            if not (results_found := results_of(entry, results)):
                continue
            found, names = {}, wanted(entry, results_found, kept, args.weights, args.every_seed)
            for name, result in names.items():
                try:
                    own = shipped(name, result, kept, args.weights)
                    content = own and content_of(own, args.weights)
                    if own and content:
                        found[name] = replace(own, name=name), content
                    else:
                        found[name] = collect(name, entry, result, args.folder, places)
                except UserError as error:
                    print(f"{name}: {error}", file=sys.stderr)
                    status = 2
            plain = next(iter(names))
            if plain not in found and plain in kept:  # it stays with its seed until there is another
                found = {name: new for name, new in found.items() if new[0].sha256 != kept[plain].sha256}
            ship(found, kept, args.weights)
            for own, _ in found.values():
                print(f"{own.name}: seed {own.seed} of {len(results_found)}, top-1 {own.top1:.2f} %")
        total = sum(path.stat().st_size for path in args.weights.glob("*.safetensors"))
        if total > MOST_BYTES_IN_ALL:
            raise UserError(f"The weights are {total:,} bytes in all, more than {MOST_BYTES_IN_ALL:,}.")
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    return status


if __name__ == "__main__":
    sys.exit(main())
