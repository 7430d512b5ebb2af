"""The graphs of a randomly wired network in an experiment and in files."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from data.image_files import open_regular
from genutil.config import Experiment
from genutil.errors import UserError
from genutil.saved.sources import Sources
from genutil.system.files import write_texts, write_whole
from models.networks.random_graphs import StageGraph, from_text, notice, picture, to_files, to_text
from models.networks.randwire import drawn_graphs
from models.networks.randwire_regimes import make_regime

FORMS = {".txt": "adjlist", ".adjlist": "adjlist", ".edgelist": "edgelist", ".edges": "edgelist", ".graphml": "graphml"}
_UNREAD = "which is not read, as it can run code: load it with the networkx that wrote it, and write it anew with"
ADVICE = dict.fromkeys((".gpickle", ".pickle", ".pkl"), f"pickle, {_UNREAD} networkx.write_adjlist.")
ADVICE |= dict.fromkeys((".yaml", ".yml"), f"old YAML, {_UNREAD} networkx.write_adjlist.")
"""By the endings of graphs that are not read, what is to be done with them."""
GZIP = b"\x1f\x8b"
LARGEST = 64 << 20
"""Bytes of a graph's text."""
PICTURES = (".png", ".svg")


def read(path: str | Path) -> StageGraph:
    """The graph of a file, in the form that its ending says; it may be compressed by gzip.

    Raises:
        UserError: no such file, another ending, or no connected acyclic graph with nodes 0, 1, 2, ….
    """
    path = Path(path)
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes[-1:] == [".gz"]:
        suffixes.pop()
    ending = suffixes[-1] if suffixes else ""
    if ending in ADVICE:
        raise UserError(f"{_told(path)} is networkx's {ADVICE[ending]}")
    if ending not in FORMS:
        raise UserError(f"{_told(path)} is no graph file: its name must end in {', '.join(FORMS)}, or that and .gz.")
    try:
        return from_text(_content(path).decode("utf-8-sig"), FORMS[ending], _told(path))
    except OSError as error:
        raise UserError(f"{_told(path)} cannot be read: {error.strerror or error}.") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{_told(path)} is no text: its byte {error.start} is not UTF-8.") from error
    except (EOFError, zlib.error) as error:
        raise UserError(f"{_told(path)} is damaged: its compressed contents cannot be read.") from error
    except ValueError as error:
        raise UserError(f"{str(error).removesuffix('.')}.") from error


def _content(path: Path) -> bytes:
    """The bytes of a file; what gzip compressed is told by its beginning, whatever the name."""
    with open_regular(path) as file:
        begin = file.read(2)
        file.seek(0)
        content = (gzip.GzipFile(fileobj=file) if begin == GZIP else file).read(LARGEST + 1)
    if begin[:1] == b"\x80" and content.endswith(b"."):
        raise ValueError(f"{_told(path)} is {ADVICE['.gpickle']}")
    if len(content) > LARGEST:
        raise ValueError(f"{_told(path)} holds more than {LARGEST >> 20} MiB, which is more than a graph needs")
    return content


def _told(path: Path) -> str:
    """A path as messages name it: of a very long one its end."""
    text = str(path)
    return text if len(text) <= 120 else f"...{text[-117:]}"


def resolve(experiment: Experiment, sources: Sources) -> Experiment:
    """The same experiment with its graphs in `stage_graphs`, so that nothing else is needed for them.

    They are those of its files, or of the checkpoint that it goes on or starts from, or drawn.

    Args:
        experiment: what is run.
        sources: the checkpoints of the run.

    Raises:
        UserError: they cannot be drawn or read, or there is no such checkpoint.
    """
    if experiment.model != "randwire" or experiment.stage_graphs:
        return experiment
    checkpoint = None if experiment.graph_files else experiment.resume or experiment.init_from
    texts = sources.open(checkpoint).stage_graphs() if checkpoint else []
    texts = texts or [to_text(graph) for graph in graphs(experiment)]
    return experiment.but(stage_graphs=texts, graph_files=[])


def graphs(experiment: Experiment) -> tuple[StageGraph, ...]:
    """The graphs of a randomly wired network's stages: those that it keeps, or of its files, or drawn.

    Raises:
        UserError: they cannot be drawn or read.
    """
    if experiment.stage_graphs:
        return tuple(_kept(experiment))
    if experiment.graph_files:
        return tuple(map(read, experiment.graph_files))
    seed = experiment.seed if experiment.graph_seed is None else experiment.graph_seed
    try:
        regime = make_regime(experiment.regime, stages=experiment.stages)
        return drawn_graphs(regime, experiment.graph_model, experiment.graph_param, seed)
    except ValueError as error:
        raise UserError(str(error)) from error


def notices(experiment: Experiment) -> Iterator[str]:
    """What is remarkable about the graphs that an experiment keeps: a set that was never rewired, say."""
    for stage, graph in enumerate(_kept(experiment)):
        if told := notice(graph):
            yield f"Random stage {stage}: {told}"


def _kept(experiment: Experiment) -> Iterator[StageGraph]:
    for stage, text in enumerate(experiment.stage_graphs):
        try:
            yield from_text(text)
        except ValueError as error:
            raise UserError(f"stage_graphs, number {stage}: {error}.") from error


def write(found: Sequence[StageGraph], folder: Path) -> list[Path]:
    """Write dag_0.txt, dag_1.txt, … (networkx's adjacency lists) into a folder, which is made; the files' paths.

    Raises:
        UserError: the file system refuses.
    """
    return write_texts(folder, to_files(found))


def write_picture(found: Sequence[StageGraph], path: Path) -> None:
    """Draw the graphs side by side into a PNG or SVG file.

    Raises:
        UserError: another ending, or the file system refuses.
    """
    if path.suffix not in PICTURES:
        raise UserError(f"{path} is no picture: its name must end in {' or '.join(PICTURES)}.")
    write_whole(path, lambda file: picture(found).savefig(file, format=path.suffix[1:]))
