"""The table of forms that a trained network can be exported to: the ending of a file's name chooses one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from genutil.errors import UserError
from genutil.system.files import require_place, write_whole
from models.registry import resolve

if TYPE_CHECKING:
    from genutil.saved.exports.content import Exported

Writer = Callable[["Exported"], bytes]
"""Gives the contents of the file. Raises UserError where the network cannot be exported to that form."""


@dataclass(frozen=True)
class Format:
    """A row of the table: the place "module:function" of its writer, and what it is, for help texts."""

    place: str
    description: str


FORMATS = {
    ".safetensors": Format("genutil.saved.exports.weights:write", "weights and settings, which --resume reads"),
    ".npz": Format("genutil.saved.exports.arrays:write", "the channel graph as NumPy arrays"),
    ".graphml": Format("genutil.saved.exports.node_graphs:graphml", "the wiring for networkx and Gephi"),
    ".edgelist": Format("genutil.saved.exports.node_graphs:edgelist", "the same as lines: source target weight"),
    ".onnx": Format("genutil.saved.exports.onnx_file:write", "ONNX, without the dead nodes"),
    ".pt2": Format("genutil.saved.exports.torch_export:write", "torch.export, without the dead nodes"),
    ".c": Format("genutil.saved.exports.c_source:write", "a self-contained C99 program"),
}


def find(path: Path) -> Format:
    """The form of a file of that name, once it is known that the file can be written.

    Raises:
        UserError: another ending, or the file cannot be.
    """
    if path.suffix not in FORMATS:
        raise UserError(f"{path} cannot be exported to: its name must end in {', '.join(FORMATS)}.")
    require_place(path)
    return FORMATS[path.suffix]


def export(path: Path, what: Exported) -> int:
    """Write a network to a file, whole or not at all; its bytes.

    Raises:
        UserError: as `find`; the network cannot be exported to that form, or the file system refuses.
    """
    contents = resolve(find(path).place)(what)
    write_whole(path, lambda file: file.write(contents))
    return len(contents)
