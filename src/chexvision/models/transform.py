"""Images as a model takes them, for data sets and loaders."""

from __future__ import annotations

from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from chexvision.images.preprocessing import Preprocessing
from chexvision.images.reading import ImageLike, as_radiograph
from chexvision.models.normalize import plain

AnyImage: TypeAlias = "ImageLike | Tensor"


class RadiographTransform(nn.Module):
    """One image as a model takes it, in the steps of its training; used like ``torchvision.transforms.v2``.

    It can be pickled, so that the workers of a `torch.utils.data.DataLoader` can use it, and has no parameters.

    Args:
        preprocessing: of the model.
        any_view: see `chexvision.images.reading.read_radiograph`.
    """

    def __init__(self, preprocessing: Preprocessing, any_view: bool = False) -> None:
        super().__init__()
        self.preprocessing = preprocessing
        self.any_view = any_view

    def forward(self, image: AnyImage) -> Tensor:
        """Read, resize, equalize and normalize.

        Args:
            image: a file's name or bytes, a PIL image, an array (see `chexvision.images.reading.as_radiograph`), or a
                tensor of [H, W] or [1, 3 or 4, H, W].

        Returns:
            float32[3, S, S]; the three channels are one in memory.

        Raises:
            UsageError: it is not an image that can be read.
        """
        pixels = as_radiograph(without_torch(image), any_view=self.any_view).pixels
        steps = self.preprocessing
        return plain(torch.from_numpy(steps.apply(pixels))[None], steps.mean, steps.std)[0]

    def extra_repr(self) -> str:
        """The steps."""
        return str(self.preprocessing)


def without_torch(image: Any) -> Any:
    """A tensor as an array, channels last as arrays have them; anything else as it is."""
    if not isinstance(image, Tensor):
        return image
    array = image.detach().cpu()
    if array.is_floating_point():
        array = array.float()  # numpy has no bfloat16
    if array.ndim == 3:
        array = array.permute(1, 2, 0)
    return array.numpy()
