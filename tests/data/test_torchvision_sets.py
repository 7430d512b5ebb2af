from __future__ import annotations

import functools
import hashlib
import pickle
import socket
import tarfile
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from torchvision.datasets import CIFAR10, MNIST

import data


def first_batch(loader: data.Loader) -> data.Batch:
    return next(iter(loader.epoch(0)))


def test_cifar10_is_read_channel_first(cifar10):
    loaded = data.load("cifar10", cifar10, verify=False)
    batch = first_batch(loaded.test)
    entry = pickle.loads((cifar10 / "cifar10" / "cifar-10-batches-py" / "test_batch").read_bytes())
    pixels = torch.from_numpy(entry["data"]).view(-1, 3, 32, 32)  # red, green, blue planes, row by row
    mean, std = (torch.tensor(figures).view(-1, 1, 1) for figures in (loaded.mean, loaded.std))
    assert torch.equal(((batch.images * std + mean) * 255).round(), pixels.float())
    assert batch.labels.tolist() == entry["labels"]
    assert loaded.classes == 10
    assert loaded.class_names[3] == "class 3"
    assert (len(loaded.train), batch.total) == (1, 20)
    assert loaded.mean == (0.491, 0.482, 0.447)
    assert loaded.std == (0.247, 0.243, 0.262)


def test_cifar_is_flipped_and_cropped_after_black_padding(cifar10):
    arguments = {"verify": False, "batch_size": 60, "mean": [0.0] * 3, "std": [1.0] * 3, "seed": 2}
    plain = first_batch(data.load("cifar10", cifar10, augment=False, **arguments).train)
    moved = first_batch(data.load("cifar10", cifar10, **arguments).train)
    padded = torch.nn.functional.pad(plain.images, (4, 4, 4, 4))
    found = {}
    for flip in (False, True):
        for y in range(9):
            for x in range(9):
                crop = padded[:, :, y : y + 32, x : x + 32]
                fits = ((crop.flip(3) if flip else crop) == moved.images).flatten(1).all(1)
                found |= {int(image): (y, x, flip) for image in fits.nonzero()}
    assert len(found) == 60
    assert 15 <= sum(flip for _, _, flip in found.values()) <= 45
    assert len(set(found.values())) > 30


def test_cifar100_has_its_fine_classes(cifar100):
    loaded = data.load("cifar100", cifar100, verify=False)
    assert loaded.classes == 100
    assert first_batch(loaded.test).labels.tolist() == list(range(100))


def test_mnist_is_grey(mnist):
    loaded = data.load("mnist", mnist, verify=False)
    assert loaded.channels == 1
    assert loaded.classes == 10
    assert first_batch(loaded.test).images.shape == (10, 1, 28, 28)
    assert first_batch(data.load("mnist", mnist, verify=False, in_channels=3).test).images.shape[1] == 3


@pytest.mark.parametrize("name", ["cifar10", "cifar100", "mnist"])
def test_other_files_than_the_published_are_refused_unless_trusted(name, request):
    folder = request.getfixturevalue(name)
    with pytest.raises(ValueError, match=r"not as published.* differ: trust these files with --verify false"):
        data.load(name, folder)
    data.load(name, folder, verify=False)


@pytest.mark.parametrize(
    ("name", "archive"),
    [("cifar10", "cifar-10-python.tar.gz"), ("cifar100", "cifar-100-python.tar.gz"), ("mnist", ".gz")],
)
def test_a_missing_set_says_what_to_fetch_and_where_to_put_it(name, archive, tmp_path):
    with pytest.raises(FileNotFoundError, match=f"{name} is not in .*: fetch .* unpack") as caught:
        data.load(name, tmp_path, download=False)
    assert archive in str(caught.value)
    assert str(tmp_path / name) in str(caught.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["cifar10", "mnist", "imagenet", "birds"])
def test_a_set_that_is_not_embedded_needs_a_data_directory(name):
    with pytest.raises(FileNotFoundError, match="give --data-dir DIR or set DATA_DIR"):
        data.load(name, None)


