"""Optional values that a test knows to be set, with their narrowed type."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

T = TypeVar("T")


def present(value: T | None) -> T:
    """Return `value`, which must not be None."""
    assert value is not None
    return value


def all_present(values: Iterable[T | None]) -> list[T]:
    """The list of `values`, none of which is None."""
    return [present(value) for value in values]


def decoded(data: bytes, flags: int = cv2.IMREAD_UNCHANGED) -> NDArray[np.uint8]:
    """The pixels of a readable PNG or JPEG, uint8[H, W] or uint8[H, W, C]."""
    image = present(cv2.imdecode(np.frombuffer(data, np.uint8), flags))
    assert image.dtype == np.uint8
    return image.astype(np.uint8, copy=False)
