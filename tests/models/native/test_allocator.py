"""Memory of large tensors is given to those made next, never much more of it than was used at once, and given back."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import pytest
import torch

from genutil.run import run
from genutil.training.loop import Training
from models.native import allocator, library
from models.native.allocator import kept_bytes, memory_kept, used_bytes
from tests.genutil.runs import tiny

MIB = 1 << 20


@pytest.fixture
def kept():
    with memory_kept() as is_so:
        if not is_so:
            pytest.skip("no C++ compiler, or not Linux")
        yield


def mebibytes(count: float) -> torch.Tensor:
    return torch.empty(int(count * MIB), dtype=torch.uint8)


def test_a_freed_block_is_given_to_the_next_tensor_that_it_fits(kept) -> None:
    for size in (1.5, 3.3, 40):
        first = mebibytes(size)
        first.fill_(7)
        place = first.data_ptr()
        assert place % 64 == 0
        del first
        assert kept_bytes() >= size * MIB
        again = mebibytes(size)
        assert again.data_ptr() == place
        assert (again[:: 1 << 12] == 7).all()  # nobody has cleared it
        del again
        smaller = mebibytes(0.98 * size)
        assert smaller.data_ptr() == place
        del smaller
        assert kept_bytes() >= size * MIB
        much_smaller = mebibytes(max(0.5 * size, 1))
        assert much_smaller.data_ptr() != place


def test_small_tensors_are_torchs_own(kept) -> None:
    before = kept_bytes()
    small = mebibytes(0.5)
    del small
    assert kept_bytes() == before


def test_what_is_kept_and_what_is_used_is_at_most_an_eighth_more_than_what_was_used_at_once(kept) -> None:
    most = used_bytes()
    tensors: list[torch.Tensor] = []
    generator = torch.Generator().manual_seed(0)
    for step in range(400):
        if step % 3 == 2 and tensors:
            tensors.pop(int(torch.randint(len(tensors), (), generator=generator)))
        else:
            tensors.append(mebibytes(1 + 9 * float(torch.rand((), generator=generator))))
        most = max(most, used_bytes())
        if len(tensors) > 12:
            tensors.clear()
        assert used_bytes() >= sum(tensor.nbytes for tensor in tensors)
        assert kept_bytes() + used_bytes() <= most + most // 8
    assert kept_bytes() > 0


def test_tensors_keep_their_values_where_they_are_resized_copied_and_outlive_the_block() -> None:
    with memory_kept():
        tensor = torch.arange(MIB, dtype=torch.float32)
        other = tensor.clone()
        tensor.resize_(2 * MIB)
        tensor[MIB:] = 1
    assert torch.equal(tensor[:MIB], other)
    assert kept_bytes() == 0
    del tensor, other
    assert kept_bytes() == 0  # outside, nothing is kept


def test_a_block_within_another_does_not_end_it(kept) -> None:
    with memory_kept() as inner:
        assert inner
    tensor = mebibytes(3)
    del tensor
    assert kept_bytes() >= 3 * MIB


def test_what_is_kept_is_given_back_where_there_is_no_memory(kept) -> None:
    tensor = mebibytes(64)
    del tensor
    assert kept_bytes() >= 64 * MIB
    with pytest.raises(RuntimeError, match="can't allocate memory"):
        torch.empty(1 << 55, dtype=torch.uint8)
    assert kept_bytes() == 0
    with pytest.raises(RuntimeError, match="negative number"):
        torch.UntypedStorage(-5)


def test_more_than_there_is_is_refused_as_by_torch(kept) -> None:
    with pytest.raises(RuntimeError, match="can't allocate memory"):
        torch.empty(1 << 55, dtype=torch.uint8)


def test_threads_take_and_free_at_once(kept) -> None:
    wrong: list[int] = []

    def work(number: int) -> None:
        for turn in range(200):
            tensor = mebibytes(1 + (turn * number) % 5)
            tensor[:: 1 << 12] = number
            if (tensor[:: 1 << 12] != number).any():
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_a_process_that_is_forked_has_memory_of_its_own(kept) -> None:
    tensor = torch.full((MIB,), 3.0)
    child = os.fork()
    if not child:
        status = 1
        try:
            torch.set_num_threads(1)  # as workers of a loader do: OpenMP's threads are not in the child
            tensor.fill_(4.0)
            more = torch.full((MIB,), 5.0)
            status = 0 if float(more.sum()) == 5 * MIB else 1
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert (tensor == 3).all()


@pytest.mark.parametrize("wiring", ["dnw", "random"])
def test_a_training_has_the_same_weights(kept, wiring: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = allocator._load()
    assert kernel is not None
    kernel.wirings_keep_memory(0)  # until the training itself asks for it
    kept_at: list[int] = []
    update = Training.update

    def watched(self: Training, *given: Any) -> Any:
        found = update(self, *given)
        kept_at.append(kept_bytes())
        return found

    monkeypatch.setattr(Training, "update", watched)
    weights = []
    for keep in (True, False):
        kept_at.clear()
        run(tiny(tmp_path / str(keep), wiring=wiring, num_epochs=2, batch_size=1000, keep_memory=keep))
        assert (max(kept_at) > 0) == keep
        (path,) = (tmp_path / str(keep)).rglob("last.pt")
        weights.append(torch.load(path, weights_only=True)["network"])
    for name, value in weights[0].items():
        if isinstance(value, torch.Tensor):
            assert torch.equal(value, weights[1][name]), name
    assert kept_bytes() == 0


def test_without_a_compiler_torchs_own_memory_serves(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> None:
        raise library.NoCompilerError("there is none")

    allocator._load.cache_clear()
    monkeypatch.setattr(library, "load_library", fail)
    for found in (True, False):
        monkeypatch.setattr(library, "find_compiler", (lambda: ["c++"]) if found else fail)
        with memory_kept() as is_so:
            assert not is_so
            assert kept_bytes() == 0
        told = "Memory is not kept from step to step: there is none\n"
        assert capsys.readouterr().err == (told if found else "")  # that there is no compiler, the kernels tell
        allocator._load.cache_clear()


def test_nothing_is_done_where_it_is_not_wanted() -> None:
    with memory_kept(wanted=False) as is_so:
        tensor = mebibytes(3)
        del tensor
        assert not is_so
        assert kept_bytes() == 0
