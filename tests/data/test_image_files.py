"""A class folder's images: each real file once, whatever links there are, and files only."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from data.folders import FolderImages
from data.image_files import image_files, open_regular


@pytest.fixture
def crow(tmp_path: Path) -> Path:
    """A class folder of three images, one of them in a folder in it; and another class with one."""
    for name in ("crow/b.png", "crow/a.JPG", "crow/young/c.webp", "owl/d.png", "pool/e.png", "pool/deep/f.png"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    (tmp_path / "crow" / "notes.txt").write_text("no image")
    (tmp_path / "crow" / ".hidden.png").write_text("no image")
    return tmp_path / "crow"


OWN = ["a.JPG", "b.png", "young/c.webp"]


def test_images_are_sorted_by_folder_and_name(crow: Path):
    assert image_files(crow) == OWN


@pytest.mark.parametrize(
    ("links", "more"),
    [
        ({"crow/loop": "crow"}, []),
        ({"crow/loop": "."}, []),
        ({"crow/young/loop": "crow"}, []),
        ({"crow/a loop": "crow/young"}, []),
        ({"crow/0.png": "crow/b.png"}, []),
        ({"crow/up": "pool/../.", "crow/young/up": "crow/.."}, []),
        ({"crow/pool": "pool", "crow/young/pool": "pool", "pool/deep/back": "pool"}, ["pool/deep/f.png", "pool/e.png"]),
        ({"crow/pool": "pool", "pool/crow": "crow"}, ["pool/deep/f.png", "pool/e.png"]),
        ({"crow/e1.png": "pool/e.png", "crow/e2.png": "pool/e.png"}, ["e1.png"]),
        ({"crow/owl": "owl", "owl/crow": "crow"}, ["owl/d.png"]),
    ],
)
def test_links_and_loops_repeat_no_image(crow: Path, links: dict[str, str], more: list[str]):
    for link, target in links.items():
        (crow.parent / link).symlink_to(crow.parent / target if target != "." else ".")
    found = image_files(crow)
    assert set(OWN) <= set(found)
    assert sorted(Path(name).name for name in found) == sorted(Path(name).name for name in [*OWN, *more])


def test_a_link_that_leads_nowhere_is_listed_and_told_when_it_is_read(crow: Path):
    (crow / "z.png").symlink_to(crow / "gone.png")
    (crow / "y.png").symlink_to(crow / "y.png")
    images = FolderImages(crow.parent, 3)
    assert [Path(path).name for path in images.paths()][2:4] == ["y.png", "z.png"]
    for index, why in ((2, "y.png cannot be read .*symbolic links"), (3, "z.png cannot be read .*No such file")):
        with pytest.raises(ValueError, match=why):
            images.decode(index)


@pytest.mark.parametrize("kind", ["pipe", "device", "socket"])
def test_what_is_no_file_is_refused_by_name_and_nobody_waits(crow: Path, kind: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(crow)
    place = crow / "x.png"
    listening = socket.socket(socket.AF_UNIX)
    match kind:
        case "pipe":
            os.mkfifo(place)
        case "socket":
            listening.bind("x.png")
        case "device":
            place.symlink_to("/dev/zero")
    with listening, pytest.raises(ValueError, match=rf"x\.png is a {kind}, not a regular file"):
        FolderImages(crow.parent, 3)
    with pytest.raises((ValueError, OSError), match=rf"x\.png is a {kind}, not a|No such device"):
        open_regular(place)
