from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import nn

from models.native.library import NoCompilerError
from models.sparse import compile_graph, makers
from models.sparse.compiled import MOST_SIZES
from models.sparse.equality import relative_difference
from tests.models.sparse.networks import mobilenet, shake, tiny, wire, wired_inside

NETWORKS = {
    "mobilenet": (lambda: mobilenet(), 32),
    "small": (lambda: mobilenet(small=True), 32),
    "stride 2": (lambda: mobilenet(image_size=80), 80),
    "static": (lambda: tiny("static"), 24),
    "discrete time": (lambda: tiny("discrete_time"), 24),
    "wired inside": (lambda: wired_inside(), 21),
}
ENGINES = ("pruned", "csr", "dgl", "native")


def need(engine: str) -> None:
    if engine == "dgl":
        pytest.importorskip("dgl", exc_type=Exception)


def difference(network: nn.Module, compiled: nn.Module, images: torch.Tensor) -> float:
    with torch.no_grad():
        return relative_difference(compiled(images), network(images))


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", NETWORKS)
def test_engines_agree_with_the_network(name: str, engine: str):
    need(engine)
    make, size = NETWORKS[name]
    network = make()
    compiled = compile_graph(network, engine, threads=1, image_size=size)
    assert compiled.engine == engine
    images = torch.randn(3, 3, size, size, generator=torch.Generator().manual_seed(7))
    assert difference(network, compiled, images) < 1e-4


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("in_place", [True, False])
def test_continuous_time(engine: str, in_place: bool):
    need(engine)
    network = tiny("continuous_time")
    network.relu_in_place = in_place
    compiled = compile_graph(network, engine, threads=1)
    images = torch.randn(2, 3, 24, 24)
    assert difference(network, compiled, images) < 2e-3
    state = compiled.start(images)
    (weight,) = network.step.graph()
    with torch.no_grad():
        assert relative_difference(compiled.step(state.clone(), None), network.step(state, weight)) < 1e-4


@pytest.mark.parametrize("engine", ["pruned", "native"])
def test_images_of_other_sizes(engine: str):
    network = mobilenet(prune_rate=0.8)  # has constant planes, which depend on the size
    compiled = compile_graph(network, engine, threads=1, image_size=32)
    assert compiled.graph.pruned((32, 32)).image_size == (32, 32)
    for size in ((19, 24), (40, 33)):
        assert difference(network, compiled, torch.randn(2, 3, *size)) < 1e-4


def keep_edges(network: nn.Module, stage: int, edges: list[tuple[int, int]]) -> None:
    """Leaves a stage of a complete graph only these edges (row, column)."""
    graph = network.layers[stage].graph
    mask = torch.zeros(graph.layout.rows, graph.layout.columns)
    for row, column in edges:
        mask[row, column] = 1
    graph.weight.data *= graph.layout.from_matrix(mask)


def dead_cases() -> dict[str, nn.Module]:
    """Networks with parts that do not live, each of another kind; norms are random, so that constants are not zero."""
    cases = {}
    network = mobilenet("complete", 0)
    rows = network.layers[2].graph.layout.rows
    matrix = network.layers[2].graph.matrix()
    matrix[rows - 40 : rows - 10] = 0  # outputs of the last stage without input: relu(BN(0)) reaches the classifier
    network.layers[2].graph.weight.data = network.layers[2].graph.layout.from_matrix(matrix)
    cases["dead outputs of the last stage"] = network
    network = mobilenet("complete", 0)
    matrix = network.layers[1].graph.matrix()
    matrix[20:32] = 0  # outputs of a middle stage without input: constant planes behind a padded convolution
    network.layers[1].graph.weight.data = network.layers[1].graph.layout.from_matrix(matrix)
    cases["dead outputs of a middle stage"] = network
    network = mobilenet("complete", 0)
    matrix = network.layers[2].graph.matrix()
    matrix[:40] = 0  # a whole hidden group without input
    network.layers[2].graph.weight.data = network.layers[2].graph.layout.from_matrix(matrix)
    cases["a hidden group without input"] = network
    network = mobilenet("complete", 0)
    matrix = network.layers[2].graph.matrix()
    matrix[:, 20:60] = 0  # a whole hidden group without output
    network.layers[2].graph.weight.data = network.layers[2].graph.layout.from_matrix(matrix)
    cases["a hidden group without output"] = network
    network = mobilenet("complete", 0)
    keep_edges(network, 0, [(3, 2)])
    cases["one edge in the first stage"] = network
    network = mobilenet("complete", 0)
    for stage in range(3):
        outputs = network.layers[stage].graph.layout.rows - network.layers[stage].out_channels
        keep_edges(network, stage, [(outputs, 0)])
    cases["one node in every stage"] = network
    network = mobilenet("complete", 0)
    network.conv1.weight.data[3:] = 0
    cases["first convolution with idle channels"] = network
    return cases


