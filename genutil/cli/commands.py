"""What the runner does beside running experiments: graphs of random stages, and record files."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import data
from data import imagenet_archives, record_writers
from data.image_files import MAX_IMAGE_PIXELS
from data.sources import Request
from genutil.cli import command_line
from genutil.cli.subcommands import Action, Parser, mistakes_are_sentences
from genutil.errors import UserError
from genutil.saved import graph_files
from genutil.saved.sources import Sources
from models.networks.random_graphs import StageGraph, notice, statistics

STATISTICS = {
    "nodes": "d",
    "edges": "d",
    "inputs": "d",
    "outputs": "d",
    "degree_mean": ".2f",
    "degree_min": "d",
    "degree_max": "d",
    "path_length": ".3f",
    "diameter": "d",
    "clustering": ".3f",
    "depth": "d",
}


def graphs(parser: Parser) -> Action:
    """`runner.py graphs`: its arguments, and what it does."""
    parser.description = (
        "Draw the graphs of an experiment's random stages, before any training, or read graphs from "
        "files; print their statistics, write them (dag_0.txt, …) and draw pictures of them."
    )
    parser.epilog = "Other words are those of a run: app:<experiment> and settings such as --graph_model er."
    parser.add_argument("--files", type=Path, nargs="+", help="graph files, instead of an experiment")
    parser.add_argument("--save_path", "--save-path", type=Path, help="folder for the adjacency lists")
    parser.add_argument("--picture", type=Path, help="PNG or SVG file to draw them in")
    return show_graphs


@mistakes_are_sentences
def show_graphs(args: argparse.Namespace) -> None:
    """Draw or read the graphs of random stages; print their statistics, write them, picture them."""
    if args.files and args.settings:
        raise UserError(f"--files gives the graphs, so that {' '.join(args.settings)} has no use.")
    found = tuple(map(graph_files.read, args.files)) if args.files else _graphs_of_experiment(args.settings)
    print_statistics(found, [path.name for path in args.files] if args.files else None)
    if args.save_path:
        print("written:", *graph_files.write(found, args.save_path))
    if args.picture:
        graph_files.write_picture(found, args.picture)
        print("drawn:", args.picture)


def _graphs_of_experiment(words: Sequence[str]) -> tuple[StageGraph, ...]:
    sources = Sources()
    experiment = command_line.resolve(command_line.parse(words), sources=sources)
    if experiment.model != "randwire":
        raise UserError(f"{experiment.model} has no random stages; model: randwire has.")
    return graph_files.graphs(graph_files.resolve(experiment, sources))


def print_statistics(found: Sequence[StageGraph], names: Sequence[str] | None = None) -> None:
    """A line a graph, and a notice where one is a ring lattice that was never rewired."""
    titles = [graph.name or "graph" for graph in found]
    seeds = ["" if graph.seed is None else f"seed {graph.seed}" for graph in found]
    first = [" ".join(filter(None, parts)) for parts in zip(names or [""] * len(found), titles, seeds, strict=True)]
    rows = [[format(statistics(graph)[key], form) for key, form in STATISTICS.items()] for graph in found]
    width = max(map(len, first))
    print(" ".join([" " * width, *STATISTICS]))
    for title, row in zip(first, rows, strict=True):
        cells = (f"{cell:>{len(key)}}" for key, cell in zip(STATISTICS, row, strict=True))
        print(" ".join([f"{title:{width}}", *cells]))
    for graph in found:
        if told := notice(graph):
            print(told)


def records(parser: Parser) -> Action:
    """`runner.py records`: its arguments, and what it does."""
    parser.description = "Write TFRecord files."
    source = parser.add_argument_group("what from: one of these")
    source.add_argument("--image_dir", type=Path, help="folder of images, with --label_dir")
    source.add_argument("--label_dir", type=Path, help="folder of texts with an integer each: 0.txt for 0.png")
    source.add_argument("--image_folder", type=Path, help="folder with {train,val}/<class>/<image>, or <class>/<image>")
    source.add_argument(
        "--raw_data_dir",
        type=Path,
        help=f"folder with {imagenet_archives.TRAIN_ARCHIVE}, {imagenet_archives.VALIDATION_ARCHIVE} and "
        f"{imagenet_archives.VALIDATION_LABELS}",
    )
    source.add_argument("--data", help="a data set of the project, in --data_dir")
    source.add_argument("--data_dir", type=Path)
    parser.add_argument("--verify", choices=["true", "false"], default="true", help="md5 sums of --data's files")
    where = parser.add_argument_group("where to, and how")
    where.add_argument("--output_dir", "--local_scratch_dir", type=Path, required=True)
    where.add_argument("--output_filename", default="train.tfrecord", help="of --image_dir [train.tfrecord]")
    where.add_argument("--shards", type=int, help="files of the training images [1; ImageNet's archives 1024]")
    where.add_argument("--validation_shards", type=int, default=128, help="of ImageNet's validation images [128]")
    where.add_argument("--processes", type=int, default=1, help="that write at the same time [1]")
    where.add_argument(
        "--max_image_pixels", type=int, default=MAX_IMAGE_PIXELS, help=f"of the largest image [{MAX_IMAGE_PIXELS}]"
    )
    return write_records


@mistakes_are_sentences
def write_records(args: argparse.Namespace) -> None:
    """Write TFRecord files from one of four kinds of source."""
    sources = [args.image_dir or args.label_dir, args.image_folder, args.raw_data_dir, args.data]
    if sum(source is not None for source in sources) != 1:
        raise UserError(
            "runner.py records: give one of --image_dir with --label_dir, --image_folder, --raw_data_dir and --data."
        )
    if (args.image_dir is None) != (args.label_dir is None):
        raise UserError("runner.py records: --image_dir and --label_dir belong together.")
    for part, count in _write(args).items():
        print(f"{part}: {count} records written")


def _write(args: argparse.Namespace) -> dict[str, int]:
    out, pixels = args.output_dir, args.max_image_pixels
    shards = 1 if args.shards is None else args.shards
    if args.image_dir:
        path = out / args.output_filename
        return {str(path): record_writers.write_labelled(args.image_dir, args.label_dir, path, max_pixels=pixels)}
    if args.image_folder:
        return record_writers.write_image_folders(
            args.image_folder, out, shards, processes=args.processes, max_pixels=pixels
        )
    if args.raw_data_dir:
        return record_writers.write_imagenet(
            args.raw_data_dir,
            out,
            train_shards=1024 if args.shards is None else shards,
            validation_shards=args.validation_shards,
            processes=args.processes,
            max_pixels=pixels,
        )
    request = Request(args.data, args.data_dir, verify=args.verify == "true", max_image_pixels=pixels)
    image_set = data.find(request)
    return record_writers.write_image_set(image_set, out, shards, processes=args.processes)
