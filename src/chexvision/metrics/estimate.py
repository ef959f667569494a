"""A measured value with its interval."""

from __future__ import annotations

from typing import TypeAlias

from pydantic import BaseModel, ConfigDict

Interval: TypeAlias = tuple[float, float] | None  # both ends; None where too few resamples define the value


class Estimate(BaseModel):
    """A value and its interval, both null where undefined; the interval is null too where none was asked for."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    value: float | None = None
    interval: Interval = None


UNDEFINED = Estimate()
