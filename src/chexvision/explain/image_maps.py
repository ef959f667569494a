"""`explain` and `predict --explain`: an overlay for each image and finding, and one summary. Needs no torch."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np

from chexvision.errors import UsageError
from chexvision.explain.overlay import Heat, check_png_names, png_name, render_overlay, write_png
from chexvision.files.atomic import write_text_atomic
from chexvision.foreign import printable
from chexvision.images.radiograph import Grey
from chexvision.images.reading import as_radiograph
from chexvision.labels import LabelSpace
from chexvision.predict.answer import Answer, Failure
from chexvision.predict.predictor import Examined, Predictor

SUMMARY_NAME = "explain.json"
_FORMAT = 2  # the first was a list of overlays, without the model and the scale
_BATCH = 8  # torch holds the feature maps of the complete network for each


@dataclass(frozen=True, slots=True)
class Overlay:
    """One map over its image.

    Args:
        finding: of the model's findings, or `chexvision.labels.ABNORMAL`.
        probability: of the finding, in [0, 1].
        overlay: the PNG's name in the folder.
        method: "Grad-CAM" or "LayerCAM".
        largest: value of the map, in units of the logit; 0 where nothing raises it.
        peak: x and y of this value in pixels of the image; None where there is none.
    """

    finding: str
    probability: float
    overlay: str
    method: str
    largest: float
    peak: tuple[int, int] | None


@dataclass(frozen=True, slots=True)
class ExplainedImage:
    """The overlays of one image.

    Args:
        image: the file that was explained.
        scale: of the colors of all its overlays: the largest value of their maps, in units of the logit.
        warnings: why the model's answer may not be valid for this image.
        overlays: in the order in which they were asked for, or from the most probable finding on.
    """

    image: str
    scale: float
    warnings: tuple[str, ...]
    overlays: tuple[Overlay, ...]


def explain_images(
    predictor: Predictor,
    paths: Sequence[Path],
    out: Path,
    findings: Sequence[str] = (),
    top: int = 3,
    *,
    any_view: bool = False,
    contours: bool = False,
) -> list[ExplainedImage]:
    """Write ``<image>-<finding>.png`` for each image to `out`, and ``explain.json`` about all of them.

    Args:
        predictor: whose engine explains.
        paths: radiographs of any size; see `chexvision.images.reading.as_radiograph`.
        out: folder; created if missing, files of the same names in it are replaced.
        findings: what to explain; the `top` most probable findings of each image where empty.
        top: how many, from 1.
        any_view: see `chexvision.images.reading.read_radiograph`.
        contours: draw lines instead of colored areas.

    Raises:
        UsageError: a finding is unknown, a file cannot be read, or two share a name. Nothing is written then.
        ChexError: the engine cannot explain the model, or computes something that is not a number.
    """
    space = predictor.engine.label_space
    named = find_outputs(space, findings)
    if not 1 <= top <= len(space.findings):
        raise UsageError(f"--top {top} is not possible; the model has {len(space.findings)} findings")
    check_png_names(paths, space.outputs)
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out} is a file; name a folder for the overlays")
    examined = _examined(predictor, paths, any_view)
    explained: list[ExplainedImage] = []
    for first in range(0, len(examined), _BATCH):
        batch = examined[first : first + _BATCH]
        outputs = np.array([named or most_probable(space, one.answer, top) for one in batch], np.int64)
        maps = predictor.engine.explain([one.prepared for one in batch], outputs)
        for i, one in enumerate(batch):
            path = paths[first + i]
            sheet = _Sheet(path, as_radiograph(path, any_view=any_view).pixels, float(maps.values[i].max()), contours)
            names = [space.outputs[output] for output in outputs[i]]
            overlays = tuple(
                sheet.write(out, name, one.answer.probabilities[name], heat, maps.method)
                for name, heat in zip(names, maps.values[i], strict=True)
            )
            explained.append(ExplainedImage(str(path), sheet.scale, one.answer.warnings, overlays))
    summary = {
        "format": _FORMAT,
        "model": asdict(predictor.facts),
        "images": [asdict(one) for one in explained],
    }
    write_text_atomic(out / SUMMARY_NAME, json.dumps(summary, indent=2, allow_nan=False) + "\n")
    return explained


def find_outputs(label_space: LabelSpace, names: Sequence[str]) -> list[int]:
    """The outputs of a model by name, whatever the case of the letters; the message of an error names the nearest."""
    known = label_space.outputs
    folded = {name.casefold(): i for i, name in enumerate(known)}
    outputs: list[int] = []
    for name in names:
        output = folded.get(name.casefold())
        if output is None:
            near = difflib.get_close_matches(name.casefold(), folded, n=1)
            hint = f"did you mean {known[folded[near[0]]]}?" if near else f"known are {', '.join(known)}"
            raise UsageError(f"{name!r} is not a finding of this model; {hint}")
        if output not in outputs:
            outputs.append(output)
    return outputs


def most_probable(space: LabelSpace, answer: Answer, count: int) -> list[int]:
    """The findings with the highest probabilities, of equal ones the first."""
    probabilities = [answer.probabilities[name] for name in space.findings]
    return sorted(range(len(probabilities)), key=lambda i: -probabilities[i])[:count]


def _examined(predictor: Predictor, paths: Sequence[Path], any_view: bool) -> list[Examined]:
    """The answers; images are kept as the engine takes them, which are small."""

    def usable() -> Iterator[Examined]:
        named = ((path.name, lambda path=path: path) for path in paths)
        for found in predictor.examined(named, any_view=any_view):
            if isinstance(found, Failure):
                raise UsageError(found.reason)
            yield found

    return list(usable())


@dataclass(frozen=True, slots=True)
class _Sheet:
    """What the overlays of one image have in common."""

    path: Path
    grey: Grey
    scale: float
    contours: bool

    def write(self, out: Path, finding: str, probability: float, heat: Heat, method: str) -> Overlay:
        """Write one to the folder `out`."""
        largest, peak = float(heat.max()), None
        if largest > 0:
            height, width = self.grey.shape
            enlarged = cv2.resize(heat, (width, height), interpolation=cv2.INTER_LINEAR)
            row, column = np.unravel_index(int(enlarged.argmax()), enlarged.shape)
            peak = int(column), int(row)
        note = f"{method}: regions that raise the logit" if peak else f"{method}: nothing raises the logit"
        image = render_overlay(
            self.grey,
            heat,
            self.scale,
            f"{finding}  {probability:.3f}",
            printable(self.path.name),
            f"{note}. The scale is the same for all findings of this image. Research only.",
            contours=self.contours,
        )
        overlay = png_name(self.path, finding)
        write_png(out / overlay, image)
        return Overlay(finding, probability, overlay, method, largest, peak)
