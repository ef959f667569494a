"""Image files as a model takes them, prepared exactly as its training images were."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from chexvision.images.radiograph import Grey
from chexvision.images.reading import as_radiograph
from chexvision.models.classifier import CheXVision
from chexvision.parallel import map_in_order, usable_cores


def prepare(model: CheXVision, path: Path) -> Grey:
    """Read an image file as uint8[S, S], S being the model's image size.

    Raises:
        UsageError: there is no such file, or it is not a radiograph.
    """
    return model.preprocessing.apply(as_radiograph(path).pixels)


def prepared(model: CheXVision, paths: Sequence[Path], batch_size: int) -> Iterator[NDArray[np.uint8]]:
    """Image files in batches of at most `batch_size`: uint8[B, S, S], further ones decoded while one is used.

    Raises:
        UsageError: a file is missing, which is seen before the first batch, or is not an image.
    """
    missing = [path for path in paths if not path.exists()]
    if missing:
        prepare(model, missing[0])  # raises what is wrong with it
    images = map_in_order(partial(prepare, model), paths, usable_cores())
    while batch := list(islice(images, batch_size)):
        yield np.stack(batch)
