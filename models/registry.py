"""Tables of what is chosen by name. They are complete from the start, and import what they name when it is used."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping
from importlib import import_module
from typing import Any, Generic, TypeVar

T = TypeVar("T")


def resolve(place: str) -> Any:
    """What stands at a place "package.module:attribute"; the module is imported."""
    module, _, attribute = place.partition(":")
    return getattr(import_module(module), attribute)


class Registry(MutableMapping[str, T], Generic[T]):
    """A table from names to objects, in the order in which they were entered.

    An object may be entered by its place, "package.module:attribute". To read the names imports nothing; the module of
    an entry is imported when the entry is first read. More entries may be added at any time: `registry[name] = object`.

    Args:
        kind: what the entries are, in the singular, for messages.
        entries: objects, or their places, by name.
    """

    def __init__(self, kind: str, entries: Mapping[str, T | str]) -> None:
        self.kind = kind
        self._entries: dict[str, Any] = dict(entries)

    def __getitem__(self, name: str) -> T:
        entry = self._entries[name]
        return resolve(entry) if isinstance(entry, str) else entry

    def __setitem__(self, name: str, entry: T | str) -> None:
        self._entries[name] = entry

    def __delitem__(self, name: str) -> None:
        del self._entries[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def choose(self, name: str) -> T:
        """The entry of that name. Raises ValueError, with the names that there are, where there is none."""
        if name not in self._entries:
            raise ValueError(f"There is no {self.kind} {name!r}; there are {', '.join(self._entries)}.")
        return self[name]
