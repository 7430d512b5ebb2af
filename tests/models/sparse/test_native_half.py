"""The native engine in half precision: what it gives is the network's, up to roundings of half precision."""

from __future__ import annotations

import copy
import os
import pickle
import re
import shutil
import subprocess
import warnings

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks.half import REPLACED
from models.native import library
from models.native.library import NoCompilerError
from models.sparse import EngineError, compile_graph, makers, native_half
from models.sparse.engines import HALF_TOLERANCE
from models.sparse.equality import relative_difference
from models.sparse.graph import ChannelGraph, Depthwise, Edges, Level, compute_planes
from models.sparse.native import HALF_FLAG, SOURCE, NativeGraph, load_kernel
from models.sparse.native_half import HalfGraph
from models.sparse.plan_spec import LevelKind
from tests.models.sanitizers import assert_clean
from tests.models.sparse.networks import mobilenet, tiny, wired_inside
from tests.models.sparse.random_graphs import random_graph
from tests.models.sparse.rounded import rounded, tolerance
from tests.models.sparse.test_engines import Pair
from tests.models.sparse.test_native import SANITIZED, WITHOUT_AVX, WITHOUT_AVX512, X86


def _has_halves() -> bool:
    try:
        load_kernel(half=True)
    except NoCompilerError:
        return False
    return True


pytestmark = [
    pytest.mark.skipif(
        shutil.which(os.environ.get("CXX", "c++")) is None or not _has_halves(),
        reason="needs a C++ compiler with numbers of half precision",
    ),
    pytest.mark.filterwarnings("ignore:This processor does not compute in half precision"),
]
NETWORKS = {
    "mobilenet": (mobilenet, 32),
    "mobilenet, odd images": (lambda: mobilenet(image_size=27), 27),
    "mobilenet, complete": (lambda: mobilenet("complete", 0), 32),
    "mobilenet, small": (lambda: mobilenet(small=True), 32),
    "static": (lambda: tiny("static"), 24),
    "discrete_time": (lambda: tiny("discrete_time"), 24),
    "continuous_time": (lambda: tiny("continuous_time"), 24),
    "wired inside": (wired_inside, 21),
}


def agree(graph: ChannelGraph, size: tuple[int, int], seed: int, flags: tuple[str, ...] = library.FLAGS) -> None:
    """The kernel against the exact values, for batches of 1 and 7 and numbers of threads that leave remainders."""
    images = np.random.default_rng(seed).standard_normal((7, graph.levels[0].nodes, *size)).astype(np.float32)
    exact = np.stack([compute_planes(graph, image)[-1] for image in images])
    results = []
    for threads in (1, 2, 3):
        engine = HalfGraph(graph.pruned(size), size, threads, flags)
        results.append(engine(torch.from_numpy(images)))
        assert torch.equal(engine(torch.from_numpy(images[:1])), results[-1][:1]), "a batch of one differs"
    in_half = bool(engine._kernel.wirings_computes_in_half())
    difference = abs(results[0].numpy().reshape(exact.shape) - exact).max()
    assert difference <= tolerance(graph, images, in_half)
    assert results[0].dtype == torch.float32
    assert torch.equal(results[0], results[1]), "two threads give another result"
    assert torch.equal(results[0], results[2]), "three threads give another result"


@pytest.mark.parametrize("seed", range(40))
def test_random_graphs(seed: int):
    graph, size = random_graph(seed)
    agree(graph, size, seed)


@pytest.mark.skipif(not X86, reason="names instruction sets of x86")
@pytest.mark.parametrize("flags", [WITHOUT_AVX512, WITHOUT_AVX], ids=["AVX2", "SSE2"])
@pytest.mark.parametrize("seed", range(10))
def test_random_graphs_in_narrower_vectors(seed: int, flags: tuple[str, ...]):
    if flags == WITHOUT_AVX512 and "avx2" not in library._processor():
        pytest.skip("this processor has no AVX2")
    graph, size = random_graph(seed)
    agree(graph, size, seed, flags)


@pytest.mark.slow
@pytest.mark.skipif(not X86, reason="vectors of 32 halves are those of x86")
@pytest.mark.parametrize("seed", range(30))
def test_random_graphs_in_vectors_of_avx512(seed: int):
    graph, size = random_graph(seed)
    agree(graph, size, seed, REPLACED)


