"""Nothing in a foreign checkpoint is executed, and what its tensors hold comes back."""

from __future__ import annotations

import os
import pickle
import struct
import zipfile
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from pretrained import archives, safe_pickle

TENSORS = {
    "plain": torch.arange(12.0).view(3, 4),
    "transposed": torch.arange(12.0).view(3, 4).t(),
    "part": torch.arange(100)[10:20:3],
    "double": torch.randn(3, dtype=torch.float64),
    "half": torch.randn(3).half(),
    "bfloat16": torch.randn(3).bfloat16(),
    "bytes": torch.arange(5, dtype=torch.uint8),
    "switches": torch.tensor([True, False]),
    "complex": torch.randn(3, dtype=torch.complex64),
    "number": torch.tensor(7),
    "empty": torch.empty(0, 3),
}


@pytest.mark.parametrize("zipped", [False, True])
def test_tensors_of_every_kind_come_back(tmp_path: Path, zipped: bool) -> None:
    weight = nn.Parameter(torch.randn(2, 2))
    contents = {
        **TENSORS,
        "weight": weight,
        "row": weight.detach()[1],
        "order": OrderedDict(a=1),
        "size": weight.size(),
    }
    torch.save(contents, tmp_path / "a.pt", _use_new_zipfile_serialization=zipped)
    found = safe_pickle.load(tmp_path / "a.pt")
    assert found.keys() == contents.keys()
    for name, value in contents.items():
        if isinstance(value, Tensor):
            assert torch.equal(found[name], value), name
            assert found[name].dtype == value.dtype
        else:
            assert found[name] == value
    assert found["row"].data_ptr() == found["weight"][1].data_ptr(), "tensors that shared their numbers do"


def test_types_without_a_storage_of_their_own_come_back(tmp_path: Path) -> None:
    value = torch.randn(4).to(torch.float8_e5m2)
    torch.save({"a": value}, tmp_path / "a.pt")
    found = safe_pickle.load(tmp_path / "a.pt")["a"]
    assert found.dtype == torch.float8_e5m2
    assert torch.equal(found.float(), value.float())


def test_views_of_old_files_come_back(tmp_path: Path) -> None:
    storage = torch.arange(6.0).untyped_storage()
    path = tmp_path / "old.pt"
    with path.open("wb") as file:
        for value in (safe_pickle.MAGIC, safe_pickle.PROTOCOL, {"little_endian": True}):
            pickle.dump(value, file, protocol=2)
        pickler = pickle.Pickler(file, protocol=2)
        pickler.persistent_id = lambda value: value[0] if isinstance(value, list) else None  # type: ignore[method-assign]
        identity = ("storage", torch.FloatStorage, "7", "cpu", 6, ("8", 2, 3))
        pickler.dump(Rebuilt([identity], 0, (3,), (1,)))
        pickle.dump(["7"], file, protocol=2)
        file.write(struct.pack("=q", 6) + bytes(storage))
    assert safe_pickle.load(path).tolist() == [2.0, 3.0, 4.0]


class Rebuilt:
    def __init__(self, *arguments: object) -> None:
        self.arguments = arguments

    def __reduce__(self) -> tuple:
        return torch._utils._rebuild_tensor, self.arguments


class Leaves:
    """Makes a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.path),)


class Sets:
    """Calls `__setstate__` of a class of torch's with a state of its own."""

    def __reduce__(self) -> tuple:
        return torch.nn.Linear, (2, 2), {"_modules": 3}


@pytest.mark.parametrize("zipped", [False, True])
def test_nothing_is_executed(tmp_path: Path, zipped: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    mark = tmp_path / "executed"
    torch.save(
        {"a": torch.ones(2), "meters": [Leaves(mark)], "net": Sets()},
        tmp_path / "a.pt",
        _use_new_zipfile_serialization=zipped,
    )
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("torch.load is not asked"))
    found = safe_pickle.load(tmp_path / "a.pt")
    assert isinstance(found["net"], safe_pickle.Inert)
    assert torch.equal(found["a"], torch.ones(2))
    assert not mark.exists()


