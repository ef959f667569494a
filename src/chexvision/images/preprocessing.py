"""From an original radiograph to the input of a model, in the same steps for training and prediction."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from pydantic import Field, model_validator

from chexvision.config.data_config import ClaheConfig, Section
from chexvision.images.radiograph import PIXEL_MEAN, PIXEL_STD, Grey, make_clahe, resize_area

LARGEST_SHARD_SIZE = 4096


class Preprocessing(Section):
    """The steps in their order: resize to the shards' size, resize to the image size, equalize, normalize.

    Shards contain originals that were resized once; training resizes them again if `image_size` is smaller. Resizing
    an original in one step gives a visibly sharper image, so prediction takes both steps as well.

    Args:
        shard_size: side in pixels of the square images in the shards; None if they have no common size, and for
            models saved before it was recorded: originals are then resized in one step.
        image_size: side in pixels of the square input images.
        interpolation: "area": pixels are averaged by area; images smaller than the size are interpolated linearly.
        clahe: histogram equalization of the resized image.
        mean: subtracted from pixels in [0, 1].
        std: the divisor of the difference.
    """

    shard_size: Annotated[int, Field(ge=8, le=LARGEST_SHARD_SIZE)] | None = None
    image_size: Annotated[int, Field(ge=8, le=1024)] = 320
    interpolation: Literal["area"] = "area"
    clahe: ClaheConfig = ClaheConfig(enabled=True, clip_limit=2.0, tiles=8)
    mean: Annotated[float, Field(ge=0, le=1)] = PIXEL_MEAN
    std: Annotated[float, Field(ge=1e-3, le=1)] = PIXEL_STD

    @model_validator(mode="after")
    def _reduces(self) -> Preprocessing:
        if self.shard_size is not None and self.image_size > self.shard_size:
            raise ValueError(f"image_size {self.image_size} is above shard_size {self.shard_size}")
        return self

    def apply(self, grey: Grey) -> Grey:
        """An original, or an image of the shards, uint8[H, W], as uint8[image_size, image_size]."""
        for size in (self.shard_size, self.image_size):
            if size is not None:
                grey = resize_area(grey, size)
        if self.clahe.enabled:
            grey = np.asarray(make_clahe(self.clahe.clip_limit, self.clahe.tiles).apply(grey), dtype=np.uint8)
        return grey
