"""The chosen edges are those of a full stable sort."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from models.native import selection as native
from models.wirings import selection
from models.wirings.selection import keep_largest


def by_sort(weight: torch.Tensor, k: int) -> torch.Tensor:
    order = weight.abs().sort(dim=-1, descending=True, stable=True).indices[..., :k]
    return torch.zeros_like(weight, dtype=torch.bool).scatter_(-1, order, True)


@pytest.mark.parametrize("k", [0, 25, 60, 61])
@pytest.mark.parametrize("shape", [(300_000,), (60,), (4, 60)])
def test_an_exported_choice_is_the_same(shape, k):
    class Choosing(torch.nn.Module):
        def forward(self, weight: torch.Tensor) -> torch.Tensor:
            return keep_largest(weight, k)

    torch.manual_seed(0)
    exported = torch.export.export(Choosing(), (torch.randn(shape),)).module()
    for weight in (torch.randn(shape), torch.randint(-4, 4, shape).float()):
        assert exported(weight).equal(by_sort(weight, k))


@given(
    values=st.lists(st.integers(-4, 4), min_size=1, max_size=60),
    rows=st.integers(1, 4),
    k=st.integers(-1, 61),
    flat=st.booleans(),
)
@settings(deadline=None, max_examples=300)
def test_agrees_with_a_stable_sort_where_many_are_equal(values, rows, k, flat):
    weight = torch.tensor(values, dtype=torch.float32)
    if not flat:
        weight = torch.stack([weight.roll(row) for row in range(rows)])
    assert keep_largest(weight, k).equal(by_sort(weight, max(k, 0)))


@pytest.mark.parametrize("k", [1, 7, 5000, 300_000, 599_999])
@pytest.mark.parametrize("kind", ["normal", "tied", "sorted", "few"])
def test_large_weights(kind, k):
    torch.manual_seed(k)
    n = 600_000
    weight = {
        "normal": torch.randn(n),
        "tied": (torch.randn(n) * 30).round(),
        "sorted": torch.linspace(-1, 1, n),
        "few": torch.zeros(n).index_fill_(0, torch.randint(n, (k // 2 + 1,)), 1.0),
    }[kind]
    assert keep_largest(weight, k).equal(by_sort(weight, k))


def test_a_sample_that_misleads_still_gives_the_exact_set():
    n = 1 << 20
    weight = torch.rand(n)
    weight[selection._sampled(n, weight.device)] += 10  # just the entries that the threshold is guessed from
    assert keep_largest(weight, 100_000).equal(by_sort(weight, 100_000))


@pytest.mark.parametrize("rows", [2048, 2584, 10946])  # two of them Fibonacci's
@pytest.mark.parametrize("columns", [96, 128, 512])
@pytest.mark.parametrize("distance", [2, 3, 16, 64])
def test_columns_of_larger_weights_do_not_mislead(monkeypatch, rows, columns, distance):
    torch.manual_seed(0)
    weight = torch.randn(rows, columns)
    weight[:, ::distance] *= 3
    weight[:, columns // 2 :] *= 2
    weight[::distance] *= 3
    guessed = []
    kernel = native.keep_largest

    def noted(*arguments):
        guessed.append(kernel(*arguments))
        return guessed[-1]

    monkeypatch.setattr(native, "keep_largest", noted)
    k = weight.numel() // 20
    assert keep_largest(weight.flatten(), k).equal(by_sort(weight.flatten(), k))
    assert guessed[0] is not None


def test_weights_that_are_not_numbers_do_not_hang():
    weight = torch.randn(300_000)
    weight[::3] = float("nan")
    assert keep_largest(weight, 1000).shape == weight.shape


def test_double_precision_and_no_gradient():
    weight = torch.randn(100, dtype=torch.float64, requires_grad=True)
    kept = keep_largest(weight, 10)
    assert kept.equal(by_sort(weight.detach(), 10))
    assert not kept.requires_grad


class Recorder(TorchDispatchMode):
    """Notes the operations that run."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.names = {*getattr(self, "names", ()), str(function)}
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("n", [100, 1_000_000])
def test_nothing_is_sorted(n):
    with Recorder() as recorder:
        keep_largest(torch.randn(n), n // 20)
    assert any("kthvalue" in name for name in recorder.names)
    assert not any("sort" in name for name in recorder.names)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("k", "low", "high"), [(1, 0.0, 9.0), (5000, 0.5, 0.5), (400, 0.5, 3.0), (30_000, 0.0, 0.0)])
def test_a_guess_is_taken_where_it_is_right_and_refused_where_it_is_not(dtype, k, low, high):
    torch.manual_seed(k)
    weight = (torch.randn(30_000, dtype=dtype) * 20).round() / 20
    kth = float(weight.abs().sort(descending=True).values[k - 1])
    mask = native.keep_largest(weight, k, low, high)
    if low <= kth <= high:
        assert mask is not None
        assert mask.equal(by_sort(weight, k))
    else:
        assert mask is None


def test_what_is_no_number_is_refused_by_the_kernel():
    weight = torch.randn(10_000)
    weight[9_999] = float("nan")
    assert native.keep_largest(weight, 10, 0.0, 9.0) is None


@pytest.mark.parametrize("threads", [1, 2, 3, 7])
def test_any_number_of_threads_keeps_the_same(threads):
    torch.manual_seed(0)
    weight = (torch.randn(70_001) * 9).round()
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        assert keep_largest(weight, 12_345).equal(by_sort(weight, 12_345))
    finally:
        torch.set_num_threads(before)
