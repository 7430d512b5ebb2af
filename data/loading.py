"""From the name of a data set to its loaders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from data.augmentation import Augmentation, PadCropFlip, ResizedCropFlip
from data.batches import Loader, Settings
from data.image_files import MAX_IMAGE_PIXELS
from data.memory import MemoryLoader
from data.registry import SETS
from data.sources import Images, ImageSet, MemoryImages, Request
from data.splits import stratified_split
from data.statistics import Normalisation
from data.steps import Place, Steps
from data.streams import StreamLoader

VALIDATION_SEED = 2019


@dataclass(frozen=True)
class Data:
    """A data set ready for one process: loaders and what the images are. mean and std are of each channel.

    Attributes:
        whole_images: evaluation sees whole images; else their centres, as of photographs (`data.files.Preparation`).
    """

    train: Loader
    validation: Loader | None
    test: Loader
    class_names: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    whole_images: bool = True

    @property
    def classes(self) -> int:
        return len(self.class_names)

    @property
    def channels(self) -> int:
        return len(self.mean)

    @property
    def skipped(self) -> int:
        """Unreadable files that this process has left out so far."""
        return sum(loader.skipped for loader in (self.train, self.validation, self.test) if loader)


def load(
    name: str,
    data_dir: str | Path | None = None,
    *,
    image_size: int | None = None,
    in_channels: int | None = None,
    batch_size: int = 128,
    test_batch_size: int | None = None,
    workers: int = 4,
    seed: int = 0,
    rank: int = 0,
    world_size: int = 1,
    device: torch.device | str = "cpu",
    download: bool = True,
    verify: bool = True,
    augment: bool = True,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    validation_share: float = 0.0,
    skip_unreadable: bool = False,
    standardise: bool = False,
    train_records: str | None = None,
    test_records: str | None = None,
    label_offset: int | None = None,
    max_image_pixels: int = MAX_IMAGE_PIXELS,
    decode_on_device: bool = False,
) -> Data:
    """The data set `name`, from <data_dir>/<name>, for process `rank` of `world_size`.

    Batches have `batch_size` images (`test_batch_size` in evaluation) over all processes. `image_size` in pixels and
    `in_channels` are the data set's own where absent, `mean` and `std` (of each channel, images in 0..1) too.
    `validation_share` of each class's training images is held out as `Data.validation`, always the same ones.
    `download` fetches CIFAR and MNIST where absent: of several processes on a machine, let one call this first.
    `verify` compares their md5 sums with the published ones; nothing in them is executed either way. `standardise`
    normalises every image by its own mean and deviation. TFRecord files are read where <data_dir>/<name> holds them, or
    where `name` is records and `train_records` and `test_records` say which (a file, a folder, a pattern; relative to
    `data_dir` where there is no such path); `label_offset` is the number that their labels count from. Images of files
    with more than `max_image_pixels` are refused. With `decode_on_device` the device decodes a folder's JPEG files.

    Raises FileNotFoundError where the data set is not there, ValueError where it is not as it should be or
    does not fit the arguments. Loaders raise ValueError at the first image that cannot be read.
    """
    directory = None if data_dir is None else Path(data_dir).expanduser()
    given = train_records, test_records, label_offset, max_image_pixels
    image_set = find(Request(name, directory, in_channels, download, verify, *given))
    normalisation = _normalisation(image_set, _channels(name, image_set, in_channels), mean, std)
    device = torch.device(device)
    settings = Settings(
        image_size=image_size or image_set.image_size,
        mean=torch.tensor(normalisation.mean, device=device).view(-1, 1, 1),
        std=torch.tensor(normalisation.std, device=device).view(-1, 1, 1),
        device=device,
        seed=seed,
        workers=workers,
        skip_unreadable=skip_unreadable,
        standardise=standardise,
        decode_on_device=decode_on_device,
    )
    loaders = Loaders(image_set, settings, Place(rank, world_size), batch_size, test_batch_size or batch_size)
    return loaders.data(normalisation, validation_share, augment)


@dataclass(frozen=True)
class Loaders:
    """Makes the loaders of a data set for one process."""

    image_set: ImageSet
    settings: Settings
    place: Place
    batch_size: int
    test_batch_size: int

    def data(self, normalisation: Normalisation, validation_share: float, augment: bool) -> Data:
        """All of them; see `load`."""
        images = self.image_set
        train, held = _split(images.train.labels, validation_share)
        return Data(
            train=self.training(train, augment),
            validation=self.evaluating(images.train, held) if validation_share else None,
            test=self.evaluating(images.test, torch.arange(len(images.test.labels))),
            class_names=tuple(images.class_names),
            mean=normalisation.mean,
            std=normalisation.std,
            whole_images=isinstance(images.test, MemoryImages),
        )

    def training(self, indices: Tensor, augment: bool) -> Loader:
        """Of the training images of `indices` (int64 [n])."""
        steps = Steps(len(indices), self.batch_size, self.place, training=True)
        augmentation = self.image_set.augmentation if augment else None
        return _loader(self.image_set.train, indices, steps, self.settings, augmentation)

    def evaluating(self, images: Images, indices: Tensor) -> Loader:
        """Of the images of `indices` (int64 [n]) among some."""
        steps = Steps(len(indices), self.test_batch_size, self.place, training=False)
        return _loader(images, indices, steps, self.settings)


def find(request: Request) -> ImageSet:
    """The data set that a request names. Raises as `load`."""
    if request.name in SETS:
        return SETS[request.name].read(request)
    names = f"there is no data set {request.name}: its name is one of {', '.join(SETS)}, or that of a folder"
    if request.data_dir is None:
        raise FileNotFoundError(f"{names} in a data directory: give --data-dir DIR or set DATA_DIR")
    from data import folders, records  # import torchvision, which images in memory do without

    if not request.folder.is_dir():
        raise ValueError(f"{names} with {request.folder}/{{train,val}}/<class>/<image>")
    if records.holds_records(request.folder):
        return records.read(request)
    return folders.any_folder(request)


def _channels(name: str, image_set: ImageSet, wanted: int | None) -> int:
    own = image_set.train.channels
    if wanted not in (None, own) and own != 1:
        raise ValueError(f"the images of {name} have {own} channels, not in_channels {wanted}")
    return wanted or own


def _normalisation(
    image_set: ImageSet, channels: int, mean: Sequence[float] | None, std: Sequence[float] | None
) -> Normalisation:
    means = _per_channel("mean", mean, image_set.mean, channels)
    deviations = _per_channel("std", std, image_set.std, channels)
    if min(deviations) <= 0:
        raise ValueError(f"std must be positive, not {list(deviations)}")
    return Normalisation(means, deviations)


def _per_channel(what: str, given: Sequence[float] | None, own: tuple[float, ...], channels: int) -> tuple[float, ...]:
    """The set's own figures, a grey set's repeated, unless some are given."""
    if given is None:
        return own if len(own) == channels else own * channels
    if len(given) != channels:
        raise ValueError(f"{what} has {len(given)} numbers for images of {channels} channel(s)")
    return tuple(given)


def _split(labels: Tensor, share: float) -> tuple[Tensor, Tensor]:
    if share == 0:
        return torch.arange(len(labels)), torch.arange(0)
    return stratified_split(labels, share, VALIDATION_SEED)


def _loader(
    images: Images,
    indices: Tensor,
    steps: Steps,
    settings: Settings,
    augmentation: Augmentation | None = None,
) -> Loader:
    if isinstance(images, MemoryImages):
        assert not isinstance(augmentation, ResizedCropFlip), "images in memory are cropped by PadCropFlip"
        return MemoryLoader(images, indices, steps, settings, augmentation)
    assert not isinstance(augmentation, PadCropFlip), "images of a source are cropped by ResizedCropFlip"
    return StreamLoader(images, indices, steps, settings, augmentation)
