"""The names of test-time augmentations. Light: the command line imports it."""

from __future__ import annotations

from typing import Literal, TypeAlias

# none: the image alone. flip: also left and right exchanged. views: both, and rotations by ±7°. ten-crop: crops of
# the four corners and the center, and each flipped. multi-scale: smaller, as it is, and larger. See
# `chexvision.inference.tta`.
Tta: TypeAlias = Literal["none", "flip", "views", "ten-crop", "multi-scale"]
