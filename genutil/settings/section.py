"""What every section of an experiment's settings is made of."""

from __future__ import annotations

import os
from typing import Annotated, Any, get_origin

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from genutil.settings.field_types import choices


def _refuse_switch(value: Any) -> Any:
    if isinstance(value, bool):
        raise PydanticCustomError("number_expected", "a switch is no number")
    return value


def _refuse_large(value: int) -> int:
    if abs(value) > LARGEST_WHOLE:
        raise PydanticCustomError("extreme", "beyond what any run can have")
    return value


def _refuse_extreme(value: float) -> float:
    if abs(value) > LARGEST:
        raise PydanticCustomError("extreme", "beyond what any run can have")
    return value


LARGEST_WHOLE, LARGEST = 2**31 - 1, 1e30
"""Beyond them no run has a meaning, and arithmetic of 32 bits overflows."""

Whole = Annotated[int, BeforeValidator(_refuse_switch), AfterValidator(_refuse_large)]
Number = Annotated[float, BeforeValidator(_refuse_switch), AfterValidator(_refuse_extreme)]
Count = Annotated[Whole, Field(ge=1)]
Index = Annotated[Whole, Field(ge=0)]
Positive = Annotated[Number, Field(gt=0)]
NotNegative = Annotated[Number, Field(ge=0)]
Share = Annotated[Number, Field(ge=0, lt=1)]
Fraction = Annotated[Number, Field(gt=0, lt=1)]
Chance = Annotated[Number, Field(gt=0, le=1)]
Seed = Annotated[int, BeforeValidator(_refuse_switch), Field(ge=0, lt=2**32)]
FilePath = Annotated[str, AfterValidator(os.path.expanduser)]


def _refuse_odd_text(value: Any) -> None:
    """No path and no message can have a NUL, or halves of letters that no encoding has."""
    texts = value if isinstance(value, list | tuple) else [value]
    for text in texts:
        if isinstance(text, str) and ("\0" in text or any("\ud800" <= letter <= "\udfff" for letter in text)):
            raise PydanticCustomError("odd_text", "holds a NUL or bytes that are no text")


class Section(BaseModel):
    """Settings that belong together."""

    model_config = ConfigDict(extra="forbid", validate_assignment=True, populate_by_name=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _read_loosely(cls, value: Any, info: ValidationInfo) -> Any:
        _refuse_odd_text(value)
        allowed = choices(cls.model_fields[str(info.field_name)].annotation)
        off = value is False and bool not in allowed
        if type(None) in allowed and (off or (isinstance(value, str) and value in ("", "none", "null"))):
            return None
        takes_list = any(get_origin(choice) is list for choice in allowed)
        return [value] if takes_list and value is not None and not isinstance(value, list | tuple) else value