class Scripted(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + 1


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_an_archive_with_code_is_refused_before_it_is_read(tmp_path: Path) -> None:
    torch.jit.save(torch.jit.script(Scripted()), tmp_path / "code.pt")
    with pytest.raises(ValueError, match=r"code\.pt is a TorchScript archive, which holds code; save the model's"):
        safe_pickle.load(tmp_path / "code.pt")


def repacked(path: Path, change: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> Path:
    """The archive of a path with other members, or further ones."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, contents in (members | {f"{path.stem}/{name}": value for name, value in change.items()}).items():
            archive.writestr(name, contents)
    return path


@pytest.mark.parametrize(
    ("change", "compression", "sentence"),
    [
        ({"constants.pkl": b""}, zipfile.ZIP_STORED, "TorchScript archive"),
        ({"code/__torch__.py": b""}, zipfile.ZIP_STORED, "TorchScript archive"),
        ({"run.sh": b""}, zipfile.ZIP_STORED, "torch.save writes no 'run.sh'"),
        ({"data/../../x": b""}, zipfile.ZIP_STORED, "torch.save writes no"),
        ({"data/0": bytes(10_000_000)}, zipfile.ZIP_DEFLATED, "compressed archive"),
        ({"byteorder": b"big"}, zipfile.ZIP_STORED, "big-endian"),
    ],
)
def test_what_torch_save_does_not_write_is_refused(
    tmp_path: Path, change: dict[str, bytes], compression: int, sentence: str
) -> None:
    torch.save({"a": torch.ones(2)}, tmp_path / "a.pt")
    with pytest.raises(ValueError, match=sentence):
        safe_pickle.load(repacked(tmp_path / "a.pt", change, compression))


@pytest.mark.parametrize(
    ("contents", "sentence"),
    [
        (b"", r"a\.pt is empty\."),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n",
            "pointer of Git LFS.*git lfs pull",
        ),
        (b"\n<!DOCTYPE html><html><body>Sign in</body></html>", "is a web page"),
        (b"PK\x03\x04" + bytes(200), "is damaged, or was cut off"),
    ],
)
def test_what_is_no_checkpoint_is_told_as_what_it_is(tmp_path: Path, contents: bytes, sentence: str) -> None:
    (tmp_path / "a.pt").write_bytes(contents)
    with pytest.raises(ValueError, match=sentence):
        safe_pickle.load(tmp_path / "a.pt")


def test_another_zip_is_told(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.pt", "w") as archive:
        archive.writestr("weights.npy", b"")
    with pytest.raises(ValueError, match="zip archive, and not one of PyTorch"):
        safe_pickle.load(tmp_path / "a.pt")


def test_damaged_numbers_are_told_by_their_sum(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    torch.save({"a": torch.arange(1000.0)}, path)
    contents = bytearray(path.read_bytes())
    contents[contents.index(struct.pack("<f", 500.0))] ^= 4
    path.write_bytes(contents)
    with pytest.raises(ValueError, match=r"a\.pt is damaged.*Bad CRC-32"):
        safe_pickle.load(path)
    with pytest.raises(ValueError, match="Bad CRC-32"), archives.opened(path) as archive:
        archives.check_sums(archive)


def test_a_tensor_beyond_its_numbers_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    torch.save({"a": torch.arange(4.0)}, path)
    with zipfile.ZipFile(path) as archive:
        said = archive.read("a/data.pkl")
    with pytest.raises(ValueError, match="lies outside of its numbers"):
        safe_pickle.load(repacked(path, {"data.pkl": said.replace(b"K\x04\x85", b"K\x80\x85")}))


@pytest.mark.parametrize("said", [b"\x80\x02r\xff\xff\xff\xffN.", b"\x80\x05\x96" + b"\xff" * 7 + b"\x00."])
def test_a_pickle_that_claims_much_gets_no_memory(tmp_path: Path, said: bytes) -> None:
    path = tmp_path / "a.pt"
    torch.save({}, path)
    with pytest.raises(ValueError, match="cannot be read as a PyTorch checkpoint"):
        safe_pickle.load(repacked(path, {"data.pkl": said}))
