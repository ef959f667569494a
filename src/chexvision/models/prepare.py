"""Image files as a model takes them, prepared exactly as its training images were."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from chexvision.config import ClaheConfig
from chexvision.errors import UsageError
from chexvision.models.classifier import CheXVision
from chexvision.radiograph import Grey, decode_grey, make_clahe, resize_area


def clahe_of(model: CheXVision) -> ClaheConfig:
    """The histogram equalisation that the model's training images had."""
    limit = model.clahe_clip_limit
    return ClaheConfig(enabled=limit > 0, clip_limit=limit or 1.0, tiles=model.clahe_tiles)


def prepare(model: CheXVision, path: Path) -> Grey:
    """Read an image file as uint8[S, S], S being the model's image size.

    Raises:
        UsageError: there is no such file, or it is no image.
    """
    try:
        grey = resize_area(decode_grey(path.read_bytes()), model.image_size)
    except (OSError, ValueError) as error:
        raise UsageError(
            f"{path}: {getattr(error, 'strerror', None) or error}; give a PNG or JPEG radiograph"
        ) from None
    if not model.clahe_clip_limit:
        return grey
    return np.asarray(make_clahe(model.clahe_clip_limit, model.clahe_tiles).apply(grey), dtype=np.uint8)


def prepared(model: CheXVision, paths: Sequence[Path], batch_size: int) -> Iterator[NDArray[np.uint8]]:
    """Image files in batches of at most `batch_size`: uint8[B, S, S], the next one decoded while one is used.

    Raises:
        UsageError: a file is missing, which is seen before the first batch, or is no image.
    """
    missing = [path for path in paths if not path.exists()]
    if missing:
        prepare(model, missing[0])  # says what is wrong with it
    with ThreadPoolExecutor() as pool:
        ahead: deque[list[Future[Grey]]] = deque()
        for first in range(0, len(paths), batch_size):
            ahead.append([pool.submit(prepare, model, path) for path in paths[first : first + batch_size]])
            if len(ahead) > 1:
                yield np.stack([one.result() for one in ahead.popleft()])
        while ahead:
            yield np.stack([one.result() for one in ahead.popleft()])
