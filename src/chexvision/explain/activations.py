"""`explain --layers`: what the channels of named layers respond to in an image."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from chexvision.errors import UsageError
from chexvision.explain.overlay import Heat, check_png_names, png_name, render_gray_tile, render_sheet, write_png
from chexvision.foreign import printable
from chexvision.images.radiograph import Grey
from chexvision.inference.prepare import prepared
from chexvision.inference.recording import exactly, recorded
from chexvision.models.backbone import Backbone, tokens_as_map
from chexvision.models.classifier import CheXVision

CHANNELS = 22  # on a sheet, with the image and the mean in rows of `_COLUMNS`
_COLUMNS = 8
_TILE = 160  # pixels per side


def explain_layers(model: CheXVision, paths: Sequence[Path], out: Path, layers: Sequence[str]) -> list[Path]:
    """Write ``<image>-<layer>.png`` for each image and layer to `out`: the activations of its channels.

    Args:
        model: whose layers are shown, on a GPU where there is one.
        paths: PNG or JPEG radiographs of any size.
        out: folder; created if missing, files of the same names in it are replaced.
        layers: modules of the model's backbone, by name.

    Returns:
        The files in the order of the images.

    Raises:
        UsageError: a layer is unknown or does not return a map, a file is missing or not an image, or two share a
            name. Nothing is written then.
    """
    modules = find_layers(model.backbone, layers)
    check_png_names(paths, list(modules))
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out} is a file; name a folder for the activations")
    images = [image for batch in prepared(model, paths, 1) for image in batch]
    model = model.to(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    written: list[Path] = []
    for path, image in zip(paths, images, strict=True):
        for layer, activation in layer_activations(model, image, modules).items():
            written.append(out / png_name(path, layer))
            write_png(written[-1], _sheet(image, activation, layer, printable(path.name)))
    return written


def find_layers(backbone: Backbone, names: Sequence[str]) -> dict[str, str]:
    """The modules of a network by the name that was given, without repetitions.

    A network that is wrapped by its backbone is named without the wrapper: ``layer4`` is ``network.layer4``.

    Raises:
        UsageError: there is no such module; the message names the nearest, or the ones at the top.
    """
    children = [name for name, _ in backbone.named_children()]
    wrapper = f"{children[0]}." if len(children) == 1 else ""
    known = {name.removeprefix(wrapper): name for name, _ in backbone.named_modules() if len(name) > len(wrapper)}
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            top = ", ".join(one for one in known if "." not in one)
            hint = f"did you mean {near[0]}?" if near else f"those at the top are {top}"
            raise UsageError(f"--layers {name!r} is not a layer of this network; {hint}")
    return {name: known[name] for name in names}


def layer_activations(model: CheXVision, image: Grey, layers: dict[str, str]) -> dict[str, NDArray[np.float32]]:
    """What some layers return for one image, as maps float[C, h, w].

    Args:
        model: left in the mode it was in.
        image: uint8[S, S], as the model takes it.
        layers: of `find_layers`.

    Raises:
        UsageError: a layer is not used, or returns something that is not a map.
    """
    device = next(model.parameters()).device
    pixels = model.normalize(torch.from_numpy(image[None]).to(device))
    with (
        exactly(model, device.type),
        torch.no_grad(),
        recorded(model.backbone, list(layers.values())) as outputs,
    ):
        model(pixels)
    return {
        layer: _as_map(model.backbone, outputs.get(module), layer)[0].float().cpu().numpy()
        for layer, module in layers.items()
    }


def _as_map(backbone: Backbone, output: object, layer: str) -> Tensor:
    """An output as float[1, C, h, w]. Networks may mix layouts: images are square, and so are their maps."""
    if output is None:
        raise UsageError(f"--layers {layer} is not used by itself when images are classified; name a layer inside it")
    if not isinstance(output, Tensor):
        raise UsageError(f"--layers {layer} returns several tensors; name a layer inside it")
    try:
        if len(output) == 1:  # windows of an image are several
            return _channels_first(backbone, output)
    except ValueError:
        pass
    shape = "x".join(map(str, output.shape[1:]))
    raise UsageError(f"--layers {layer} returns {shape} values for an image, not a map per channel; name another")


def _channels_first(backbone: Backbone, output: Tensor) -> Tensor:
    """Tokens, or a map in either layout, as float[1, C, h, w].

    Raises:
        ValueError: it is neither.
    """
    if output.ndim == 3:
        try:
            return backbone.as_map(output)
        except ValueError:  # a patch embedding's, before the class token is added
            return tokens_as_map(output, prefix=0)
    _, first, middle, last = output.shape  # ValueError where there are other than four sides
    if first == middle == last:
        return backbone.as_map(output)
    if middle == last:
        return output
    if first == middle:
        return output.permute(0, 3, 1, 2)
    raise ValueError("it is not square")


def strongest_channels(activation: NDArray[np.float32], count: int) -> list[int]:
    """The channels whose activations vary most over the image, by their standard deviation, the first ones first."""
    deviation = activation.astype(np.float64).std(axis=(1, 2))
    return [int(channel) for channel in np.argsort(-deviation, kind="stable")[:count]]


def _sheet(image: Grey, activation: NDArray[np.float32], layer: str, name: str) -> Image.Image:
    """A contact sheet: the image, the mean magnitude of all channels, and the strongest channels.

    The magnitude, because the mean of a layer norm's channels is 0 at each position; behind ReLU they are the same.
    """
    chosen = strongest_channels(activation, CHANNELS)
    maps: list[tuple[str, Heat]] = [
        ("image", image.astype(np.float32)),
        ("mean magnitude", np.abs(activation).mean(axis=0)),
    ]
    maps += [(f"channel {channel}", activation[channel]) for channel in chosen]
    tiles = [render_gray_tile(values, title, _TILE) for title, values in maps]
    channels, height, width = activation.shape
    title = f"{layer}: {channels} channels of {height}x{width} cells"
    rows = [
        (title if first == 0 else "", tiles[first : first + _COLUMNS]) for first in range(0, len(tiles), _COLUMNS)
    ]
    caption = (
        f"{name} · the {len(chosen)} channels that vary most over the image, each from its lowest value (black) to "
        "its highest (white) · research only"
    )
    return render_sheet(rows, caption)
