"""Networks: shapes, the gradient of every parameter, and what the parts of a stage compute."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import models
from models.networks import edge_sums
from models.networks.mobilenetv1_like import STAGES, WiredStage, stage_prune_rate
from models.wirings.rules import WIRINGS, graphs

SMALL = {
    "mobilenetv1_like": {"image_size": 32, "stages": ((4, 8, 1, 1), (8, 16, 2, 3))},
    "static": {"image_size": 32, "dim": 40, "downsample_dim": 8, "feature_dim": 6},
    "discrete_time": {"image_size": 32, "dim": 40, "downsample_dim": 8, "feature_dim": 6},
    "continuous_time": {"image_size": 32, "dim": 40, "downsample_dim": 8, "feature_dim": 6},
}


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("wiring", WIRINGS)
def test_every_parameter_gets_a_finite_gradient(name, wiring):
    torch.manual_seed(0)
    network = models.build_network(name, classes=5, wiring=wiring, prune_rate=0.5, **SMALL[name])
    logits = network(torch.randn(6, 3, 32, 32))
    assert logits.shape == (6, 5)
    F.cross_entropy(logits, torch.arange(6) % 5).backward()
    for parameter_name, parameter in network.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert parameter.grad.isfinite().all(), parameter_name


@pytest.mark.parametrize("small", [False, True])
@pytest.mark.parametrize("channels", [1, 3])
def test_mobilenet_like_takes_one_image_and_any_channels(small, channels):
    network = models.build_network(
        "mobilenetv1_like", classes=7, image_size=224, in_channels=channels, small=small, **{"stages": ((4, 8, 1, 1),)}
    ).eval()
    assert network(torch.randn(1, channels, 64, 48)).shape == (1, 7)


def test_the_first_conv_halves_images_above_64_pixels():
    for size, stride in ((64, 1), (65, 2)):
        for name in ("mobilenetv1", "mobilenetv1_like"):
            assert models.build_network(name, classes=2, image_size=size).conv1.stride == (stride, stride)


def node_by_node(stage: WiredStage, x: torch.Tensor) -> torch.Tensor:
    """A stage as its definition reads: one node after another."""
    matrix = stage.graph.matrix()
    planes = []
    for channel in range(stage.in_channels):
        kernel = stage.downsample[0].weight[channel : channel + 1]
        norm = single(stage.norm[0], channel)
        planes.append(F.conv2d(F.relu(norm(x[:, channel : channel + 1])), kernel, stride=stage.stride, padding=1))
    sums = []
    for node in range(len(matrix)):
        available = stage.in_channels + node // stage.out_channels * stage.out_channels
        total = sum(matrix[node, i] * planes[i] for i in range(available))
        sums.append(total)
        group, channel = divmod(node, stage.out_channels)
        if group < stage.blocks - 1:
            kernel = stage.conv.weight[node : node + 1]
            planes.append(F.conv2d(F.relu(single(stage.norm[group + 1], channel)(total)), kernel, padding=1))
    return torch.cat(sums[-stage.out_channels :], dim=1)


def single(norm: nn.BatchNorm2d, channel: int):
    scale = norm.weight[channel] / (norm.running_var[channel] + norm.eps).sqrt()
    return lambda plane: (plane - norm.running_mean[channel]) * scale + norm.bias[channel]


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("blocks", [1, 2, 4])
def test_a_stage_is_its_graph(blocks, stride):
    torch.manual_seed(0)
    stage = WiredStage(3, 4, stride, blocks, "dnw", 0.3).double().eval()
    for norm in stage.norm:
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2)
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
    x = torch.randn(2, 3, 9, 7, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(stage(x), node_by_node(stage, x))


def test_the_edge_budget_of_the_stages():
    kept = [round((1 - stage_prune_rate(i, o, b, 0.775)) * (i + o * (b - 1)) * o * b) for i, o, _, b in STAGES]
    assert kept == [round(0.225**2 * (i * o + (b - 1) * o * o)) for i, o, _, b in STAGES]


def test_only_edges_that_can_act_are_stored():
    network = models.build_network("mobilenetv1_like", classes=10, image_size=32, wiring="dnw", prune_rate=0.775)
    stored = [graph.weight.numel() for _, graph in graphs(network)]
    assert stored == [2_048, 32_768, 131_072, 4_718_592, 2_097_152]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_sparse_sums_equal_dense_ones_with_their_gradients(dtype):
    torch.manual_seed(0)
    results = []
    values = torch.randn(5, 7, dtype=dtype)
    values[torch.rand(5, 7) < 0.6] = 0
    values[2] = 0
    values[:, 3] = 0
    planes = [torch.randn(2, 4, 3, 3, dtype=dtype), torch.randn(2, 3, 3, 3, dtype=dtype)]
    factors = torch.randn(2, 5, 3, 3, dtype=dtype)
    for sums in (edge_sums.DenseSums, edge_sums.SparseSums):
        weight = values.clone().requires_grad_()
        first, second = (p.clone().requires_grad_() for p in planes)
        sources = sums(first)
        sources.append(second)
        out = sources.sum(weight)
        (out * factors).sum().backward()
        results.append((out.detach(), weight.grad, first.grad, second.grad))
    for dense, sparse in zip(*results, strict=True):
        torch.testing.assert_close(sparse, dense)
    assert results[1][1].count_nonzero() == 35  # edges that do not act get their gradient as well


def test_sparse_sums_are_chosen_where_few_edges_of_many_act():
    few, many = torch.zeros(512, 1024), torch.ones(512, 1024)
    few[:, :10] = 1
    planes = torch.zeros(2, 1024, 4, 4)
    assert edge_sums.sparse_sums_pay([few], planes)
    assert not edge_sums.sparse_sums_pay([many], planes)
    assert not edge_sums.sparse_sums_pay([few[:8, :16]], planes)
    assert not edge_sums.sparse_sums_pay([few], planes.bfloat16())


def test_a_network_gives_the_same_whichever_sums_it_uses(monkeypatch):
    torch.manual_seed(0)
    stages = ((4, 16, 1, 1), (16, 32, 2, 4))
    network = models.build_network(
        "mobilenetv1_like", classes=4, image_size=16, wiring="dnw", prune_rate=0.8, stages=stages
    ).double()
    images = torch.randn(3, 3, 16, 16, dtype=torch.float64)
    gradients = []
    for pay in (True, False):
        monkeypatch.setattr("models.networks.mobilenetv1_like.sparse_sums_pay", lambda *_, pay=pay: pay)
        network.zero_grad()
        network(images).square().sum().backward()
        gradients.append([graph.weight.grad.clone() for _, graph in graphs(network)])
    for sparse, dense in zip(*gradients, strict=True):
        torch.testing.assert_close(sparse, dense, rtol=1e-9, atol=1e-12)


def continuous(**arguments):
    torch.manual_seed(0)
    return models.build_network(
        "continuous_time", classes=3, wiring="dnw", prune_rate=0.5, **SMALL["static"], **arguments
    )


def test_continuous_time_counts_its_evaluations():
    images = torch.randn(2, 3, 32, 32)
    adaptive, fixed = continuous().eval(), continuous(solver="rk4", solver_steps=3).eval()
    adaptive(images)
    fixed(images)
    assert adaptive.function_evaluations % 6 == 2  # dopri5: two to start, six a step
    assert fixed.function_evaluations == 4 * 3


def test_a_fixed_step_solver_nears_the_adaptive_one():
    images = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    tight = continuous(tolerance=1e-6, relu_in_place=False).double().eval()(images)
    gaps = []
    for steps in (8, 32):
        fixed = continuous(solver="rk4", solver_steps=steps, relu_in_place=False).double().eval()(images)
        gaps.append(float((fixed - tight).detach().abs().max()))
    assert gaps[1] < gaps[0] / 4
    assert gaps[1] < 1e-2


def test_the_relu_in_place_replaces_the_solvers_state():
    images = torch.randn(2, 3, 32, 32)
    assert not torch.allclose(continuous().eval()(images), continuous(relu_in_place=False).eval()(images), atol=1e-3)


def test_the_gradient_through_the_solver_is_the_functions():
    network = continuous(solver="rk4", solver_steps=2).double().eval()
    images = torch.randn(1, 3, 32, 32, dtype=torch.float64)
    weight = network.step.conv.weight
    network(images).sum().backward()
    step = 1e-6
    with torch.no_grad():
        for index in ((3, 0, 1, 1), (20, 0, 0, 2)):
            weight[index] += step
            up = network(images).sum()
            weight[index] -= 2 * step
            down = network(images).sum()
            weight[index] += step
            assert float(weight.grad[index]) == pytest.approx(float((up - down) / (2 * step)), rel=1e-4, abs=1e-7)


def test_the_read_out_is_the_mean_of_four_positions():
    network = models.build_network("static", classes=3, **SMALL["static"]).eval()
    state = torch.zeros(1, 40, 8, 8)
    state[:, :, 2:4, 2:4] = 1
    inside = network.read_out(state)
    state[:, :, 4:] = state[:, :, :, 4:] = 9
    assert network.read_out(state).equal(inside)
    torch.testing.assert_close(inside, network.fc(torch.ones(1, 6)))


def test_mistakes_are_told_in_a_sentence():
    with pytest.raises(ValueError, match="There is no network 'mobilnet'; there are mobilenetv1_like, static"):
        models.build_network("mobilnet")
    with pytest.raises(ValueError, match="at least 16 pixels, not 8"):
        models.build_network("static", classes=10, image_size=8)
    with pytest.raises(ValueError, match="do not split evenly into 6 blocks"):
        models.build_network("static", classes=10, image_size=32, layers=7, dim=801)
    with pytest.raises(ValueError, match="ShuffleNetV2 has the widths"):
        models.build_network("shufflenetv2", classes=10, width_mult=0.7)
    with pytest.raises(ValueError, match="leaves no channel"):
        models.build_network("mobilenetv1", classes=10, image_size=32, width_mult=0.01)
