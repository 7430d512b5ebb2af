"""Looking at a network from outside: in evaluation mode, and call by call. The network is left as it was."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from models.networks.planes import torch_form

Before = Callable[[str, nn.Module, tuple[Any, ...]], None]
"""Is told the name of a module, the module and what it is called with."""
After = Callable[[str, nn.Module, Any], None]
"""Is told the name of a module, the module and its result; None where the module raised an exception."""


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """The network in evaluation mode and without gradients; afterwards every module is in its own mode again."""
    training = [module for module in network.modules() if module.training]
    network.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module in training:
            module.training = True


@contextmanager
def watched_calls(
    network: nn.Module, names: Iterable[str], before: Before | None = None, after: After | None = None
) -> Iterator[None]:
    """Calls of the named modules are told to `before` and `after`, as long as the context lasts.

    Wired networks run in torch's form then, for the native one calls no modules.

    Args:
        network: whose modules they are; its own name is "".
        names: as `network.named_modules` gives them. A name may come twice; its calls are told once.
        before: called ahead of the module.
        after: called behind the module, also where it raises an exception.
    """
    handles = []
    try:
        for name in dict.fromkeys(names):
            module = network.get_submodule(name)
            if before is not None:
                handles.append(module.register_forward_pre_hook(lambda m, given, name=name: before(name, m, given)))
            if after is not None:
                handles.append(
                    module.register_forward_hook(
                        lambda m, _, result, name=name: after(name, m, result), always_call=True
                    )
                )
        with torch_form():
            yield
    finally:
        for handle in handles:
            handle.remove()


@dataclass(frozen=True)
class Call:
    """What went into one call of a module first, and what came out."""

    given: Any
    result: Any


def copied(tensor: Tensor) -> Tensor:
    """The tensor's values as they are now; layers that work in place cannot change them."""
    return tensor.detach().clone()


@contextmanager
def recorded_calls(
    network: nn.Module, names: Iterable[str], keep: Callable[[Tensor], Any] = copied
) -> Iterator[dict[str, list[Call]]]:
    """The calls of the named modules by name, each in the order of its ends; a module that is not called has none.

    Args:
        network, names: see `watched_calls`. Each module takes a tensor first and gives a tensor.
        keep: what is kept of these tensors.
    """
    calls: dict[str, list[Call]] = {}
    open_calls: list[Any] = []

    def before(_: str, __: nn.Module, given: tuple[Any, ...]) -> None:
        open_calls.append(keep(given[0]))

    def after(name: str, _: nn.Module, result: Any) -> None:
        given = open_calls.pop()
        if result is not None:
            calls.setdefault(name, []).append(Call(given, keep(result)))

    with watched_calls(network, names, before, after):
        yield calls
