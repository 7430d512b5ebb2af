"""Reading PyTorch checkpoints that hold more than tensors, without executing anything in them."""

from __future__ import annotations

import collections
import pickle
import tarfile
from pathlib import Path
from typing import Any

import torch

_HARMLESS = {
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("torch", "Size"): torch.Size,
    ("torch._utils", "_rebuild_tensor"): torch._utils._rebuild_tensor,
    ("torch._utils", "_rebuild_tensor_v2"): torch._utils._rebuild_tensor_v2,
    ("torch._utils", "_rebuild_parameter"): torch._utils._rebuild_parameter,
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


class _Unpickler(pickle.Unpickler):
    """Knows tensors and plain containers; any other class or function becomes `Inert`."""

    def find_class(self, module: str, name: str) -> Any:
        if module == "torch" and name.endswith("Storage") and hasattr(torch, name):
            return getattr(torch, name)
        return _HARMLESS.get((module, name), Inert)


class _SafePickle:
    """What torch.load asks of a pickle module."""

    Unpickler = _Unpickler
    UnpicklingError = pickle.UnpicklingError

    @staticmethod
    def load(file: Any, **arguments: Any) -> Any:
        return _Unpickler(file, **arguments).load()


def load(path: Path) -> Any:
    """What a checkpoint holds, on the CPU: tensors and plain values; objects of other classes as `Inert`.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not a PyTorch checkpoint, or it is damaged.
    """
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path}.")
    if tarfile.is_tarfile(path):
        raise ValueError(f"{path} is a tar archive, not a PyTorch checkpoint.")
    try:
        return torch.load(path, map_location="cpu", weights_only=False, pickle_module=_SafePickle)
    except Exception as error:  # torch raises whatever a damaged file leads it to
        raise ValueError(f"{path} cannot be read as a PyTorch checkpoint ({type(error).__name__}: {error}).") from error
