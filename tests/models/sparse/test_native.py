from __future__ import annotations

import copy
import multiprocessing
import os
import pickle
import platform
import shutil
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from models.native import library
from models.sparse.graph import ChannelGraph, Depthwise, Edges, Level, compute_planes
from models.sparse.native import NativeGraph, load_kernel
from models.sparse.plan import make_plan
from models.sparse.plan_spec import LevelKind, Phase
from tests.models.sanitizers import assert_clean
from tests.models.sparse.random_graphs import random_graph

ROOT = Path(__file__).parents[3]
pytestmark = pytest.mark.skipif(shutil.which(os.environ.get("CXX", "c++")) is None, reason="needs a C++ compiler")
WITHOUT_AVX512 = ("-O3", "-std=c++17", "-march=x86-64-v3", "-pthread")
WITHOUT_AVX = ("-O2", "-std=c++17", "-march=x86-64", "-pthread")
X86 = platform.machine() in ("x86_64", "AMD64")


def agree(graph: ChannelGraph, size: tuple[int, int], seed: int, flags: tuple[str, ...] = library.FLAGS) -> None:
    """The kernel against the plain run, for batches and numbers of threads that leave remainders."""
    images = np.random.default_rng(seed).standard_normal((5, graph.levels[0].nodes, *size)).astype(np.float32)
    expected = np.stack([compute_planes(graph, image)[-1] for image in images])
    expected = expected[:, :, 0, 0] if graph.flat else expected
    results = []
    for threads in (1, 2, 3):
        engine = NativeGraph(graph.pruned(size), size, threads, flags)
        results.append(engine(torch.from_numpy(images)))
        assert torch.equal(engine(torch.from_numpy(images[:1])), results[-1][:1]), "a batch of one differs"
    np.testing.assert_allclose(results[0].numpy(), expected, atol=1e-4 * abs(expected).max())
    assert torch.equal(results[0], results[1]), "two threads give another result"
    assert torch.equal(results[0], results[2]), "three threads give another result"


@pytest.mark.parametrize("seed", range(60))
def test_random_graphs(seed: int):
    graph, size = random_graph(seed)
    agree(graph, size, seed)


@pytest.mark.skipif(not X86, reason="names instruction sets of x86")
@pytest.mark.parametrize("flags", [WITHOUT_AVX512, WITHOUT_AVX], ids=["AVX2", "SSE2"])
@pytest.mark.parametrize("seed", range(20))
def test_random_graphs_in_narrower_vectors(seed: int, flags: tuple[str, ...]):
    if flags == WITHOUT_AVX512 and "avx2" not in library._processor():
        pytest.skip("this processor has no AVX2")
    graph, size = random_graph(seed)
    agree(graph, size, seed, flags)


