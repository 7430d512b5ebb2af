"""`runner.py predict`: the most probable classes of image files, by a checkpoint."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import torch

from data.files import WHOLE, Preparation, file_batches, named_files, normalisation_of
from data.statistics import Normalisation
from genutil.build import build
from genutil.cli import command_line
from genutil.cli.subcommands import Action, Parser, mistakes_are_sentences
from genutil.config import Experiment
from genutil.errors import UserError
from genutil.evaluation.prediction import TORCH, Prediction, Predictor, Running, choose_engine
from genutil.saved.sources import Sources
from genutil.system.files import require_place, to_json, write_whole
from genutil.system.one_process import OneProcess
from models.sparse.engines import engine_names

SKIPPED = 1
"""Exit status where a file was left out."""
WIDEST = 24
"""Characters of a class name that columns are made for; longer names push what follows to the right."""


def predict(parser: Parser) -> Action:
    """`runner.py predict`: its arguments, and what it does."""
    parser.description = (
        "Print the most probable classes of images, by a checkpoint. Images of any size and format are read; they are "
        "prepared as the evaluation of the checkpoint's experiment does it. A file that cannot be read is named and "
        f"left out, and the exit status is {SKIPPED} then."
    )
    parser.add_argument("checkpoint", help="a file, pretrained:<name> or keras:<prefix>")
    parser.add_argument("files", type=Path, nargs="+", help="image files, or folders with image files at any depth")
    parser.add_argument("--app", metavar="EXPERIMENT", help="of a checkpoint that holds no settings of its own")
    parser.add_argument("--json", type=Path, metavar="FILE", help="file for all that was found")
    parser.add_argument("--top", type=_count, default=5, help="classes of each image [5]")
    parser.add_argument(
        "--engine",
        choices=[*engine_names(), TORCH],
        help=f"{TORCH}: the network as it is [native where it works, else {TORCH}]",
    )
    parser.add_argument("--batch_size", "--batch-size", type=_count, default=64, help="images at a time [64]")
    parser.add_argument("--max_image_pixels", type=_count, help="of the largest image [as in training]")
    parser.add_argument("--threads", type=_count, help="that decode and compute [torch's number]")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu", help="[cpu]; cuda takes --engine torch")
    return predict_files


def _count(word: str) -> int:
    value = int(word)
    if value < 1:
        raise argparse.ArgumentTypeError(f"at least 1, not {word}")
    return value


@mistakes_are_sentences
def predict_files(args: argparse.Namespace) -> int:
    """Predict all files; the exit status."""
    if args.json:
        require_place(args.json)
    if args.device == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda: there is no GPU here.")
    if args.threads:
        torch.set_num_threads(args.threads)
    files = named_files(args.files)
    sources = Sources()
    settings = {"resume": args.checkpoint, "profile": True}
    if args.max_image_pixels is not None:
        settings["max_image_pixels"] = args.max_image_pixels
    line = command_line.CommandLine(args.app, settings)
    experiment = command_line.resolve(line, sources=sources)
    parts = build(experiment, OneProcess(), torch.device(args.device), _say, sources, laid_out=True)
    images = sources.open(args.checkpoint).images()
    preparation = prepare(parts.experiment, images.get("whole"))
    running = _running(args, parts.network, preparation.image_size)
    predictor = Predictor(
        running.module, images.get("class_names") or known_names(parts.experiment), device=args.device, top=args.top
    )
    batches = file_batches(files, preparation, args.batch_size, threads=torch.get_num_threads())
    table = Table(files, predictor)
    predictions = (table.shown(prediction) for prediction in predictor.predict(batches))
    if args.json:
        write_whole(args.json, lambda file: _write_json(file, predictions, predictor, args.checkpoint, running))
    else:
        for _ in predictions:
            pass
    for sentence in predictor.skipped.values():
        _say(f"left out: {sentence}")
    if predictor.skipped:
        _say(f"{len(predictor.skipped)} of {len(files)} files left out")
    return SKIPPED if predictor.skipped else 0


def prepare(experiment: Experiment, whole: bool | None) -> Preparation:
    """What evaluation of an experiment does to an image.

    Args:
        whole: as its checkpoint has it; by its data set where None.
    """
    if experiment.mean is not None and experiment.std is not None:
        normalisation = Normalisation(tuple(experiment.mean), tuple(experiment.std))
    else:
        normalisation = normalisation_of(experiment.data, experiment.in_channels)
    if whole is None:
        whole = experiment.data in WHOLE
    size, pixels = experiment.image_size, experiment.max_image_pixels
    return Preparation(size, normalisation, whole, experiment.standardise, pixels)


def known_names(experiment: Experiment) -> list[str] | None:
    """The classes of networks for ImageNet, whose order is everywhere the same; None of other data sets."""
    if experiment.data != "imagenet" or experiment.output_size != 1000:
        return None
    from torchvision.models import ResNet50_Weights  # takes a second

    return list(ResNet50_Weights.DEFAULT.meta["categories"])


class Table:
    """A line an image: its file, and its most probable classes with their probabilities in percent."""

    def __init__(self, files: list[Path], predictor: Predictor) -> None:
        self._width = max(len(str(file)) for file in files)
        self._names = min(max(map(len, predictor.class_names or ["0000"])), WIDEST)

    def shown(self, prediction: Prediction) -> Prediction:
        """The same prediction, printed."""
        cells = [f"{guess.name:{self._names}} {100 * guess.probability:6.2f} %" for guess in prediction.guesses]
        print("  ".join([f"{prediction.file!s:{self._width}}", *cells]))
        return prediction


def _running(args: argparse.Namespace, network: torch.nn.Module, image_size: int) -> Running:
    on_gpu = args.device == "cuda" and args.engine is None
    running = choose_engine(network, TORCH if on_gpu else args.engine, image_size, args.threads)
    if running.reason:
        _say(f"The network runs as it is, without an engine: {running.reason}.")
    return running


def _write_json(
    file: BinaryIO, predictions: Iterator[Prediction], predictor: Predictor, checkpoint: str, running: Running
) -> None:
    """All that was found, an image at a time, so that none of it is kept."""
    head = {"checkpoint": checkpoint, "engine": running.engine, "class_names": predictor.class_names}
    file.write(to_json(head)[:-1].encode() + b',\n"images": [')
    for number, prediction in enumerate(predictions):
        file.write((b"," if number else b"") + b"\n  " + to_json(prediction.to_dict()).encode())
    skipped = [{"file": str(path), "reason": reason} for path, reason in predictor.skipped.items()]
    file.write(b'\n],\n"skipped": ' + to_json(skipped).encode() + b"}\n")


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
