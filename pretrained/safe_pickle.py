"""Reading PyTorch checkpoints that hold more than tensors, without executing anything in them.

Neither torch.load nor any function that a file names is called: the pickle is read by an unpickler that knows plain
values and tensors, and tensors are made here of the bytes beside it.
"""

from __future__ import annotations

import collections
import pickle
import sys
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor

from pretrained import archives

MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
"""Begin the form that torch.save wrote before version 1.6."""
DTYPES = {
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
    "ComplexFloatStorage": torch.complex64,
    "ComplexDoubleStorage": torch.complex128,
    "UntypedStorage": torch.uint8,
}


class Inert:
    """Stands for an object of a class that is not wanted: takes whatever pickle does to it and does nothing."""

    def __new__(cls, *_: Any, **__: Any) -> Inert:
        return super().__new__(cls)

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def __call__(self, *_: Any, **__: Any) -> Inert:
        return Inert()

    def __setstate__(self, _: Any) -> None:
        pass

    def __setitem__(self, _: Any, __: Any) -> None:
        pass

    def append(self, _: Any) -> None:
        pass

    def extend(self, _: Any) -> None:
        pass

    def add(self, _: Any) -> None:
        pass


@dataclass(frozen=True)
class _Storage:
    """The bytes of tensors, and the type of what they hold."""

    dtype: torch.dtype
    contents: torch.UntypedStorage


def _tensor(storage: _Storage, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any) -> Tensor:
    """A tensor over a part of a storage. Raises ValueError where it would lie outside of it."""
    numbers = [offset, *size, *stride]
    if len(size) != len(stride) or any(type(number) is not int or number < 0 for number in numbers):
        raise ValueError("a tensor's size is none")
    last = offset + sum((length - 1) * step for length, step in zip(size, stride, strict=True))
    if 0 not in size and (last + 1) * storage.dtype.itemsize > storage.contents.nbytes():
        raise ValueError("a tensor lies outside of its numbers")
    empty = torch.empty(0, dtype=storage.dtype)
    return empty.set_(storage.contents, offset, size, stride)


def _typed_tensor(
    storage: _Storage,
    offset: int,
    size: tuple[int, ...],
    stride: tuple[int, ...],
    _: Any,
    __: Any,
    dtype: Any,
    *___: Any,
) -> Tensor:
    return _tensor(_Storage(dtype, storage.contents), offset, size, stride)


def _parameter(data: Tensor, *_: Any) -> Tensor:
    return data


_KNOWN: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("torch", "Size"): torch.Size,
    ("torch._utils", "_rebuild_tensor"): _tensor,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_tensor_v3"): _typed_tensor,
    ("torch._utils", "_rebuild_parameter"): _parameter,
}


class _Unpickler(pickle._Unpickler):
    """Knows tensors and plain containers; any other class or function becomes `Inert`.

    It is Python's own in Python: that in C makes room for as many objects as a file says that it has.
    """

    def __init__(self, file: IO[bytes], storage: Callable[..., _Storage]) -> None:
        super().__init__(file, encoding="utf-8", errors="replace")
        self._storage = storage

    def find_class(self, module: str, name: str) -> Any:
        if module in ("torch", "torch.storage", "torch.cuda") and name in DTYPES:
            return DTYPES[name]
        if module == "torch" and isinstance(getattr(torch, name, None), torch.dtype):
            return getattr(torch, name)
        return _KNOWN.get((module, name), Inert)

    def persistent_load(self, saved: Any) -> Any:
        kind, *rest = saved
        if kind == "module":  # a class with its source code
            return rest[0]
        if kind != "storage":
            raise pickle.UnpicklingError(f"it refers to a {kind}")
        return self._storage(*rest)


def load(path: Path) -> Any:
    """What a checkpoint holds, on the CPU: tensors and plain values; objects of other classes as `Inert`.

    The CRC-32 sums of archives are checked.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not a PyTorch checkpoint, it is damaged, or it holds code (TorchScript).
    """
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path}.")
    if archives.is_zip(path):
        with archives.opened(path) as archive:
            return _told(path, lambda: _from_zip(archive))
    if tarfile.is_tarfile(path):
        raise ValueError(f"{path} is a tar archive, not a PyTorch checkpoint.")
    with path.open("rb") as file:
        return _told(path, lambda: _from_stream(file, path.stat().st_size))


def _told(path: Path, read: Callable[[], Any]) -> Any:
    try:
        return read()
    except zipfile.BadZipFile:
        raise
    except Exception as error:  # a damaged pickle leads to any kind
        said = " ".join(str(error).split())[:200].removesuffix(".")
        raise ValueError(f"{path} cannot be read as a PyTorch checkpoint ({type(error).__name__}: {said}).") from error


def _from_zip(archive: zipfile.ZipFile) -> Any:
    folder = archive.namelist()[0].partition("/")[0]
    names = set(archive.namelist())
    order = archive.read(f"{folder}/byteorder").decode() if f"{folder}/byteorder" in names else "little"
    if order != sys.byteorder:
        raise ValueError(f"its numbers are in {order}-endian order, and this machine has {sys.byteorder}")
    storages: dict[str, torch.UntypedStorage] = {}

    def storage(dtype: torch.dtype, key: str, *_: Any) -> _Storage:
        if key not in storages:
            storages[key] = _untyped(archive.read(f"{folder}/data/{key}"))
        return _Storage(dtype, storages[key])

    with archive.open(f"{folder}/data.pkl") as file:
        return _Unpickler(file, storage).load()


def _from_stream(file: IO[bytes], size: int) -> Any:
    """Of the older form: pickles of two numbers, the system, the object and the storages' keys, then their bytes."""

    def refuse(*_: Any) -> _Storage:
        raise pickle.UnpicklingError("a tensor stands where none can be")

    def plain() -> Any:
        return _Unpickler(file, refuse).load()

    if plain() != MAGIC or plain() != PROTOCOL:
        raise ValueError("its first bytes are not those of torch.save")
    order = "little" if plain().get("little_endian", True) else "big"
    if order != sys.byteorder:
        raise ValueError(f"its numbers are in {order}-endian order, and this machine has {sys.byteorder}")
    storages: dict[str, _Storage] = {}

    def storage(dtype: torch.dtype, key: str, _: Any, elements: int, view: Any = None) -> _Storage:
        if key not in storages:
            if not 0 <= elements * dtype.itemsize <= size:
                raise ValueError(f"a tensor of {elements} numbers does not fit into the file")
            storages[key] = _Storage(dtype, torch.UntypedStorage(elements * dtype.itemsize))
        whole = storages[key]
        if view is None:
            return whole
        _, begin, length = view
        return _Storage(dtype, whole.contents[begin * dtype.itemsize : (begin + length) * dtype.itemsize])

    found = _Unpickler(file, storage).load()
    for key in plain():
        elements = int.from_bytes(file.read(8), sys.byteorder, signed=True)
        wanted = storages[key]
        if elements * wanted.dtype.itemsize != wanted.contents.nbytes():
            raise ValueError("the size of a tensor does not fit its bytes")
        read = file.read(wanted.contents.nbytes())
        if len(read) < wanted.contents.nbytes():
            raise EOFError("it is cut off")
        wanted.contents.copy_(_untyped(read))
    return found


def _untyped(contents: bytes) -> torch.UntypedStorage:
    if not contents:
        return torch.UntypedStorage(0)
    return torch.frombuffer(bytearray(contents), dtype=torch.uint8).untyped_storage()
