from __future__ import annotations

import ctypes
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from models.sparse import channel_graph
from models.sparse.c_program.program import ImageForm, c_program
from models.sparse.graph import ChannelGraph, compute_planes
from tests.models.sparse.c_program.compilers import STRICT, build, build_for_cortex_m, emulator, logits, need
from tests.models.sparse.networks import mobilenet, tiny
from tests.models.sparse.random_graphs import random_graph

FORM = ImageForm([0.5, 0.4, 0.3], [0.25, 0.2, 0.3])
NETWORKS = {"static": lambda: tiny("static"), "discrete_time": lambda: tiny("discrete_time"), "mobilenet": mobilenet}


def write(network: nn.Module, path: Path, form: ImageForm = FORM, class_names: tuple[str, ...] = ()) -> Path:
    size = network.image_size
    path.write_text(c_program(channel_graph(network), (size, size), path.stem, form, class_names))
    return path


def draw_pixels(network: nn.Module) -> np.ndarray:
    size = network.image_size
    return np.random.default_rng(4).integers(0, 256, (3, size, size)).astype(np.uint8)


@torch.no_grad()
def expected(network: nn.Module, pixels: np.ndarray, form: ImageForm = FORM) -> np.ndarray:
    mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (form.mean, form.std))
    return network(((torch.from_numpy(pixels) / 255 - mean) / std)[None])[0].double().numpy()


def assert_close(found: np.ndarray, logits: np.ndarray) -> None:
    assert found.shape == logits.shape
    assert np.abs(found - logits).max() <= 1e-4 * max(1.0, np.abs(logits).max())


@pytest.mark.parametrize("name", NETWORKS)
def test_a_program_gives_the_networks_logits(name: str, tmp_path: Path):
    network = NETWORKS[name]()
    pixels = draw_pixels(network)
    program = build(write(network, tmp_path / f"{name}.c"))
    for planar in (False, True):
        assert_close(logits([program], pixels, tmp_path, planar), expected(network, pixels))


@pytest.mark.parametrize("seed", range(12))
def test_any_graph_is_computed_from_memory_that_held_anything(seed: int, tmp_path: Path):
    graph, size = random_graph(seed)
    channels = graph.levels[0].nodes
    form = ImageForm([0.5] * channels, [1.0] * channels)
    if not graph.flat:
        with pytest.raises(ValueError, match="planes and no logits"):
            c_program(graph, size, "any", form)
        return
    image = np.random.default_rng(seed).standard_normal((channels, *size)).astype(np.float32)
    found = run_library(graph, size, form, image, tmp_path)
    reference = compute_planes(graph, image)[-1].reshape(-1)
    assert_close(found, reference)


def run_library(
    graph: ChannelGraph, size: tuple[int, int], form: ImageForm, image: np.ndarray, folder: Path
) -> np.ndarray:
    """The logits of a program used as a library, whose memory is full of NaN and fenced."""
    need("gcc")
    text = c_program(graph, size, "any", form)
    (folder / "any.c").write_text(text)
    words = ["gcc", "-O1", *STRICT, "-DNO_MAIN", "-shared", "-fPIC", "any.c", "-o", "any.so", "-lm"]
    subprocess.run(words, cwd=folder, check=True)
    found = re.search(r"^#define ANY_MEMORY (\d+)$", text, re.MULTILINE)
    assert found
    memory = np.full(int(found[1]) + 8, np.nan, np.float32)
    result = np.zeros(graph.levels[-1].nodes, np.float32)
    pointers = [array.ctypes.data_as(ctypes.c_void_p) for array in (image, result, memory)]
    ctypes.CDLL(str(folder / "any.so")).any_run(*pointers)
    assert np.isnan(memory[-8:]).all()
    return result.astype(np.float64)


def test_the_sanitizers_find_nothing(tmp_path: Path):
    need("gcc")
    network = mobilenet()
    source = write(network, tmp_path / "mobilenet.c")
    try:
        program = build(source, "-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-g")
    except subprocess.CalledProcessError:
        pytest.skip("gcc has no sanitizers here")
    pixels = draw_pixels(network)
    assert_close(logits([program], pixels, tmp_path, planar=False), expected(network, pixels))