def test_a_damaged_file_is_named_as_such(cifar10, mnist):
    damaged = cifar10 / "cifar10" / "cifar-10-batches-py" / "data_batch_2"
    damaged.write_bytes(damaged.read_bytes()[:100])
    with pytest.raises(ValueError, match=r"cifar10 in .* cannot be read"):
        data.load("cifar10", cifar10, verify=False)
    damaged = mnist / "mnist" / "MNIST" / "raw" / "train-images-idx3-ubyte"
    whole = damaged.read_bytes()
    damaged.write_bytes(whole[:-9])
    with pytest.raises(ValueError, match=r"mnist in .* cannot be read"):
        data.load("mnist", mnist, verify=False)
    damaged.write_bytes(whole[:7] + bytes([29]) + whole[8 : -28 * 28])
    with pytest.raises(ValueError, match="there are 29 images and 30 labels"):
        data.load("mnist", mnist, verify=False)
    damaged.write_bytes(whole)
    labels = damaged.with_name("train-labels-idx1-ubyte")
    labels.write_bytes(labels.read_bytes()[:-1] + bytes([10]))
    with pytest.raises(ValueError, match="labels outside of the 10 classes"):
        data.load("mnist", mnist, verify=False)


@pytest.fixture
def server(cifar10: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """The address of an archive of the tiny cifar10, served on loopback, and the archive."""
    folder = tmp_path_factory.mktemp("served")
    with tarfile.open(folder / "cifar.tar.gz", "w:gz") as archive:
        archive.add(cifar10 / "cifar10" / "cifar-10-batches-py", "cifar-10-batches-py")
    handler = functools.partial(SimpleHTTPRequestHandler, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as httpd:
        threading.Thread(target=httpd.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{httpd.server_port}/cifar.tar.gz", folder / "cifar.tar.gz"
        httpd.shutdown()


def md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()


def test_a_missing_set_is_downloaded_where_allowed(server, cifar10, tmp_path_factory, monkeypatch):
    home = cifar10 / "cifar10" / "cifar-10-batches-py"
    for key in ("train_list", "test_list"):
        monkeypatch.setattr(CIFAR10, key, [[name, md5(home / name)] for name, _ in getattr(CIFAR10, key)])
    monkeypatch.setattr(CIFAR10, "meta", {**CIFAR10.meta, "md5": md5(home / "batches.meta")})
    address, archive = server
    monkeypatch.setattr(CIFAR10, "url", address)
    monkeypatch.setattr(CIFAR10, "tgz_md5", md5(archive))
    fresh = tmp_path_factory.mktemp("fresh")
    loaded = data.load("cifar10", fresh)
    assert first_batch(loaded.test).total == 20
    assert data.load("cifar10", fresh, download=False).classes == 10


@pytest.mark.parametrize("name", ["cifar10", "mnist"])
def test_a_failed_download_says_what_to_fetch_and_leaves_nothing(name, tmp_path, monkeypatch):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{closed.getsockname()[1]}/"
    monkeypatch.setattr(CIFAR10, "url", address)
    monkeypatch.setattr(MNIST, "mirrors", [address])
    with pytest.raises(FileNotFoundError, match=rf"{name} is not in .* cannot be downloaded \(.*\): fetch .*{address}"):
        data.load(name, tmp_path / "new")
    assert not list(tmp_path.iterdir())


def test_real_cifar10(real_data):
    with pytest.raises(ValueError, match="--verify false"):
        data.load("cifar10", real_data)
    loaded = data.load("cifar10", real_data, verify=False, augment=False, batch_size=50_000, test_batch_size=10_000)
    names = "airplane automobile bird cat deer dog frog horse ship truck"
    assert " ".join(loaded.class_names) == names
    train, test = first_batch(loaded.train), first_batch(loaded.test)
    assert test.labels[:10].tolist() == [3, 8, 8, 0, 6, 6, 1, 6, 3, 1]
    assert torch.bincount(test.labels).tolist() == [1000] * 10
    assert torch.bincount(train.labels).tolist() == [5000] * 10
    assert train.images.mean((0, 2, 3)).abs().max() < 5e-3
    assert (train.images.std((0, 2, 3)) - 1).abs().max() < 5e-3


def test_real_mnist(real_data):
    loaded = data.load("mnist", real_data, augment=False, batch_size=60_000, test_batch_size=10_000)
    train, test = first_batch(loaded.train), first_batch(loaded.test)
    assert (train.total, test.total) == (60_000, 10_000)
    assert test.labels[:5].tolist() == [7, 2, 1, 0, 4]
    assert abs(train.images.mean()) < 1e-3
    assert abs(train.images.std() - 1) < 1e-3
