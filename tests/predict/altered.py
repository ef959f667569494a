"""Images that are not upright frontal radiographs of a whole chest, most of them made from some that are."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from chexvision.images.radiograph import Grey

# The least share that must be flagged of each kind.
KINDS = {
    "black": 1.0,
    "white": 1.0,
    "gray": 1.0,
    "noise": 1.0,
    "photographs": 0.9,
    "text": 0.9,
    "inverted": 0.9,
    "rotated by 90": 0.9,
    "rotated by 180": 0.8,
    "squeezed to half": 0.9,
    "half of each side": 0.35,
}


def altered(kind: str, radiographs: Sequence[Grey]) -> list[Grey]:
    """Images of a kind of `KINDS`, as many as there are radiographs."""
    rng = np.random.default_rng(5)
    return [_altered(kind, image, rng) for image in radiographs]


def _altered(kind: str, image: Grey, rng: np.random.Generator) -> Grey:
    height, width = image.shape
    match kind:
        case "black":
            return np.full_like(image, rng.integers(0, 4))
        case "white":
            return np.full_like(image, rng.integers(252, 256))
        case "gray":
            return np.full_like(image, rng.integers(40, 220))
        case "noise":
            return rng.integers(0, 256, image.shape).astype(np.uint8)
        case "photographs":
            return natural(rng, height)
        case "text":
            return screenshot(rng)
        case "inverted":
            return 255 - image
        case "rotated by 90":
            return np.ascontiguousarray(np.rot90(image, rng.choice([1, 3])))
        case "rotated by 180":
            return np.ascontiguousarray(np.rot90(image, 2))
        case "squeezed to half":
            squeezed = np.zeros_like(image)
            left = width // 4
            squeezed[:, left : left + width // 2] = cv2.resize(
                image, (width // 2, height), interpolation=cv2.INTER_AREA
            )
            return squeezed
        case "half of each side":
            top, left = rng.integers(0, height // 2 + 1), rng.integers(0, width // 2 + 1)
            return np.ascontiguousarray(image[top : top + height // 2, left : left + width // 2])
    raise ValueError(kind)


def natural(rng: np.random.Generator, side: int) -> Grey:
    """Noise with the spectrum of photographs, in which amplitude falls with frequency; see Field, JOSA A 1987."""
    frequency = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None])
    frequency[0, 0] = np.inf
    spectrum = np.fft.rfft2(rng.normal(size=(side, side))) / frequency
    image = np.fft.irfft2(spectrum, s=(side, side))
    gray: Grey = np.clip(128 + 50 * image / image.std(), 0, 255).astype(np.uint8)
    return gray


def screenshot(rng: np.random.Generator) -> Grey:
    """Lines of random letters, dark on light or light on dark."""
    page = np.full((512, 512), 255, np.uint8)
    for bottom in range(20, 500, int(rng.integers(16, 40))):
        text = "".join(chr(code) for code in rng.choice([32, *range(97, 123)], 40))
        cv2.putText(page, text, (10, bottom), cv2.FONT_HERSHEY_SIMPLEX, 0.5, 0, 1)
    return page if rng.random() < 0.5 else 255 - page
