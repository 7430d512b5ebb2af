"""The published networks of Discovering Neural Wirings, and fetching their weights.

Accuracies, parameters and multiply-adds are the authors' (ImageNet, 224x224).
"""

from __future__ import annotations

import http.client
import os
import shutil
import sys
import tempfile
import urllib.request
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from pretrained import trained

_HOME = "https://prior-datasets.s3.us-east-2.amazonaws.com/dnw/pretrained-models"


@dataclass(frozen=True)
class Published:
    """A published network.

    Attributes:
        name: by which `--resume pretrained:<name>` asks for it.
        app: the experiment that it was trained by.
        parameters, multiply_adds: as the authors counted them, in millions.
        top1: accuracy on ImageNet's validation images in percent.
        address: of its weights.
        sha256: sum of the file, in hexadecimal digits; None until it is known.
    """

    name: str
    app: str
    parameters: float
    multiply_adds: float
    top1: float
    address: str
    sha256: str | None = None


def _published(name: str, app: str, parameters: float, multiply_adds: float, top1: float) -> Published:
    return Published(name, f"large_scale/mobilenetv1_{app}", parameters, multiply_adds, top1, f"{_HOME}/{name}.pt")


PUBLISHED = {
    entry.name: entry
    for entry in (
        _published("rg_x225", "random_graph_x225", 1.2, 55.7, 53.3),
        _published("dnw_small_x15", "dnw_small_x15", 0.24, 22.1, 50.3),
        _published("dnw_small_x225", "dnw_small_x225", 0.4, 41.2, 59.9),
        _published("dnw_x225", "dnw_x225", 1.1, 42.1, 60.9),
        _published("dnw_x3", "dnw_x3", 1.3, 66.7, 65.0),
        _published("rg_x49", "random_graph_x49", 1.8, 170, 64.1),
        _published("dnw_x49", "dnw_x49", 1.8, 154, 70.4),
    )
}


def find(name: str) -> Published:
    """The published network of that name. Raises ValueError, with the nearest names, where there is none."""
    if name not in PUBLISHED:
        known = (*PUBLISHED, *trained.catalogue())
        near = get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise ValueError(f"There is no published network {name!r}; {hint}There are {', '.join(known)}.")
    return PUBLISHED[name]


def cache_folder() -> Path:
    """Where fetched weights are kept: $NEURAL_WIRINGS_CACHE, else the user's cache folder."""
    own = os.environ.get("NEURAL_WIRINGS_CACHE")
    if own:
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "neural-wirings"


def fetch(published: Published, cache: Path | None = None) -> Path:
    """The file with a network's weights, fetched where it is not in the cache yet: whole or not at all.

    Its SHA-256 sum is compared with the catalogue's. Where the catalogue has none, the sum of the first use is told on
    standard error and kept beside the file, and checked at every later use.

    Args:
        published: what to fetch.
        cache: folder, `cache_folder()` where absent.

    Raises:
        ConnectionError: it cannot be fetched; says the address, and where to put the file by hand.
        ValueError: the file is not the published one, or no longer what was fetched.
    """
    cache = cache or cache_folder()
    path = cache / f"{published.name}.pt"
    sums = path.with_suffix(".pt.sha256")
    if not path.exists():
        cache.mkdir(parents=True, exist_ok=True)
        try:
            _download(published.address, path)
        except (OSError, http.client.HTTPException) as error:
            raise ConnectionError(
                f"{published.address} cannot be fetched ({error}). Fetch it by other means and put it at {path}."
            ) from error
        sums.unlink(missing_ok=True)
    found = trained.checksum(path)
    if published.sha256 is not None:
        if found != published.sha256:
            raise ValueError(f"{path} is not the published file: its SHA-256 sum is {found}, not {published.sha256}.")
    elif not sums.exists():
        sums.write_text(f"{found}  {path.name}\n")
        print(f"{path} is trusted at its first use: no sum of it was published. SHA-256: {found}", file=sys.stderr)
    elif sums.read_text().split()[:1] != [found]:
        raise ValueError(f"{path} is not what was fetched: its SHA-256 sum differs from {sums.name}. Remove both.")
    return path


def _download(address: str, path: Path) -> None:
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
        partial = Path(file.name)
        try:
            with urllib.request.urlopen(address, timeout=60) as answer:
                shutil.copyfileobj(answer, file)
                expected = answer.headers.get("Content-Length")
            if expected is not None and file.tell() != int(expected):
                raise ConnectionError(f"it ended after {file.tell()} of {expected} bytes")
            file.flush()
            os.fsync(file.fileno())
            partial.chmod(0o644)
            partial.replace(path)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
