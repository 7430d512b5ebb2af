"""The type of a pydantic field, in words for messages and help."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt
from pydantic import GetCoreSchemaHandler
from pydantic.fields import FieldInfo
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

NOUNS = {bool: "true or false", str: "text", int: "a whole number", float: "a number"}


@dataclass(frozen=True)
class OneOf:
    """An annotation of text: it is one of the names of a table.

    Attributes:
        names: the table, read anew at each check.
        old_names: further spellings, with the names that they stand for.
    """

    names: Iterable[str]
    old_names: Mapping[str, str] = field(default_factory=dict)

    def _name(self, value: str) -> str:
        name = self.old_names.get(value, value)
        if name not in set(self.names):
            raise PydanticCustomError("one_of", "not one of the names")
        return name

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self._name, handler(source))


def is_switch(field: FieldInfo) -> bool:
    """Whether a field is true or false."""
    return field.annotation is bool


def is_list(field: FieldInfo) -> bool:
    """Whether a field takes several values."""
    return any(get_origin(choice) is list for choice in choices(field.annotation))


def is_text(field: FieldInfo) -> bool:
    """Whether a field takes text, or a list of texts: any, or one of some words."""
    return any(_holds_text(choice) for choice in choices(field.annotation))


def _holds_text(annotation: Any) -> bool:
    if get_origin(annotation) in (Annotated, list):
        return _holds_text(get_args(annotation)[0])
    return annotation is str or get_origin(annotation) is Literal


def expectation(field: FieldInfo) -> str:
    """What values a field takes, in words: "a number, above 0", "one of ddp, dp"."""
    return _in_words(field.annotation, field.metadata)


def choices(annotation: Any) -> tuple[Any, ...]:
    """The members of a union, None among them; of anything else, itself."""
    return get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)


def _in_words(annotation: Any, metadata: list[Any]) -> str:
    if get_origin(annotation) is Annotated:
        inner, *extra = get_args(annotation)
        return _in_words(inner, [*extra, *metadata])
    tables = [extra for extra in metadata if isinstance(extra, OneOf)]
    if tables:
        return f"one of {', '.join(tables[0].names)}"
    if get_origin(annotation) is Literal:
        names = get_args(annotation)
        return f"one of {', '.join(names)}" if len(names) > 1 else str(names[0])
    if get_origin(annotation) is list:
        return f"a list of {', or '.join(map(_in_plural, choices(get_args(annotation)[0])))}"
    members = [member for member in choices(annotation) if member is not type(None)]
    if members != [annotation]:
        return ", or ".join(_in_words(member, metadata) for member in members)
    return ", ".join(filter(None, [NOUNS[annotation], _bounds(metadata)]))


def _in_plural(annotation: Any) -> str:
    if get_origin(annotation) is Literal:
        return f"names out of {', '.join(get_args(annotation))}"
    noun, *bounds = _in_words(annotation, []).removeprefix("a ").split(", ")
    return ", each ".join([f"{noun}s", *bounds])


def _bounds(metadata: list[Any]) -> str:
    flat = [part for entry in metadata for part in (entry.metadata if isinstance(entry, FieldInfo) else [entry])]
    words = {Ge: ("at least", "ge"), Gt: ("above", "gt"), Le: ("at most", "le"), Lt: ("below", "lt")}
    return " and ".join(
        f"{phrase} {getattr(bound, attribute)}"
        for kind, (phrase, attribute) in words.items()
        for bound in flat
        if isinstance(bound, kind)
    )