@pytest.mark.parametrize("size", [(1, 1), (7, 7), (14, 14), (28, 33), (113, 57)])
def test_sizes_of_the_large_networks(size: tuple[int, int]):
    graph, _ = random_graph(4)
    agree(graph, size, 0)


def level(name: str, sources: tuple[int, ...], weight: np.ndarray, bias: float = 0.0, **fields: object) -> Level:
    nodes = len(weight)
    edges = Edges.from_dense(weight)
    return Level(name, name, np.arange(nodes), sources, edges, np.full(nodes, bias, np.float32), **fields)


def entry(channels: int) -> Level:
    return Level("input", "", np.arange(channels), bias=np.zeros(channels, np.float32))


def test_nodes_whose_edges_fill_several_blocks():
    draw = np.random.default_rng(0)
    weight = np.where(draw.random((20, 600)) < 0.3, draw.standard_normal((20, 600)) / 20, 0)
    levels = (
        entry(600),
        level("stem", (0,), np.eye(600)),
        level("last", (1,), weight, relu=True),
    )
    agree(ChannelGraph(levels, flat=False), (20, 20), 0)


def test_sums_of_any_depthwise_kernel_are_rounded_once():
    if load_kernel(half=True).wirings_computes_in_half():
        pytest.skip("this processor adds halves")
    kernel = Depthwise(np.ones((1, 5, 5), np.float32), np.full(1, 2048, np.float32), 1, 2)
    levels = (entry(1), level("many", (0,), np.ones((1, 1)), depthwise=kernel), level("last", (1,), np.ones((1, 1))))
    found = HalfGraph(ChannelGraph(levels, flat=False), (7, 150), 1)(torch.ones(1, 1, 7, 150))
    assert (found[..., 2:5, 2:148] == 2072).all()  # 2073; halves there are 2 apart, and adding 1 to 2048 gives 2048


@pytest.mark.slow
def test_under_address_and_undefined_behaviour_sanitizers():
    assert_clean(f"""
import warnings
from tests.models.sparse.random_graphs import random_graph
from tests.models.sparse.test_native_half import agree
warnings.simplefilter("ignore")
for seed in range(100, 116):
    agree(*random_graph(seed), seed, {SANITIZED})
print("clean")
""")


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_agree(name: str):
    make, size = NETWORKS[name]
    network = make()
    compiled = compile_graph(network, "native_half", threads=2, image_size=size)
    assert compiled.engine == "native_half"
    for batch in (1, 7):
        images = torch.randn(batch, 3, size, size, generator=torch.Generator().manual_seed(7))
        with torch.no_grad():
            expected = network(images)
            found = compiled(images)
        assert found.dtype == torch.float32
        assert 0 < relative_difference(found, expected) < HALF_TOLERANCE


def test_copies_and_pickles_stay_in_half_precision():
    graph, size = random_graph(13)
    engine = HalfGraph(graph.pruned(size), size, 1)
    images = torch.randn(2, graph.levels[0].nodes, *size)
    expected = engine(images)
    assert not torch.equal(NativeGraph(graph.pruned(size), size, 1)(images), expected)
    for other in (copy.deepcopy(engine), pickle.loads(pickle.dumps(engine))):
        assert isinstance(other, HalfGraph)
        assert torch.equal(other(images), expected)


def test_timings_are_of_every_level():
    graph, size = random_graph(16)
    pruned = graph.pruned(size)
    timings = HalfGraph(pruned, size, 2).timings(torch.randn(3, graph.levels[0].nodes, *size), repeats=1)
    assert [timing.name for timing in timings] == [level.name for level in pruned.levels]


def test_a_dense_classifier_has_weights_of_half_precision_and_sums_in_float32():
    draw = np.random.default_rng(0)
    dense, sparse = draw.standard_normal((12, 40)), draw.standard_normal((12, 40)) * (draw.random((12, 40)) < 0.1)
    image = draw.standard_normal((1, 40)).astype(np.float32)
    for weight, kept, kind in (
        (dense, rounded(dense), LevelKind.SUM_VALUES_DENSE),
        (sparse, sparse, LevelKind.SUM_VALUES_SPARSE),
    ):
        engine = HalfGraph(ChannelGraph((entry(40), level("linear", (0,), weight))), (1, 1), 1)
        assert engine._engine.levels[1][0] == kind
        np.testing.assert_allclose(engine(torch.from_numpy(image)), image @ kept.T, rtol=1e-5, atol=1e-5)
    assert abs(image @ (dense - rounded(dense)).T).max() > 1e-4


