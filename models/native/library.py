"""C++ libraries compiled for the user's processor at first use, and kept.

A library is kept as `wirings_<source>_<key>.so` in torch's folder of extensions (TORCH_EXTENSIONS_DIR, else
~/.cache/torch_extensions); the key is a hash of the source with all that it includes, the flags, the compiler and the
processor. Beside it lies its SHA-256, as the tool sha256sum writes it. What does not have this sum, or does not load,
is compiled again.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from functools import cache
from pathlib import Path

FOLDER = Path(__file__).parent
"""Of the C++ sources."""
FLAGS = ("-O3", "-std=c++17", "-march=native", "-pthread")
_INCLUDE = re.compile(r'^\s*#\s*include\s*"([^"]+)"', re.MULTILINE)
_lock = threading.Lock()
_loaded: dict[tuple[str, ...], ctypes.CDLL] = {}


class NoCompilerError(RuntimeError):
    """There is no C++ compiler that can build the kernels here."""


def load_library(source: Path, flags: Sequence[str] = FLAGS) -> ctypes.CDLL:
    """The shared library of one C++ source file, compiled where it is not kept yet.

    Calls into it release the interpreter's lock. Several processes may ask for the same library at once. Where the
    folder of kept libraries cannot be written, or nothing may be loaded from it, the library is compiled for this
    process alone. Raises NoCompilerError.
    """
    key = (str(source), *flags)
    with _lock:
        if key not in _loaded:
            _loaded[key] = _load(source, flags)
        return _loaded[key]


def find_compiler() -> list[str]:
    """The command of the C++ compiler: $CXX, else c++. Raises NoCompilerError where it is missing."""
    try:
        command = shlex.split(os.environ.get("CXX", "")) or ["c++"]
    except ValueError as error:
        raise NoCompilerError(f"The environment's CXX is no command: {error}.") from error
    if shutil.which(command[0]) is None:
        raise NoCompilerError(f"There is no C++ compiler ({command[0]}) here.")
    return command


def included(source: Path) -> list[Path]:
    """The source and every file that it includes in quotes, directly or not, in the order of their first mention."""
    found = [source.resolve()]
    for path in found:  # grows on the way
        for name in _INCLUDE.findall(path.read_text()):
            other = (path.parent / name).resolve()
            if other not in found and other.is_file():
                found.append(other)
    return found


def _load(source: Path, flags: Sequence[str]) -> ctypes.CDLL:
    compiler = find_compiler()
    try:
        name = f"wirings_{source.stem}_{_key(source, flags, compiler)}.so"
    except (OSError, UnicodeDecodeError) as error:
        raise NoCompilerError(f"{source.name} cannot be compiled with {shlex.join(compiler)}: {error}.") from error
    folder = _folder_of_kept()
    kept = folder and folder / name
    if kept and _is_whole(kept):
        try:
            return ctypes.CDLL(str(kept))
        except OSError:
            pass  # its folder may forbid loading, or the system has changed: compiled again
    print(f"Compiling {source.name} for this processor (once) ...", file=sys.stderr, flush=True)
    try:
        with tempfile.TemporaryDirectory(prefix=f"{name}_") as own:
            built = Path(own) / name
            _compile(source, flags, compiler, built)
            if kept:
                try:
                    _keep(built, kept)
                    return ctypes.CDLL(str(kept))
                except OSError as error:
                    print(f"It cannot be kept, only used this time: {error}.", file=sys.stderr, flush=True)
            return ctypes.CDLL(str(built))
    except OSError as error:
        raise NoCompilerError(f"{source.name} could not be built with {shlex.join(compiler)}: {error}.") from error


def _key(source: Path, flags: Sequence[str], compiler: Sequence[str]) -> str:
    texts = [path.read_text() for path in included(source)]
    content = "\0".join([*texts, *flags, *compiler, _compiler_version(tuple(compiler)), _processor()])
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def _folder_of_kept() -> Path | None:
    """None for a user without a home."""
    if chosen := os.environ.get("TORCH_EXTENSIONS_DIR"):
        return Path(chosen)
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "torch_extensions"
    except RuntimeError:
        return None


def _compile(source: Path, flags: Sequence[str], compiler: Sequence[str], library: Path) -> None:
    """Raises OSError where the compiler does not run, NoCompilerError where it fails."""
    command = [*compiler, *flags, "-fPIC", "-shared", str(source), "-o", str(library)]
    environment = os.environ | {"LC_ALL": "C"}  # for "error" to be in English
    done = subprocess.run(command, env=environment, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode:
        lines = [line.strip() for line in done.stderr.splitlines() if "error" in line]
        reason = lines[0] if lines else f"it ended with exit status {done.returncode}"
        raise NoCompilerError(f"{source.name} could not be compiled with {shlex.join(compiler)}: {reason}.")


def _sum_file(library: Path) -> Path:
    return library.with_name(f"{library.name}.sha256")


def _sum_line(content: bytes, name: str) -> bytes:
    return f"{hashlib.sha256(content).hexdigest()}  {name}\n".encode()


def _is_whole(library: Path) -> bool:
    """A library of this name was written to its end and has not changed since."""
    beside = _sum_file(library)
    try:
        if not (library.is_file() and beside.is_file()):
            return False
        return beside.read_bytes() == _sum_line(library.read_bytes(), library.name)
    except OSError:
        return False


def _keep(built: Path, kept: Path) -> None:
    """Copies a library to where it is kept, and its sum beside it, each whole or not at all. Raises OSError."""
    kept.parent.mkdir(parents=True, exist_ok=True)
    content = built.read_bytes()
    _write_whole(kept, content)
    _write_whole(_sum_file(kept), _sum_line(content, kept.name))


def _write_whole(path: Path, content: bytes) -> None:
    """Other processes see the old file or the new one, and so does whoever comes after a crash."""
    descriptor, name = tempfile.mkstemp(prefix=f"{path.name}_", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
            os.fchmod(file.fileno(), 0o644)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


@cache
def _compiler_version(compiler: tuple[str, ...]) -> str:
    return subprocess.run([*compiler, "--version"], capture_output=True, text=True, check=False).stdout


@cache
def _processor() -> str:
    """What -march=native depends on, so that a home folder shared by several machines is no trap."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() + platform.machine()
    return "\n".join(sorted({line for line in lines if line.startswith(("flags", "Features", "model name"))}))
