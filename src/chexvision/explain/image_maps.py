"""`explain` and `predict --explain`: an overlay for each image and finding, and one summary."""

from __future__ import annotations

import difflib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from chexvision.artifact.load import Ensemble
from chexvision.errors import UsageError
from chexvision.explain.member_maps import explain_members
from chexvision.explain.overlay import Heat, check_png_names, png_name, render_overlay, write_png
from chexvision.files.atomic import write_text_atomic
from chexvision.foreign import printable
from chexvision.images.radiograph import Grey, decode_grey
from chexvision.inference.prepare import prepared
from chexvision.labels import LabelSpace
from chexvision.metrics.operating_points import OperatingPoints
from chexvision.metrics.ranking import Floats

SUMMARY_NAME = "explain.json"
_BATCH = 8  # the feature maps of the complete network are held for each


@dataclass(frozen=True, slots=True)
class Explained:
    """One overlay.

    Args:
        image: the file that was explained.
        finding: of the model's findings, or `ABNORMAL`.
        probability: of the finding, in [0, 1].
        overlay: the PNG's name in the folder.
        method: "Grad-CAM" or "LayerCAM".
        peak: x and y of the maximum in pixels of the image; None where nothing raises the logit.
    """

    image: str
    finding: str
    probability: float
    overlay: str
    method: str
    peak: tuple[int, int] | None


def _find_outputs(label_space: LabelSpace, names: Sequence[str]) -> list[int]:
    """The outputs of a model by name, whatever the case of the letters; the message of an error names the nearest."""
    known = label_space.outputs
    folded = {name.casefold(): i for i, name in enumerate(known)}
    outputs: list[int] = []
    for name in names:
        output = folded.get(name.casefold())
        if output is None:
            near = difflib.get_close_matches(name.casefold(), folded, n=1)
            hint = f"did you mean {known[folded[near[0]]]}?" if near else f"known are {', '.join(known)}"
            raise UsageError(f"--finding {name!r} is not a finding of this model; {hint}")
        if output not in outputs:
            outputs.append(output)
    return outputs


def explain_files(
    ensemble: Ensemble,
    paths: Sequence[Path],
    out: Path,
    findings: Sequence[str] = (),
    top: int = 3,
    points: OperatingPoints | None = None,
    *,
    contours: bool = False,
) -> list[Explained]:
    """Write ``<image>-<finding>.png`` for each image to `out`, and ``explain.json`` about all of them.

    Args:
        ensemble: what to explain, on a GPU where there is one.
        paths: PNG or JPEG radiographs of any size.
        out: folder; created if missing, files of the same names in it are replaced.
        findings: what to explain; the `top` most probable findings of each image where empty.
        top: how many, from 1.
        points: of `chexvision.artifact.load.load_operating_points`; its calibration is applied to the probabilities.
        contours: draw lines instead of colored areas.

    Raises:
        UsageError: a finding is unknown, a file is missing or not an image, or two share a name. Nothing is
            written then.
    """
    names = ensemble.label_space.outputs
    named = _find_outputs(ensemble.label_space, findings)
    if not 1 <= top <= len(ensemble.findings):
        raise UsageError(f"--top {top} is not possible; the model has {len(ensemble.findings)} findings")
    check_png_names(paths, names)
    batches = list(zip(*(prepared(member, paths, _BATCH) for member in ensemble.members), strict=True))
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out} is a file; name a folder for the overlays")
    ensemble = ensemble.to(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    points = points or OperatingPoints()

    def calibrated(probabilities: Tensor) -> Floats:
        return points.calibrate(names, probabilities.double().cpu().numpy())

    def choose(probabilities: Tensor) -> Tensor:
        if named:
            return torch.tensor([named] * len(probabilities))
        return torch.from_numpy(calibrated(probabilities)[:, :-1]).topk(top, dim=1).indices

    explained: list[Explained] = []
    for number, images in enumerate(batches):
        maps = explain_members(ensemble, images, choose)
        probabilities = calibrated(maps.probabilities)
        for i, path in enumerate(paths[number * _BATCH : (number + 1) * _BATCH]):
            grey = decode_grey(path.read_bytes())
            shown = maps.outputs[i].tolist()
            # Findings of an image can be compared. The maps of an original are large, and not kept.
            scale = max(float(maps.heat(i, j, *grey.shape).max()) for j in range(len(shown)))
            for j, output in enumerate(shown):
                picture = _Picture(path, names[output], float(probabilities[i, output]), maps.method)
                explained.append(picture.write(out, grey, maps.heat(i, j, *grey.shape), scale, contours))
    write_text_atomic(
        out / SUMMARY_NAME, json.dumps([asdict(one) for one in explained], indent=2, allow_nan=False) + "\n"
    )
    return explained


@dataclass(frozen=True, slots=True)
class _Picture:
    """What one overlay is of."""

    path: Path
    finding: str
    probability: float
    method: str

    def write(self, out: Path, grey: Grey, heat: Heat, scale: float, contours: bool) -> Explained:
        """Write it to the folder `out`."""
        peak: tuple[int, int] | None = None
        if heat.max() > 0:
            row, column = np.unravel_index(int(heat.argmax()), heat.shape)
            peak = int(column), int(row)
        note = f"{self.method}: regions that raise the logit" if peak else f"{self.method}: nothing raises the logit"
        image = render_overlay(
            grey,
            heat,
            scale,
            f"{self.finding}  {self.probability:.3f}",
            printable(self.path.name),
            f"{note}. The scale is the same for all findings of this image. Research only.",
            contours=contours,
        )
        overlay = png_name(self.path, self.finding)
        write_png(out / overlay, image)
        return Explained(str(self.path), self.finding, self.probability, overlay, self.method, peak)
