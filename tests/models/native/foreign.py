"""Kernels built for a processor of another kind, or with fewer instructions, in a process of their own.

A `ForeignKernel` stands for the loaded library: what calls the kernels here calls it instead, and the memory that a
call reaches is sent to driver.cpp and back.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import struct
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from models.native import library, training
from models.sparse import native

DRIVER = Path(__file__).with_name("driver.cpp")
LINE = 64
NUMBER, PLACE, DOUBLE = range(3)


@dataclass(frozen=True)
class Machine:
    """How a kernel is compiled and run.

    Attributes:
        name: for messages.
        compiler, flags: of the driver.
        emulator: command that runs what was compiled; empty where this processor does.
        features: of the processor (as in /proc/cpuinfo) that running it needs.
    """

    name: str
    compiler: str
    flags: tuple[str, ...]
    emulator: tuple[str, ...] = ()
    features: tuple[str, ...] = ()

    @property
    def missing(self) -> str | None:
        """What it lacks here."""
        for program in (self.compiler, *self.emulator[:1]):
            if shutil.which(program) is None:
                return f"there is no {program} here"
        for feature in self.features:
            if feature not in library._processor().split():
                return f"this processor has no {feature}"
        return None

    def build(self, source: Path, folder: Path) -> Path:
        """The driver around a kernel."""
        built = folder / f"{self.name}_{source.stem}"
        kernel = (f'-DKERNEL="{source}"', f"-D{source.stem.upper()}")
        command = [self.compiler, *self.flags, *kernel, str(DRIVER), "-o", str(built)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return built


_PORTABLE = ("-O3", "-std=c++17", "-pthread", "-fopenmp", "-static")
ARM = Machine("aarch64", "aarch64-linux-gnu-g++", _PORTABLE, ("qemu-aarch64",))
AVX2 = Machine("avx2", os.environ.get("CXX", "c++"), (*_PORTABLE, "-mavx2", "-mfma"), features=("avx2", "fma"))
BASELINE = Machine("baseline", os.environ.get("CXX", "c++"), _PORTABLE)
MACHINES = (ARM, AVX2, BASELINE)
_HALVES = native.HALF_FLAG
ARM_HALVES = replace(ARM, name="aarch64_halves", flags=(*_PORTABLE, _HALVES))
ARM_FP16 = replace(ARM, name="aarch64_fp16", flags=(*_PORTABLE, _HALVES, "-march=armv8.2-a+fp16"))
IN_HALF = (ARM_HALVES, ARM_FP16)
"""Drivers of the kernel in half precision: with conversions to float32, and with arithmetic on halves."""


class Memory:
    """What calls may reach: tensors and arrays whose address was asked for, kept so that it stays theirs."""

    def __init__(self) -> None:
        self.known: dict[int, tuple[int, object]] = {}

    def add(self, address: int, size: int, owner: object) -> None:
        if size:
            self.known[address] = size, owner

    def clear(self) -> None:
        self.known.clear()

    def containing(self, address: int) -> tuple[int, int] | None:
        """Address and bytes of what an address lies in."""
        for base, (size, _) in self.known.items():
            if base <= address < base + size:
                return base, size
        return None


class ForeignKernel:
    """The driver of a machine, running: functions are its attributes, called as those of a library of ctypes."""

    def __init__(self, command: list[str], memory: Memory) -> None:
        self._memory = memory
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._functions: dict[str, _Function] = {}

    def __getattr__(self, name: str) -> _Function:
        return self._functions.setdefault(name, _Function(self, name))

    def close(self) -> None:
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()

    def call(self, name: str, arguments: list[Any]) -> int | bytes:
        """Sends the memory that the arguments reach, and puts what comes back in its place."""
        image = _Image(self._memory)
        words = b"".join(struct.pack("=2q", *image.argument(argument)) for argument in arguments)
        pointers = b"".join(struct.pack("=2q", *pointer) for pointer in image.pointers)
        head = struct.pack("=3q64s", len(image.content), len(image.pointers), len(arguments), name.encode())
        self._process.stdin.write(head + image.content + pointers + words)
        self._process.stdin.flush()
        result, length = struct.unpack("=2q", self._read(16, name))
        text = self._read(length, name)
        image.restore(self._read(len(image.content), name))
        return text if length else result

    def _read(self, length: int, name: str) -> bytes:
        data = self._process.stdout.read(length)
        assert len(data) == length, f"the driver ended in {name}, status {self._process.wait()}"
        return data


class _Function:
    def __init__(self, kernel: ForeignKernel, name: str) -> None:
        self.kernel, self.name = kernel, name
        self.argtypes: tuple[Any, ...] = ()
        self.restype: Any = None

    def __call__(self, *arguments: Any) -> int | bytes:
        types = self.argtypes or (None,) * len(arguments)
        pointers = [
            ctypes.c_void_p(argument) if kind is ctypes.c_void_p and isinstance(argument, int) else argument
            for kind, argument in zip(types, arguments, strict=True)
        ]
        return self.kernel.call(self.name, pointers)


class _Image:
    """Memory as it is sent, with the pointers in it."""

    def __init__(self, memory: Memory) -> None:
        self.memory = memory
        self.content = bytearray()
        self.pointers: list[tuple[int, int]] = []
        self.places: dict[int, tuple[int, int]] = {}

    def argument(self, given: Any) -> tuple[int, int]:
        """Kind and value, as the driver takes them."""
        if given is None:
            return NUMBER, 0
        if isinstance(given, int):
            return NUMBER, given
        if isinstance(given, ctypes.c_float | ctypes.c_double):
            return DOUBLE, struct.unpack("=q", struct.pack("=d", given.value))[0]
        if isinstance(given, ctypes.c_void_p):
            return self._place(given.value or 0)
        if isinstance(given, ctypes._SimpleCData):
            return NUMBER, given.value
        pointed = given if isinstance(given, ctypes.Array) else given._obj
        return PLACE, self._add(ctypes.addressof(pointed), ctypes.sizeof(pointed), type(pointed))

    def restore(self, content: bytes) -> None:
        """Copies back all memory but that with pointers, which are addresses elsewhere now."""
        for address, (place, size) in self.places.items():
            if not any(place <= at < place + size for at, _ in self.pointers):
                ctypes.memmove(address, content[place : place + size], size)

    def _place(self, address: int) -> tuple[int, int]:
        """An address of ours as a place; any other number stays, for it may be one that the driver gave."""
        found = self.memory.containing(address)
        if found is None:
            return NUMBER, address
        return PLACE, self._add(*found, None) + address - found[0]

    def _add(self, address: int, size: int, kind: Any) -> int:
        if address not in self.places:
            self.content += bytes(-len(self.content) % LINE)
            self.places[address] = len(self.content), size
            self.content += ctypes.string_at(address, size)
            for offset in _pointers_in(kind):
                at = self.places[address][0] + offset
                if target := ctypes.c_void_p.from_buffer(self.content, at).value:
                    is_place, place = self._place(target)
                    assert is_place == PLACE, "a pointer to memory that nobody asked the address of"
                    self.pointers.append((at, place))
        return self.places[address][0]


def _pointers_in(kind: Any) -> Iterator[int]:
    """Where the pointers of a type of ctypes stand."""
    if kind is None:
        return
    if kind is ctypes.c_void_p:
        yield 0
    elif issubclass(kind, ctypes.Structure):
        for name, field, *_ in kind._fields_:
            yield from (getattr(kind, name).offset + at for at in _pointers_in(field))
    elif issubclass(kind, ctypes.Array):
        for i in range(kind._length_):
            yield from (i * ctypes.sizeof(kind._type_) + at for at in _pointers_in(kind._type_))


def stand_in(load: Callable[[Path], ForeignKernel], memory: Memory, patch: Any) -> None:
    """Lets the modules that call kernels call foreign ones.

    Args:
        load: gives the kernel of a source.
        memory: where the addresses that they ask for are noted.
        patch: pytest's monkeypatch.
    """
    take_address, take_array = torch.Tensor.data_ptr, native._pointer

    def data_ptr(tensor: torch.Tensor) -> int:
        storage = tensor.untyped_storage()
        memory.add(storage.data_ptr(), storage.nbytes(), storage)
        return take_address(tensor)

    def pointer(array: np.ndarray | None, kind: Any, keep: list[Any]) -> int | None:
        address = take_array(array, kind, keep)
        if address is not None:
            memory.add(address, max(1, keep[-1].nbytes), keep[-1])  # an empty one has an address, too
        return address

    patch.setattr(torch.Tensor, "data_ptr", data_ptr)
    patch.setattr(native, "_pointer", pointer)
    patch.setattr(library, "load_library", lambda source, flags=(): load(source))
    training.load_kernel.cache_clear()
