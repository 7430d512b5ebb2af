"""YAML files of settings, read so that no plain word silently becomes another value.

YAML 1.1 reads `no` as false, `010` as 8, `1:30` as 90 and `2026-01-01` as a date. Where that cannot be what was meant,
the file is refused, with the advice to quote the word.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

LARGEST_FILE = 16 << 20
"""Bytes."""
MOST_VALUES = 100_000
"""Values of a document, those that aliases stand for counted each time."""
KINDS = {"bool": "true or false", "timestamp": "a date"}


class YamlError(Exception):
    """Why a file is refused, as the end of a sentence that begins with its name."""


def documents(path: Path, texts: frozenset[str]) -> list[Any]:
    """The documents of a file that are not empty; of an empty file, one that is None. A file is parsed once.

    Args:
        path: of the file.
        texts: keys whose values are text.

    Raises:
        YamlError: it is no YAML, too large, or has a value that YAML reads as another one than it says.
        OSError: it cannot be read.
    """
    stat = path.stat()
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not path.is_file():
        raise YamlError("is no file")
    if stat.st_size > LARGEST_FILE:
        raise YamlError(f"has {stat.st_size:,} bytes, which is too much for settings")
    return _documents(path.resolve(), (stat.st_mtime_ns, stat.st_size), texts)


@lru_cache(maxsize=64)
def _documents(path: Path, _: tuple[int, int], texts: frozenset[str]) -> list[Any]:
    try:
        with path.open(encoding="utf-8-sig") as file:
            loader = yaml.SafeLoader(file)
            found = list(_values(loader, texts))
    except (yaml.YAMLError, ValueError, RecursionError, OverflowError) as error:  # ValueError: no text, no number
        raise YamlError(f"is not valid YAML: {_fault(error)}") from None
    return [stated for stated in found if stated is not None] or [None]


def _values(loader: yaml.SafeLoader, texts: frozenset[str]) -> Iterator[Any]:
    while loader.check_node():
        node = loader.get_node()
        _count(node, {}, set())
        _check(node, None, texts)
        yield loader.construct_document(node)


def _count(node: yaml.Node, known: dict[int, int], above: set[int]) -> int:
    """The values of a node, with those that its aliases stand for.

    Raises:
        YamlError: they are too many, or a value holds itself.
    """
    if id(node) in above:
        raise YamlError(f"is refused: a value holds itself (line {node.start_mark.line + 1})")
    if id(node) not in known:
        parts = [part for pair in node.value for part in pair] if isinstance(node, yaml.MappingNode) else node.value
        inner = parts if isinstance(node, yaml.CollectionNode) else []
        known[id(node)] = 1 + sum(_count(part, known, above | {id(node)}) for part in inner)
        if known[id(node)] > MOST_VALUES:
            raise YamlError(f"is refused: with its aliases it holds more than {MOST_VALUES:,} values")
    return known[id(node)]


def _check(node: yaml.Node, key: str | None, texts: frozenset[str]) -> None:
    if isinstance(node, yaml.MappingNode):
        for name, value in node.value:
            _check(value, str(name.value) if isinstance(name, yaml.ScalarNode) else None, texts)
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            _check(value, key, texts)
    elif isinstance(node, yaml.ScalarNode) and not node.style:
        read = _misread(node.tag.rpartition(":")[2], node.value, (key or "").replace("-", "_") in texts)
        if read:
            raise YamlError(
                f"states {key}: {node.value} (line {node.start_mark.line + 1}), which YAML reads as {read}: "
                f'write "{node.value}", in quotes, if text is meant'
            )


def _misread(kind: str, word: str, text: bool) -> str | None:
    """What YAML makes of a plain word that it should not be; None where it is as it looks."""
    if kind == "timestamp" or (kind == "bool" and text and word.lower() not in ("true", "false")):
        return KINDS[kind]
    if kind in ("int", "float") and ":" in word:
        return "a number to the base of 60"
    if kind == "int" and re.fullmatch(r"[-+]?0[0-7_]+", word):
        return f"the number {int(word.replace('_', ''), 8)}"
    return None


def _fault(error: Exception) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or str(error)
    return f"{problem} (line {mark.line + 1})" if mark else " ".join(problem.split())