@pytest.mark.parametrize("engine", ENGINES)
def test_dead_parts(engine: str):
    need(engine)
    for name, network in dead_cases().items():
        compiled = compile_graph(network, engine, threads=2, image_size=32)
        images = torch.randn(2, 3, 32, 32)
        assert difference(network, compiled, images) < 1e-4, name


@pytest.mark.parametrize("stage", [0, 1, 2])
def test_a_stage_without_edges_is_a_clear_error(stage: int):
    network = mobilenet("complete", 0)
    keep_edges(network, stage, [])
    with pytest.raises(ValueError, match=rf"layers\.{stage}\.graph has no live edge"):
        compile_graph(network)


def test_auto_takes_one_that_runs_here():
    compiled = compile_graph(mobilenet(), "auto", threads=1)
    assert compiled.engine in ("native", "csr", "pruned")


def test_without_a_compiler_csr_takes_over(monkeypatch: pytest.MonkeyPatch):
    def no_compiler(*_) -> None:
        raise NoCompilerError("There is no C++ compiler (c++) here.")

    monkeypatch.setattr(makers, "load_kernel", no_compiler)
    with pytest.warns(UserWarning, match="no C.. compiler .* csr takes the place"):
        assert compile_graph(mobilenet(), "native").engine == "csr"
    with pytest.warns(UserWarning, match="native is left out"):
        assert compile_graph(mobilenet(), "auto").engine in ("csr", "pruned")


def test_mistakes_are_told():
    with pytest.raises(ValueError, match="no engine 'fast'; there are pruned, csr, dgl, native, native_half, auto"):
        compile_graph(mobilenet(), "fast")
    with pytest.raises(ValueError, match="no wired part"):
        compile_graph(shake(nn.Sequential(nn.Conv2d(3, 4, 3))), image_size=8)
    with pytest.raises(ValueError, match="needs image_size"):
        compile_graph(wired_inside())
    with pytest.raises(ValueError, match="csr runs in float32"):
        compile_graph(mobilenet(), "csr", dtype=torch.bfloat16)
    with pytest.raises(ValueError, match="GPU"):
        compile_graph(mobilenet(), "pruned", cuda_graphs=True)


def test_pruned_in_half_precision():
    network = mobilenet()
    compiled = compile_graph(network, "pruned", dtype=torch.bfloat16)
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        result = compiled(images)
    assert result.dtype == torch.bfloat16
    assert difference(network, compiled, images) < 3e-2


@pytest.mark.parametrize("backend", ["aot_eager", pytest.param("inductor", marks=pytest.mark.slow)])
def test_pruned_under_torch_compile(backend: str):
    network = mobilenet()
    compiled = torch.compile(compile_graph(network, "pruned"), backend=backend, fullgraph=True)
    assert difference(network, compiled, torch.randn(2, 3, 32, 32)) < 1e-4


def test_the_network_stays_as_it_was():
    network = wired_inside().train()
    before = copy.deepcopy(network.state_dict())
    compile_graph(network, "pruned", image_size=20)
    assert network.training
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name]) if isinstance(value, torch.Tensor) else value == before[name], name


