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


Whole = Annotated[int, BeforeValidator(_refuse_switch)]
Number = Annotated[float, BeforeValidator(_refuse_switch)]
Count = Annotated[Whole, Field(ge=1)]
Index = Annotated[Whole, Field(ge=0)]
Positive = Annotated[Number, Field(gt=0)]
NotNegative = Annotated[Number, Field(ge=0)]
Share = Annotated[Number, Field(ge=0, lt=1)]
Fraction = Annotated[Number, Field(gt=0, lt=1)]
Chance = Annotated[Number, Field(gt=0, le=1)]
Seed = Annotated[Whole, Field(ge=0, lt=2**32)]
FilePath = Annotated[str, AfterValidator(os.path.expanduser)]


class Section(BaseModel):
    """Settings that belong together."""

    model_config = ConfigDict(extra="forbid", validate_assignment=True, populate_by_name=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _read_loosely(cls, value: Any, info: ValidationInfo) -> Any:
        allowed = choices(cls.model_fields[str(info.field_name)].annotation)
        if type(None) in allowed and (value is False or value in ("", "none", "null")):
            return None
        takes_list = any(get_origin(choice) is list for choice in allowed)
        return [value] if takes_list and value is not None and not isinstance(value, list | tuple) else value
