"""The weights that were trained here reach on real images what the catalogue says, on every engine."""

from __future__ import annotations

import re
from itertools import chain
from pathlib import Path

import pytest
import torch
import yaml

from benchmarks import training_queue
from benchmarks.collect_weights import MOST_BYTES, MOST_BYTES_IN_ALL, median_run, network_and_images, results_of
from genutil.reports import results as results_files
from models.sparse.compile import compile_graph
from models.sparse.engines import ENGINES, UnavailableError, engine_names
from models.sparse.from_network import channel_graphs
from pretrained import trained
from pretrained.trained import Trained

RESULTS = Path(__file__).parents[2] / "results"
SHIPPED = trained.catalogue()
NEAR = 1e-3
"""Difference of the two largest logits below which engines may choose either class."""


def places(real_data: Path) -> dict[str, object]:
    return {"data_dir": str(real_data), "verify": False, "gpus": []}


@pytest.mark.parametrize("own", SHIPPED.values(), ids=SHIPPED)
def test_the_first_images_are_classified_as_the_catalogue_says_by_every_engine(own: Trained, real_data: Path) -> None:
    network, batches = network_and_images(f"pretrained:{own.name}", places(real_data))
    right, count = own.right_of_first
    found = list(batches)
    images, labels = torch.cat([batch.images for batch in found])[:count], torch.cat([b.labels for b in found])[:count]
    with torch.inference_mode():
        logits = network(images)
        assert int((logits.argmax(1) == labels).sum()) == right
        if not channel_graphs(network):
            return
        two = logits.topk(2).values
        clear = two[:, 0] - two[:, 1] > NEAR
        assert clear.float().mean() > 0.99
        for engine in engine_names():
            try:
                compiled = compile_graph(network, engine)
            except UnavailableError:
                continue
            guesses = torch.cat([compiled(part) for part in images.split(250)]).argmax(1)
            alike = guesses == logits.argmax(1)
            if engine in ENGINES and ENGINES[engine].tolerance is not None:
                assert alike.float().mean() > 0.99, engine
            else:
                assert alike[clear].all(), engine


@pytest.mark.slow
@pytest.mark.parametrize("own", SHIPPED.values(), ids=SHIPPED)
def test_all_images_give_the_accuracy_of_the_catalogue(own: Trained, real_data: Path) -> None:
    network, batches = network_and_images(f"pretrained:{own.name}", places(real_data))
    right = seen = 0
    with torch.inference_mode():
        for batch in batches:
            right += int((network(batch.images).argmax(1) == batch.labels).sum())
            seen += len(batch.labels)
    assert f"{100 * right / seen:.2f}" == f"{own.top1:.2f}"


@pytest.mark.parametrize("own", SHIPPED.values(), ids=SHIPPED)
def test_they_are_those_of_the_median_seed_of_the_kept_results_or_name_their_seed(own: Trained) -> None:
    results = [results_files.read(path) for path in sorted(RESULTS.rglob("*.json"))]
    entries = {f"{entry.resolved()['data']}_{entry.name}": entry for entry in training_queue.read()}
    name, _, seed = own.name.partition(trained.OF_SEED)
    found = results_of(entries[name], results)
    median = median_run(found)
    result = next(r for r in found if r["settings"]["seed"] == int(seed)) if seed else median
    assert (result is median) == (not seed)
    assert result["settings"]["seed"] == own.seed
    assert f"{result['last']['top1']:.2f}" == f"{own.top1:.2f}"


def test_every_file_is_in_the_catalogue_whole_and_small() -> None:
    names = {path.stem for path in trained.WEIGHTS.glob("*.safetensors")}
    assert names == SHIPPED.keys()
    sizes = [own.file().stat().st_size for own in SHIPPED.values()]
    assert all(size <= MOST_BYTES for size in sizes)
    assert sum(sizes) <= MOST_BYTES_IN_ALL


def test_they_name_no_folder_of_the_machine_that_trained_them() -> None:
    for path in chain(trained.WEIGHTS.glob("*"), RESULTS.rglob("*.json")):
        content = path.read_bytes()
        if path.suffix == ".safetensors":
            content = content[8 : 8 + int.from_bytes(content[:8], "little")]  # its header, which holds the settings
        assert not re.search(rb'"(/|[A-Za-z]:\\)', content), path.name


def test_a_folder_without_a_catalogue_has_nothing(tmp_path: Path) -> None:
    assert trained.catalogue(tmp_path) == {}


def test_the_catalogue_is_read_as_it_was_written(tmp_path: Path) -> None:
    own = {name: Trained(name, "quickstart", 2, "160 epochs", 80.5, (812, 1000), "0" * 64) for name in ("b", "a")}
    trained.write_catalogue(own, tmp_path)
    assert trained.catalogue(tmp_path) == own
    assert [entry["name"] for entry in yaml.safe_load((tmp_path / trained.CATALOGUE).read_text())] == ["a", "b"]