def scaled(factor: float, relu: bool = True, mean: bool = False) -> HalfGraph:
    """A plane times a factor, then as it is."""
    weight = np.ones((1, 1))
    levels = (entry(1), level("scaled", (0,), factor * weight, relu=relu), level("last", (1,), weight, mean=mean))
    return HalfGraph(ChannelGraph(levels, flat=mean), (5, 7), 2)


def test_numbers_beyond_half_precision_are_an_error_and_the_next_images_are_run():
    images = torch.rand(3, 1, 5, 7) + 1
    engine = scaled(1000.0)
    expected = engine(images)
    images[1, 0, 2, 3] = 70.0  # 70000 after the first level
    for batch in (images, images[1:2]):
        with pytest.raises(OverflowError, match=r"beyond half precision \(65504 at most\)"):
            engine(batch)
    images[1, 0, 2, 3] = 1.0
    assert torch.equal(engine(images)[::2], expected[::2])
    images[1, 0, 2, 3] = -70.0
    with pytest.raises(OverflowError):
        scaled(1000.0, relu=False)(images)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_sums_that_go_beyond_half_precision_on_the_way_are_an_error_or_right(sign: float):
    """In the first block of sources, or where every edge is rounded; the sum itself is 20000."""
    weight = np.concatenate([np.full(500, -200.0), np.full(500, 240.0)])[None]
    weight = weight if sign > 0 else weight[:, ::-1]
    levels = (entry(1), level("many", (0,), np.ones((1000, 1))), level("sum", (1,), weight, relu=True))
    engine = HalfGraph(ChannelGraph(levels, flat=False), (3, 3), 1)
    try:
        found = engine(torch.ones(1, 1, 3, 3))
    except OverflowError:
        return
    np.testing.assert_allclose(found, 20000)


def test_a_sum_far_below_zero_is_an_error_or_a_zero():
    try:
        found = scaled(1000.0)(torch.full((1, 1, 5, 7), -70.0))
    except OverflowError:
        return
    assert not found.any()


@pytest.mark.parametrize("value", [70000.0, float("inf"), float("nan")])
def test_images_beyond_half_precision_are_an_error(value: float):
    images = torch.zeros(1, 1, 5, 7)
    images[0, 0, 4, 6] = value
    with pytest.raises(OverflowError, match="or that are not finite"):
        scaled(0.0001)(images)


def test_weights_beyond_half_precision_are_an_error():
    with pytest.raises(OverflowError):
        scaled(1e5)(torch.ones(1, 1, 5, 7))


@pytest.mark.parametrize("weight", [65520.0, -1e5, float("nan")])
def test_weights_of_a_dense_classifier_beyond_half_precision_are_an_error(weight: float):
    with pytest.raises(OverflowError, match=r"weights of linear .*beyond half precision \(65504 at most\)"):
        classifier(weight)


def test_the_largest_weights_of_half_precision_are_no_error():
    assert classifier(65519.0)(torch.ones(1, 1)).item() == 65504


def classifier(weight: float) -> HalfGraph:
    return HalfGraph(ChannelGraph((entry(1), level("linear", (0,), np.full((1, 1), weight)))), (1, 1), 1)


def test_means_may_sum_more_than_half_precision_holds():
    assert scaled(1.0, mean=True)(torch.full((1, 1, 5, 7), 60000.0)).item() == pytest.approx(60000, rel=2**-11)


def test_other_inputs_are_refused():
    engine = scaled(1.0)
    for images in (torch.zeros(1, 1, 5, 8), torch.zeros(1, 1, 5, 7).half(), torch.zeros(1, 2, 5, 7)):
        with pytest.raises(ValueError, match="native engine runs float32 images"):
            engine(images)
    assert len(engine(torch.zeros(0, 1, 5, 7))) == 0