@pytest.mark.parametrize("engine", ["pruned", "csr", "dgl"])
@pytest.mark.parametrize("name", ["mobilenet", "wired inside"])
def test_gradients_reach_the_images(name: str, engine: str):
    need(engine)
    make, size = NETWORKS[name]
    network = make()
    compiled = compile_graph(network, engine, image_size=size)
    gradients = []
    for module in (network, compiled):
        images = torch.ones(1, 3, size, size, requires_grad=True)
        module(images)[0, 0].backward()
        gradients.append(images.grad)
    torch.testing.assert_close(*gradients, rtol=1e-3, atol=1e-5)
    compiled.load_state_dict(compiled.state_dict())


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", ["mobilenet", "wired inside"])
def test_copies_and_pickles(name: str, engine: str):
    if engine == "dgl":
        pytest.skip("DGL's own graphs decide that")
    make, size = NETWORKS[name]
    compiled = compile_graph(make(), engine, threads=1, image_size=size)
    images = torch.randn(2, 3, size, size)
    with torch.no_grad():
        expected = compiled(images)
        assert torch.equal(copy.deepcopy(compiled)(images), expected)
        assert torch.equal(pickle.loads(pickle.dumps(compiled))(images), expected)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", ["mobilenet", "wired inside"])
def test_under_autocast(name: str, engine: str):
    need(engine)
    make, size = NETWORKS[name]
    network = make()
    compiled = compile_graph(network, engine, threads=1, image_size=size)
    with torch.autocast("cpu", torch.bfloat16):
        assert difference(network, compiled, torch.randn(2, 3, size, size)) < 3e-2


@pytest.mark.parametrize("engine", ["csr", "native"])
def test_a_network_in_half_precision(engine: str):
    network = mobilenet().bfloat16()
    compiled = compile_graph(network, engine, threads=1)
    images = torch.randn(2, 3, 32, 32).bfloat16()
    assert compiled(images).dtype == torch.bfloat16
    assert difference(network, compiled, images) < 3e-2


def test_another_precision_of_a_network_with_wired_parts():
    network = wired_inside()
    compiled = compile_graph(network, "pruned", image_size=21, dtype=torch.bfloat16)
    images = torch.randn(2, 3, 21, 21)
    assert compiled(images).dtype == torch.bfloat16
    assert difference(network, compiled, images) < 3e-2
    assert compile_graph(network, "auto", image_size=21, dtype=torch.bfloat16).engine == "pruned"


@pytest.mark.parametrize("engine", ENGINES)
def test_a_wired_layer_may_lose_all_its_edges(engine: str):
    need(engine)
    network = wired_inside()
    network[6].parametrizations.weight.original.data.zero_()
    compiled = compile_graph(network, engine, threads=1, image_size=21)
    assert difference(network, compiled, torch.randn(2, 3, 21, 21)) < 1e-4


class Tokens(nn.Module):
    """Linear layers over the last of three dimensions, and one that is never called."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Conv2d(3, 8, 4, 4)
        self.mix, self.unused = wire(nn.Linear(8, 12), 0.5), wire(nn.Linear(8, 12), 0.5)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.mix(self.embed(images).flatten(2).transpose(1, 2)).mean(1)


@pytest.mark.parametrize("engine", ENGINES)
def test_linear_layers_over_more_dimensions(engine: str):
    need(engine)
    network = Tokens().eval()
    compiled = compile_graph(network, engine, threads=1, image_size=16)
    assert difference(network, compiled, torch.randn(2, 3, 16, 16)) < 1e-4


def test_engines_of_the_last_few_sizes_are_kept():
    network = mobilenet()
    compiled = compile_graph(network, "native", threads=1)
    for size in range(33, 33 + 2 * MOST_SIZES):
        assert difference(network, compiled, torch.randn(1, 3, size, size)) < 1e-4
    assert len(compiled.sizes) == MOST_SIZES


def test_odd_arguments_are_told():
    for threads in (0, -1, 10_000):
        with pytest.raises(ValueError, match=f"1 to 1024 threads, not on {threads}"):
            compile_graph(mobilenet(), "native", threads=threads)
    with pytest.raises(ValueError, match="no images of -3 x -3 pixels"):
        compile_graph(mobilenet(), "pruned", image_size=-3)
    with pytest.raises(ValueError, match=r"\[batch, channels, height, width\], not \[3, 32, 32\]"):
        compile_graph(mobilenet(), "pruned")(torch.randn(3, 32, 32))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_pruned_on_a_gpu_with_cuda_graphs(dtype: torch.dtype):
    network = mobilenet().cuda()
    compiled = compile_graph(network, "pruned", dtype=dtype, cuda_graphs=True)
    tolerance = 3e-2 if dtype == torch.bfloat16 else 1e-3  # TensorFloat-32
    for batch in (1, 4, 2, 1):
        assert difference(network, compiled, torch.randn(batch, 3, 32, 32, device="cuda")) < tolerance