def test_rows_that_see_nothing_but_padding():
    draw = np.random.default_rng(0)
    depthwise = Depthwise(draw.standard_normal((4, 3, 3)).astype(np.float32), np.ones(4, np.float32), 1, 8)
    stem = Edges.from_dense(draw.standard_normal((4, 2, 3, 3)).astype(np.float32), 1, 1)
    numbers, zeros = np.arange(4), np.zeros(4, np.float32)
    graph = ChannelGraph(
        (
            Level("input", "", np.arange(2), bias=np.zeros(2, np.float32)),
            Level("stem", "stem", numbers, (0,), stem, zeros, relu=True, depthwise=depthwise),
            Level("last", "last", numbers, (1,), Edges.from_dense(np.eye(4, dtype=np.float32)), zeros),
        ),
        flat=False,
    )
    image = draw.standard_normal((2, 6, 40)).astype(np.float32)
    engine = NativeGraph(graph.pruned((6, 40)), (6, 40), threads=3)
    found = engine(torch.from_numpy(image[None]))  # the first image, before any other has filled the rows
    np.testing.assert_allclose(found[0], compute_planes(graph, image)[-1], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("mean", [False, True])
def test_nodes_whose_edges_fill_several_blocks(mean: bool):
    """Sources that do not fit the nearest cache together; some nodes have edges in the first block or the last only."""
    draw = np.random.default_rng(0)
    weight = np.where(draw.random((30, 600)) < 0.3, draw.standard_normal((30, 600)), 0)
    weight[:5, 60:] = 0
    weight[5:10, :540] = 0
    weight[10] = 0
    bias = draw.standard_normal(30).astype(np.float32)
    bias[10] = -1
    stem, edges = np.eye(600, dtype=np.float32), Edges.from_dense(weight.astype(np.float32))
    graph = ChannelGraph(
        (
            Level("input", "", np.arange(600), bias=np.zeros(600, np.float32)),
            Level("stem", "stem", np.arange(600), (0,), Edges.from_dense(stem), np.zeros(600, np.float32)),
            Level("last", "last", np.arange(30), (1,), edges, bias, relu=True, mean=mean),
        ),
        flat=mean,
    )
    size = (20, 20)
    tiles = load_kernel().wirings_max_tile(), load_kernel().wirings_max_shared_tile()
    (schedule,) = make_plan(graph.pruned(size), size, 1, *tiles).levels[-1].schedules
    assert (schedule.chunk["block_end"] - schedule.chunk["block_begin"]).max() > 1
    agree(graph, size, 0)


@pytest.mark.parametrize("size", [(1, 1), (7, 7), (14, 14), (28, 29), (56, 56), (113, 57), (112, 112)])
def test_sizes_of_the_large_networks(size: tuple[int, int]):
    graph, _ = random_graph(4)
    while any(level.window for level in graph.levels):
        graph, _ = random_graph(5)
    agree(graph, size, 0)


def test_two_engines_at_once_from_two_threads():
    graphs = [random_graph(seed) for seed in (10, 11)]
    engines = [NativeGraph(graph.pruned(size), size, 2) for graph, size in graphs]
    images = [torch.randn(7, graph.levels[0].nodes, *size) for graph, size in graphs]
    expected = [engine(batch) for engine, batch in zip(engines, images, strict=True)]
    failures = []

    def work(which: int) -> None:
        for _ in range(50):
            if not torch.equal(engines[which](images[which]), expected[which]):
                failures.append(which)

    threads = [threading.Thread(target=work, args=(i % 2,)) for i in range(4)]  # each engine by two threads as well
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="needs fork")
def test_a_forked_child_goes_on():
    graph, size = random_graph(12)
    engine = NativeGraph(graph.pruned(size), size, 2)
    images = torch.randn(5, graph.levels[0].nodes, *size)
    expected = engine(images)
    child = os.fork()
    if child == 0:
        os._exit(0 if torch.equal(engine(images), expected) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert torch.equal(engine(images), expected)


def test_copies_and_pickles_work():
    graph, size = random_graph(13)
    engine = NativeGraph(graph.pruned(size), size, 1)
    images = torch.randn(2, graph.levels[0].nodes, *size)
    expected = engine(images)
    assert torch.equal(copy.deepcopy(engine)(images), expected)
    assert torch.equal(pickle.loads(pickle.dumps(engine))(images), expected)


def test_other_inputs_are_refused():
    graph, size = random_graph(14)
    engine = NativeGraph(graph.pruned(size), size, 1)
    channels = graph.levels[0].nodes
    for images in (
        torch.zeros(1, channels, size[0] + 1, size[1]),
        torch.zeros(1, channels + 1, *size),
        torch.zeros(1, channels, *size, dtype=torch.float64),
    ):
        with pytest.raises(ValueError, match="native engine runs float32 images"):
            engine(images)
    assert len(engine(torch.zeros(0, channels, *size))) == 0


def test_images_need_not_be_contiguous():
    graph, size = random_graph(15)
    engine = NativeGraph(graph.pruned(size), size, 1)
    images = torch.randn(4, graph.levels[0].nodes, *size)
    expected = engine(images)
    assert torch.equal(engine(images.contiguous(memory_format=torch.channels_last)), expected)
    assert torch.equal(engine(images.flip(0)), expected.flip(0))


SANITIZED = ("-O0", "-std=c++17", "-march=native", "-pthread", "-fsanitize=address,undefined")
UNDER_SANITIZERS = """
import sys
from tests.models.sparse.random_graphs import random_graph
from tests.models.sparse.test_native import SANITIZED, agree
for seed in range(100, 120):
    agree(*random_graph(seed), seed, SANITIZED)
print("clean")
"""


def test_under_address_and_undefined_behaviour_sanitizers():
    assert_clean(UNDER_SANITIZERS)


def test_timings_name_every_level_and_say_where_the_time_goes():
    graph, size = random_graph(16)
    pruned = graph.pruned(size)
    engine = NativeGraph(pruned, size, 2)
    images = torch.randn(5, graph.levels[0].nodes, *size)
    expected = engine(images)
    start = time.perf_counter()
    timings = engine.timings(images, repeats=3)
    took = time.perf_counter() - start
    assert [timing.name for timing in timings] == [level.name for level in pruned.levels]
    assert timings[0].kind is None
    assert [timing.kind is None for timing in timings[1:]] == [False] * (len(timings) - 1)
    for timing, level, (sums, _) in zip(timings, pruned.levels, pruned.sizes(size), strict=True):
        taps = 0 if level.edges is None else np.count_nonzero(level.edges.weight)
        assert timing.multiply_adds == taps * sums[0] * sums[1]
        if timing.kind is not None:
            assert timing.seconds[Phase.SUMS] > 0
            over_planes = timing.kind in (LevelKind.SUM_PLANES, LevelKind.SUM_COPIES, LevelKind.SUM_ROWS)
            assert (timing.seconds[Phase.NODES] > 0) == over_planes
    assert 0 < sum(sum(timing.seconds.values()) for timing in timings) < 2 * took
    assert torch.equal(engine(images), expected)


def test_the_copies_of_a_kernel_take_time_and_plain_edges_make_none():
    draw = np.random.default_rng(0)
    stem = Edges.from_dense(draw.standard_normal((40, 3, 3, 3)).astype(np.float32), 2, 1)
    plain = Edges.from_dense(draw.standard_normal((600, 40)).astype(np.float32))
    graph = ChannelGraph(
        (
            Level("input", "", np.arange(3), bias=np.zeros(3, np.float32)),
            Level("stem", "stem", np.arange(40), (0,), stem, np.zeros(40, np.float32)),
            Level("plain", "plain", np.arange(600), (1,), plain, np.zeros(600, np.float32), mean=True),
        )
    )
    timings = NativeGraph(graph, (64, 64), 1).timings(torch.randn(2, 3, 64, 64))
    stem_time, plain_time = timings[1].seconds, timings[2].seconds
    assert stem_time[Phase.COPIES] > plain_time[Phase.COPIES]
    assert plain_time[Phase.SUMS] > plain_time[Phase.COPIES]
    assert plain_time[Phase.SUMS] > stem_time[Phase.SUMS], "24 times as many multiply-adds"


def test_timings_of_no_image_are_refused():
    graph, size = random_graph(17)
    engine = NativeGraph(graph.pruned(size), size, 1)
    with pytest.raises(ValueError, match="at least one image and one run"):
        engine.timings(torch.zeros(0, graph.levels[0].nodes, *size))
