"""The kernels of evaluation and training on 64-bit Arm, under an emulator, and without the instructions of new x86
processors: the same cases as here."""

from __future__ import annotations

import gc
import platform

import pytest
import torch

from models.native import training
from models.native.selection import keep_largest
from models.sparse.native import NativeGraph
from tests.models.native import foreign, test_training
from tests.models.native.test_nodes import test_a_node_and_its_edges_are_torchs as check_node
from tests.models.sparse import test_native, test_native_half
from tests.models.sparse.random_graphs import random_graph

pytestmark = pytest.mark.slow
X86 = platform.machine() in ("x86_64", "AMD64")


@pytest.fixture(scope="module", params=foreign.MACHINES, ids=lambda machine: machine.name)
def machine(request):
    if request.param.missing:
        pytest.skip(request.param.missing)
    if request.param is not foreign.ARM and not X86:
        pytest.skip("names instructions of x86")
    return request.param


@pytest.fixture(scope="module")
def drivers(machine, tmp_path_factory):
    """The kernels of both sources, running, and the memory that they reach."""
    folder, memory = tmp_path_factory.mktemp(machine.name), foreign.Memory()
    kernels = {
        source: foreign.ForeignKernel([*machine.emulator, str(machine.build(source, folder))], memory)
        for source in (training.SOURCE, foreign.native.SOURCE)
    }
    yield kernels, memory
    for kernel in kernels.values():
        kernel.close()


@pytest.fixture
def elsewhere(drivers, monkeypatch):
    """In a test, the kernels are the foreign ones."""
    kernels, memory = drivers
    with monkeypatch.context() as patch:
        foreign.stand_in(kernels.__getitem__, memory, patch)
        yield kernels
        gc.collect()  # engines are freed by the kernel that made them
    memory.clear()
    training.load_kernel.cache_clear()


@pytest.fixture(scope="module", params=foreign.IN_HALF, ids=lambda machine: machine.name)
def halves(request, tmp_path_factory):
    """The kernel of evaluation in half precision, running, and the memory that it reaches."""
    machine = request.param
    if machine.missing:
        pytest.skip(machine.missing)
    memory = foreign.Memory()
    built = machine.build(foreign.native.SOURCE, tmp_path_factory.mktemp(machine.name))
    kernel = foreign.ForeignKernel([*machine.emulator, str(built)], memory)
    assert kernel.wirings_computes_in_half() == (machine is foreign.ARM_FP16)
    yield kernel, memory
    kernel.close()


@pytest.fixture
def in_half_elsewhere(halves, monkeypatch):
    kernel, memory = halves
    with monkeypatch.context() as patch:
        foreign.stand_in(lambda source: kernel, memory, patch)
        yield kernel
        gc.collect()
    memory.clear()
    training.load_kernel.cache_clear()


@pytest.mark.filterwarnings("ignore:This processor does not compute in half precision")
@pytest.mark.parametrize("seed", range(30))
def test_evaluation_in_half_precision(seed, in_half_elsewhere):
    graph, size = random_graph(seed)
    asked = in_half_elsewhere._functions
    asked.pop("wirings_run", None)
    test_native_half.agree(graph, size, seed)
    assert "wirings_run" in asked


@pytest.mark.filterwarnings("ignore:This processor does not compute in half precision")
def test_numbers_beyond_half_precision(in_half_elsewhere):
    engine = test_native_half.scaled(1000.0)
    assert engine(torch.ones(2, 1, 5, 7)).unique().tolist() == [1000.0]
    with pytest.raises(OverflowError, match="beyond half precision"):
        engine(70 * torch.ones(2, 1, 5, 7))
    images = torch.zeros(1, 1, 5, 7)
    images[0, 0, 4, 6] = torch.nan
    with pytest.raises(OverflowError):
        test_native_half.scaled(1.0)(images)


@pytest.mark.parametrize("seed", range(12))
def test_evaluation(seed, elsewhere):
    graph, size = random_graph(seed)
    test_native.agree(graph, size, seed)


def test_evaluation_is_that_of_this_processor(drivers, monkeypatch):
    kernels, memory = drivers
    for seed in range(20, 26):
        graph, size = random_graph(seed)
        images = torch.randn(3, graph.levels[0].nodes, *size, generator=torch.Generator().manual_seed(seed))
        here = NativeGraph(graph.pruned(size), size, 2)(images)
        with monkeypatch.context() as patch:
            foreign.stand_in(kernels.__getitem__, memory, patch)
            there = NativeGraph(graph.pruned(size), size, 2)(images)
            gc.collect()
        training.load_kernel.cache_clear()
        torch.testing.assert_close(there, here, rtol=0, atol=1e-5 * float(here.abs().max()))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("density", [0.1, 1.0])
@pytest.mark.parametrize(("nodes", "sources", "positions"), [(1, 1, 1), (70, 131, 448), (300, 90, 65)])
def test_sums_over_edges(nodes, sources, positions, density, dtype, elsewhere):
    test_training.test_sums_over_edges_are_products(nodes, sources, positions, density, dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("nodes", "sources", "positions"), [(1, 1, 1), (70, 131, 448), (300, 90, 65)])
def test_products_at_edges(nodes, sources, positions, dtype, elsewhere):
    test_training.test_products_at_edges_are_entries_of_the_whole_product(nodes, sources, positions, 0.2, 2, dtype)


@pytest.mark.parametrize("batch", [1, 3, 17])
@pytest.mark.parametrize("size", [(1, 2), (5, 7), (2, 9)])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kind", ["none", "batch", "instance", "fixed"])
def test_nodes(kind, stride, size, batch, elsewhere):
    check_node(kind, stride, size, batch)


def test_random_shapes(elsewhere):
    for seed in range(10):
        test_training.run_everything(seed)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_selection(dtype, elsewhere):
    torch.manual_seed(0)
    weight = torch.randn(5000, dtype=dtype)
    order = weight.abs().sort(descending=True)
    for k in (1, 700, 4999):
        mask = keep_largest(weight, k, 0.0, float(order.values[0]))
        assert mask.nonzero().flatten().equal(order.indices[:k].sort().values)


def test_the_foreign_kernels_are_called(elsewhere):
    """Without them, the tests above say nothing."""
    asked = elsewhere[training.SOURCE]._functions
    asked.clear()
    test_training.test_images_become_planes_and_images_again((3, 5, 2, 7), torch.contiguous_format)
    assert {"wirings_to_planes_float", "wirings_from_planes_float", "wirings_layout"} <= set(asked)
