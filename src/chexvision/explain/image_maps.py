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
from chexvision.explain.member_maps import MemberMaps, explain_members
from chexvision.explain.overlay import check_png_names, png_name, render_overlay, write_png
from chexvision.files.atomic import write_text_atomic
from chexvision.foreign import printable
from chexvision.images.radiograph import decode_grey
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
) -> list[Explained]:
    """Write ``<image>-<finding>.png`` for each image to `out`, and ``explain.json`` about all of them.

    Args:
        ensemble: what to explain, on a GPU where there is one.
        paths: PNG or JPEG radiographs of any size.
        out: folder; created if missing, files of the same names in it are replaced.
        findings: what to explain; the `top` most probable findings of each image where empty.
        top: how many, from 1.
        points: of `chexvision.artifact.load.load_operating_points`; its calibration is applied to the probabilities.

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
            for j, output in enumerate(maps.outputs[i].tolist()):
                chance = float(probabilities[i, output])
                explained.append(_write_overlay(path, out, names[output], chance, maps, (i, j)))
    write_text_atomic(
        out / SUMMARY_NAME, json.dumps([asdict(one) for one in explained], indent=2, allow_nan=False) + "\n"
    )
    return explained


def _write_overlay(
    path: Path, out: Path, finding: str, probability: float, maps: MemberMaps, place: tuple[int, int]
) -> Explained:
    grey, method = decode_grey(path.read_bytes()), maps.method
    heat = maps.heat(*place, *grey.shape)
    peak: tuple[int, int] | None = None
    if heat.max() > 0:
        row, column = np.unravel_index(int(heat.argmax()), heat.shape)
        peak = int(column), int(row)
    note = f"{method}: regions that raise the logit" if peak else f"{method}: nothing here raises the logit"
    image = render_overlay(
        grey, heat, f"{finding}  {probability:.3f}", printable(path.name), f"{note} · research only"
    )
    overlay = png_name(path, finding)
    write_png(out / overlay, image)
    return Explained(str(path), finding, probability, overlay, method, peak)