@pytest.mark.parametrize(("core", "board"), [("cortex-m3", "mps2-an385"), ("cortex-m4", "mps2-an386")])
def test_a_microcontroller_gives_the_networks_logits(core: str, board: str, tmp_path: Path):
    network = tiny("static")
    program = build_for_cortex_m(write(network, tmp_path / "static.c"), core)
    pixels = draw_pixels(network)
    image = tmp_path / "image.raw"
    image.write_bytes(pixels.tobytes())
    words = emulator(board, program, ["--logits", "--planar", str(image)])
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert_close(np.array([float(line) for line in done.stdout.split()]), expected(network, pixels))


def test_images_are_standardised_by_their_own_statistics(tmp_path: Path):
    network = tiny("static")
    pixels = draw_pixels(network)
    program = build(write(network, tmp_path / "static.c", ImageForm([], [], standardise=True)))
    values = torch.from_numpy(pixels).float()
    with torch.no_grad():
        result = network(((values - values.mean()) / values.std(correction=0))[None])[0].double().numpy()
    assert_close(logits([program], pixels, tmp_path, planar=False), result)
    flat = np.full_like(pixels, 7)
    with torch.no_grad():
        result = network(torch.zeros(1, *pixels.shape))[0].double().numpy()
    assert_close(logits([program], flat, tmp_path, planar=True), result)


def test_main_prints_the_best_classes_by_name(tmp_path: Path):
    network = tiny("static")
    names = ("zero", "one", 'say "two"', "thr\u00e9e", "f/*our", "fi??/ve", "si\\x", "seven", "100 %", "n\nine")
    program = build(write(network, tmp_path / "static.c", class_names=names))
    pixels = draw_pixels(network)
    (tmp_path / "image.raw").write_bytes(pixels.tobytes())
    words = [str(program), "--planar", "-"]
    done = subprocess.run(words, input=pixels.tobytes(), capture_output=True, check=True)
    likely = torch.from_numpy(expected(network, pixels)).softmax(0)
    best = likely.topk(5)
    lines = [f"{i} {names[i]} {p:.4f}" for p, i in zip(best.values.tolist(), best.indices.tolist(), strict=True)]
    assert done.stdout.decode() == "\n".join(lines) + "\n"


@pytest.mark.parametrize("change", [-1, 1])
def test_main_refuses_an_image_of_another_size(change: int, tmp_path: Path):
    network = tiny("static")
    program = build(write(network, tmp_path / "static.c"))
    image = tmp_path / "image.raw"
    image.write_bytes(bytes(3 * 24 * 24 + change))
    done = subprocess.run([program, image], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"{image} is no file of 1728 bytes: 24 x 24 pixels of 3 channels.\n"
    assert subprocess.run([program, image, image], capture_output=True, check=False).returncode == 2


def test_two_networks_live_in_one_program(tmp_path: Path):
    need("gcc")
    for name in ("first", "second"):
        write(tiny("static"), tmp_path / f"{name}.c")
    calls = "void first_run(const float *, float *, float *); void second_run(const float *, float *, float *);"
    (tmp_path / "main.c").write_text(f"{calls} int main(void) {{ return first_run == second_run; }}")
    words = ["gcc", *STRICT, "-DNO_MAIN", "first.c", "second.c", "main.c", "-o", "both", "-lm"]
    subprocess.run(words, cwd=tmp_path, check=True)
    assert subprocess.run([tmp_path / "both"], check=False).returncode == 0


def test_names_become_identifiers():
    text = c_program(channel_graph(tiny("static")), (24, 24), "3-net.v2", FORM, about="of */ and ??/")
    assert "void n3_net_v2_run(" in text
    assert text.count("*/", 0, text.index("#include")) == 1
    assert "??" not in text


def test_weights_that_are_not_finite_are_refused():
    network = tiny("static")
    network.fc.weight.data[0, 0] = float("nan")
    with pytest.raises(ValueError, match="not finite"):
        c_program(channel_graph(network), (24, 24), "any", FORM)


def test_the_header_tells_the_sizes_of_what_is_compiled(tmp_path: Path):
    need("gcc")
    source = write(tiny("static"), tmp_path / "static.c")
    subprocess.run(["gcc", "-Os", *STRICT, "-DNO_MAIN", "-c", source.name, "-o", "static.o"], cwd=tmp_path, check=True)
    text = source.read_text()
    flash, code = map(int, re.search(r"Flash: (\d+) bytes of constants, and about (\d+) of code", text).groups())
    listed = subprocess.run(["size", "static.o"], cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    program, data, zero = map(int, listed.splitlines()[1].split()[:3])
    assert flash < program + data < flash + 2 * code
    assert zero == 0
