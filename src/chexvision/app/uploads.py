"""What an app answers about files that were sent to it. Whoever calls this deletes them."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image

from chexvision.errors import UsageError
from chexvision.explain.image_maps import find_outputs, most_probable
from chexvision.explain.overlay import render_overlay
from chexvision.files.atomic import read_regular
from chexvision.images.radiograph import Grey
from chexvision.images.reading import ANY_VIEW_HELPS, as_radiograph
from chexvision.images.sources import LARGEST
from chexvision.predict.answer import Answer, Failure
from chexvision.predict.engine import HeatMaps
from chexvision.predict.inputs import find_sources
from chexvision.predict.predictor import Examined, Predictor
from chexvision.predict.result import Result, result_of, results_of

MOST_IMAGES = 200  # of a batch: some minutes on two cores
MOST_BYTES = 2**31  # of a batch, not compressed
_MOST_ENTRIES = 2**20  # bytes of an archive's directory, which is read into memory: about 10,000 names
_LARGEST_TAIL = 2**16 + 22 + 20  # bytes of a ZIP's end: comment, end record, and the locator of ZIP64
_END_RECORD, _LOCATOR_64 = b"PK\x05\x06", b"PK\x06\x07"
_SHOWN = 1024  # pixels on the longest side of an image that is kept to draw maps over


@dataclass(frozen=True, slots=True)
class Examination:
    """An answer about one image, with what is needed to explain it.

    Args:
        answer: what the model says.
        result: the same, as ``chexvision predict --json`` gives it.
        pixels: uint8[H, W], the image, reduced where it is large.
        maps: of every output.
    """

    answer: Answer
    result: Result
    pixels: Grey
    maps: HeatMaps

    @property
    def scale(self) -> float:
        """The largest value of the maps, in units of the logit: colors of all outputs end there."""
        return float(self.maps.values.max())


def predict_upload(predictor: Predictor, path: Path, any_view: bool) -> Result:
    """The row of an uploaded image.

    Raises:
        UsageError: it cannot be read; the message says why.
        ChexError: the model computes something that is not a number.
    """
    return _result(predictor, _examined(predictor, _content(path), path.name, any_view).answer)


def examine_upload(predictor: Predictor, path: Path, any_view: bool) -> Examination:
    """Predict and explain an uploaded image.

    Raises:
        UsageError: it cannot be read; the message says why.
        ChexError: the model cannot be explained, or computes something that is not a number.
    """
    data = _content(path)
    examined = _examined(predictor, data, path.name, any_view)
    outputs = np.arange(len(predictor.engine.label_space.outputs), dtype=np.int64)
    maps = predictor.engine.explain([examined.prepared], outputs[None])
    pixels = _reduced(as_radiograph(data, any_view=any_view).pixels)
    return Examination(examined.answer, _result(predictor, examined.answer), pixels, maps)


def explain_upload(
    predictor: Predictor, path: Path, findings: Sequence[str], top: int, any_view: bool
) -> tuple[dict[str, Any], list[Image]]:
    """Explain some findings of an uploaded image.

    Args:
        predictor: what answers.
        path: of the image.
        findings: names of outputs; the `top` most probable findings where empty.
        top: how many.
        any_view: see `chexvision.images.reading.read_radiograph`.

    Returns:
        An entry for the image as in ``explain.json``, with `peak` in shares of width and height; and its overlays.

    Raises:
        UsageError: a finding is unknown, or the image cannot be read.
        ChexError: the model cannot be explained, or computes something that is not a number.
    """
    space = predictor.engine.label_space
    named = find_outputs(space, findings)
    if not 1 <= top <= len(space.findings):
        raise UsageError(f"top {top} is not possible; the model has {len(space.findings)} findings")
    found = examine_upload(predictor, path, any_view)
    outputs = named or most_probable(space, found.answer, top)
    values, probabilities = found.maps.values[0, outputs], found.answer.probabilities
    scale = float(values.max())
    entries, overlays = [], []
    for output, heat in zip(outputs, values, strict=True):
        name, method = space.outputs[output], found.maps.method
        entry = {"finding": name, "probability": probabilities[name], "method": method, "largest": float(heat.max())}
        entries.append({**entry, "peak": _peak(heat)})
        note = f"{method}, in units of the logit. Research only."
        overlays.append(
            render_overlay(
                found.pixels, heat, scale, f"{name}  {probabilities[name]:.3f}", str(found.answer.model), note
            )
        )
    row = as_json(found.result)
    about = {name: row[name] for name in ("image", "model", "engine", "warnings", "notes")}
    return {**about, "scale": scale, "overlays": entries}, overlays


def predict_archive(predictor: Predictor, path: Path, any_view: bool) -> Iterator[tuple[int, Result]]:
    """How many images an uploaded ZIP archive has, with the row of each; bad images have a reason.

    Raises:
        UsageError: it is not an archive, contains no image, or is too large.
        ChexError: the model computes something that is not a number.
    """
    _refuse_large(path)
    sources = find_sources([str(path)], ())
    if len(sources) > MOST_IMAGES:
        raise UsageError(f"the archive contains {len(sources):,} images; send at most {MOST_IMAGES} at once")
    rows = results_of(predictor, sources, any_view=any_view)
    for source, row in zip(sources, rows, strict=True):
        yield len(sources), row.model_copy(update={"path": source.found.member})


def as_json(result: Result) -> dict[str, Any]:
    """A row as ``chexvision predict --json`` gives it, but `path` is called `file`.

    `gradio_client` takes every object with a `path` for a file of the server, and downloads it.
    """
    return {("file" if name == "path" else name): value for name, value in result.model_dump(mode="json").items()}


def _refuse_large(path: Path) -> None:
    """Raise UsageError unless a file is a ZIP archive whose content is not too large."""
    if not path.name.lower().endswith(".zip"):
        raise UsageError("not a ZIP archive; pack the images into a .zip file")
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - _LARGEST_TAIL))
        tail = file.read()
    end = tail.rfind(_END_RECORD)
    if end < 0 or len(tail) < end + 22:
        raise UsageError("not a readable ZIP archive; pack the images again")
    if _LOCATOR_64 in tail or int.from_bytes(tail[end + 12 : end + 16], "little") > _MOST_ENTRIES:
        raise UsageError(f"the archive lists too many files; send at most {MOST_IMAGES} images at once")
    try:
        with zipfile.ZipFile(path) as archive:
            total = sum(info.file_size for info in archive.infolist())
            names = [info.filename for info in archive.infolist() if not info.is_dir()]
    except (zipfile.BadZipFile, ValueError, NotImplementedError, OverflowError, EOFError):
        raise UsageError("not a readable ZIP archive; pack the images again") from None
    if not names:
        raise UsageError("the archive is empty; pack PNG, JPEG or DICOM files")
    if total > MOST_BYTES:
        raise UsageError(f"the archive's content is {total >> 20:,} MiB; at most {MOST_BYTES >> 20:,} MiB are read")


def _content(path: Path) -> bytes:
    """The content of an uploaded file."""
    try:
        return read_regular(path, LARGEST)
    except OSError as error:
        raise UsageError(f"the file cannot be read: {error.strerror or error}") from None


def _examined(predictor: Predictor, data: bytes, name: str, any_view: bool) -> Examined:
    (found,) = predictor.examined([(name, lambda: data)], any_view=any_view)
    if isinstance(found, Failure):
        reason = found.reason
        if reason.endswith(ANY_VIEW_HELPS):
            reason = f"{reason.removesuffix(ANY_VIEW_HELPS)}; with 'Any view' it is read anyway"
        raise UsageError(reason)
    return found


def _result(predictor: Predictor, answer: Answer) -> Result:
    return result_of(answer, answer.image, predictor.facts, predictor.engine.name, strict=False)


def _reduced(pixels: Grey) -> Grey:
    share = _SHOWN / max(pixels.shape)
    if share >= 1:
        return pixels
    height, width = (max(1, round(side * share)) for side in pixels.shape)
    return np.asarray(cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA), np.uint8)


def _peak(values: NDArray[np.float32]) -> list[float] | None:
    """Where a map is highest, as shares of the image's width and height; None where it is zero."""
    if not values.max() > 0:
        return None
    row, column = np.unravel_index(int(values.argmax()), values.shape)
    return [(float(column) + 0.5) / values.shape[1], (float(row) + 0.5) / values.shape[0]]
