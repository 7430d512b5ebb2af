"""C++ kernels compiled for the user's processor at first use, and kept."""

from __future__ import annotations

import ctypes
import hashlib
import logging
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path

FOLDER = Path(__file__).parent
"""Of the C++ sources."""
FLAGS = ("-O3", "-std=c++17", "-march=native", "-pthread")
_lock = threading.Lock()
_loaded: dict[tuple[str, ...], ctypes.CDLL] = {}


class NoCompilerError(RuntimeError):
    """There is no C++ compiler that can build the kernels here."""


def load_library(source: Path, flags: Sequence[str] = FLAGS) -> ctypes.CDLL:
    """The shared library of one C++ source file, built where it is not built yet.

    Calls into it release the interpreter's lock. It is kept in torch's folder of extensions (TORCH_EXTENSIONS_DIR, else
    ~/.cache/torch_extensions) under a name made of sources, flags, compiler and processor. Raises NoCompilerError.
    """
    key = (str(source), *flags)
    with _lock:
        if key not in _loaded:
            _loaded[key] = ctypes.CDLL(str(_build(source, flags)))
        return _loaded[key]


def _build(source: Path, flags: Sequence[str]) -> Path:
    compiler = find_compiler()
    headers = [header.read_text() for header in sorted(source.parent.glob("*.h"))]
    content = "\0".join([source.read_text(), *headers, *flags, compiler, _compiler_version(compiler), _processor()])
    name = f"wirings_{source.stem}_{hashlib.sha256(content.encode()).hexdigest()[:16]}"
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)  # it misses a CUDA that is not needed
    from torch.utils import cpp_extension

    root = Path(os.environ.get("TORCH_EXTENSIONS_DIR") or cpp_extension.get_default_build_root())
    library = root / f"{name}{cpp_extension.LIB_EXT}"
    if library.exists():
        return library
    print(f"Compiling {source.name} for this processor (once) ...", file=sys.stderr, flush=True)
    try:
        root.mkdir(parents=True, exist_ok=True)
        # a folder of its own: no other process, alive or killed, holds a lock in it
        with tempfile.TemporaryDirectory(prefix=f"{name}_", dir=root) as folder, _ninja_on_path():
            cpp_extension.load(
                name,
                [str(source)],
                extra_cflags=list(flags),
                extra_ldflags=[
                    flag for flag in flags if flag in ("-pthread", "-fopenmp") or flag.startswith("-fsanitize")
                ],
                build_directory=folder,
                is_python_module=False,
            )
            (Path(folder) / library.name).replace(library)
    except (RuntimeError, OSError, subprocess.CalledProcessError) as error:
        raise NoCompilerError(f"{source.name} could not be compiled with {compiler}: {error}") from error
    return library


@contextmanager
def _ninja_on_path() -> Iterator[None]:
    """Finds the ninja of a virtual environment that is not activated."""
    path = os.environ.get("PATH", "")
    os.environ["PATH"] = os.pathsep.join([path, str(Path(sys.executable).parent)])
    try:
        yield
    finally:
        os.environ["PATH"] = path


def find_compiler() -> str:
    """The C++ compiler that torch builds extensions with. Raises NoCompilerError where it is missing."""
    compiler = os.environ.get("CXX", "c++")
    if shutil.which(compiler) is None:
        raise NoCompilerError(f"There is no C++ compiler ({compiler}) here.")
    if shutil.which("ninja") is None and not (Path(sys.executable).parent / "ninja").exists():
        raise NoCompilerError("There is no ninja here, which torch builds extensions with: pip install ninja.")
    return compiler


@cache
def _compiler_version(compiler: str) -> str:
    return subprocess.run([compiler, "--version"], capture_output=True, text=True, check=False).stdout


def _processor() -> str:
    """What -march=native depends on, so that a home folder shared by several machines is no trap."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() + platform.machine()
    return "\n".join(sorted({line for line in lines if line.startswith(("flags", "Features", "model name"))}))
