"""Large blocks of torch's CPU memory are kept from step to step, for the system clears fresh pages at each use."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import torch

from models.native import library

SOURCE = library.FOLDER / "allocator.cpp"


@contextmanager
def memory_kept(wanted: bool = True) -> Iterator[bool]:
    """Within it, memory of large tensors that are freed is given to those made next, instead of to the system.

    The blocks that are kept and those that are used are together at most an eighth more than those that were used at
    once; a tensor may be in a block that is up to an eighth larger. Values are not changed. It holds for all threads of
    the process. Within another such block it changes nothing.

    Args:
        wanted: False for a block that does nothing.

    Yields:
        Whether it is so: on Linux, where there is a compiler of C++20 and torch has no allocator of precedence. A
        compiler that fails is told of.
    """
    kernel = _load() if wanted else None
    if kernel is None or kernel.wirings_keeps_memory():
        yield kernel is not None
        return
    is_so = bool(kernel.wirings_keep_memory(1))
    try:
        yield is_so
    finally:
        kernel.wirings_keep_memory(0)


def kept_bytes() -> int:
    """Bytes that are kept and that no tensor uses."""
    kernel = _load()
    return kernel.wirings_kept_bytes() if kernel else 0


def used_bytes() -> int:
    """Bytes of the blocks that tensors use, of those that are kept afterwards."""
    kernel = _load()
    return kernel.wirings_used_bytes() if kernel else 0


@cache
def _load() -> ctypes.CDLL | None:
    if not sys.platform.startswith("linux"):
        return None
    place = Path(torch.__file__).parent
    try:
        kernel = library.load_library(
            SOURCE,
            (
                *library.FLAGS,
                "-std=c++20",
                f"-D_GLIBCXX_USE_CXX11_ABI={int(torch.compiled_with_cxx11_abi())}",
                f"-DTORCH={torch.__version__}",  # another one is compiled for anew
                *("-isystem", str(place / "include")),
                *("-Wl,--no-as-needed", f"-L{place / 'lib'}", "-lc10"),
            ),
        )
    except library.NoCompilerError as error:
        if _has_compiler():  # that there is none, a wired network tells
            print(f"Memory is not kept from step to step: {error}", file=sys.stderr, flush=True)
        return None
    kernel.wirings_kept_bytes.restype = kernel.wirings_used_bytes.restype = ctypes.c_int64
    return kernel


def _has_compiler() -> bool:
    try:
        return bool(library.find_compiler())
    except library.NoCompilerError:
        return False