def pair(bias: float) -> nn.Module:
    """Planes that are nearly `bias` everywhere, of which a classifier takes differences."""
    torch.manual_seed(0)
    network = Pair().eval()
    network.mix.bias.data.fill_(bias)
    network.linear.weight.data = torch.tensor([[1.0, -1.0, 1.0, -1.0, 0.0]]).repeat(4, 1)
    network.linear.bias.data.zero_()
    return network


def test_a_network_whose_logits_do_not_stay_within_tolerance_is_refused():
    compile_graph(pair(1.0), "native_half")
    with pytest.raises(EngineError, match=r"native_half differs from the network by .* more than 1e-02"):
        compile_graph(pair(20000.0), "native_half")


def test_a_network_whose_planes_do_not_fit_is_refused_with_its_stage():
    told = r"native_half cannot run this network: from stage mix on, the planes .*65504.* the engine native computes"
    with pytest.raises(EngineError, match=told):
        compile_graph(pair(70000.0), "native_half")


def test_a_network_whose_classifier_does_not_fit_is_refused_with_its_stage():
    network = pair(1.0)
    network.linear.weight.data *= 1e5
    told = r"native_half cannot run this network: from stage linear on, the weights of linear .*65504"
    with pytest.raises(EngineError, match=told):
        compile_graph(network, "native_half")


def test_without_a_compiler_of_halves_native_takes_over(monkeypatch: pytest.MonkeyPatch):
    def no_halves(*arguments: object) -> None:
        if True in arguments:
            raise NoCompilerError("There are no halves here.")

    monkeypatch.setattr(makers, "load_kernel", no_halves)
    with pytest.warns(UserWarning, match="no halves here. The engine native takes the place of native_half"):
        assert compile_graph(mobilenet(), "native_half").engine == "native"

    def no_compiler(*_: object) -> None:
        raise NoCompilerError("There is no C++ compiler (c++) here.")

    monkeypatch.setattr(makers, "load_kernel", no_compiler)
    with pytest.warns(UserWarning, match=r"native takes the place of native_half|csr takes the place of native\."):
        assert compile_graph(mobilenet(), "native_half").engine == "csr"


@pytest.mark.skipif(not X86, reason="64-bit Arm has halves in every compiler")
def test_a_compiler_without_halves_is_told_in_a_sentence():
    with pytest.raises(NoCompilerError, match=r"the compiler has no numbers of half precision \(_Float16\)"):
        load_kernel(("-O0", "-std=c++17", "-march=native", "-pthread", "-U__FLT16_MAX__"), half=True)


def test_a_processor_without_arithmetic_on_halves_is_told_once(monkeypatch: pytest.MonkeyPatch):
    graph, size = random_graph(13)
    for computes, lines in ((0, 1), (1, 0)):
        native_half._warn_of_conversions.cache_clear()
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            for _ in range(2):
                kernel = load_kernel(half=True)
                monkeypatch.setattr(kernel, "wirings_computes_in_half", lambda computes=computes: computes)
                HalfGraph(graph.pruned(size), size, 1)
        assert len([one for one in told if "does not compute in half precision" in str(one.message)]) == lines
        assert not any("\n" in str(one.message) for one in told)


@pytest.mark.slow
@pytest.mark.skipif(not X86, reason="names an instruction set of x86")
def test_sums_over_edges_multiply_vectors_of_32_halves_on_avx512_fp16():
    flags = ("-O3", "-std=c++17", "-march=sapphirerapids", "-pthread", HALF_FLAG, "-S", "-o", "-")
    done = subprocess.run([*library.find_compiler(), *flags, str(SOURCE)], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip("this compiler does not know AVX512-FP16")
    functions = re.findall(r"^(\w*sum_tile\w*):\n(.*?)\.cfi_endproc", done.stdout, re.MULTILINE | re.DOTALL)
    wide = 0
    for name, body in functions:
        for block in re.split(r"^\.L\w+:|^\tj.*$", body, flags=re.MULTILINE):
            multiplies = re.findall(r"vfmadd\d+ph.*%zmm", block)
            wide += len(multiplies)
            assert not (multiplies and "vcvt" in block), name
        assert not re.search(r"vfmadd\d+ps|\tcall", body), name
    assert len(functions) >= 17
    assert wide > 1000
