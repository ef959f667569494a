"""One synthetic radiograph with its boxes: a patient's chest, the signs of the findings, and the exposure."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from chexvision.images.radiograph import Grey
from chexvision.synthetic.anatomy import Chest, Plane, Scene, cloud, render
from chexvision.synthetic.benign import add_benign
from chexvision.synthetic.signs import SHADOWS, SHAPES


@dataclass(frozen=True, slots=True)
class Box:
    """The bounding box of a finding: left, top, width and height in pixels of the image."""

    finding: str
    x: float
    y: float
    width: float
    height: float


def render_radiograph(
    rng: np.random.Generator, chest: Chest, findings: tuple[str, ...], view: str, size: int
) -> tuple[Grey, list[Box]]:
    """Render one frontal image uint8[size, size] of `chest` that shows each of `findings`.

    Args:
        rng: source of what differs between the images of one patient: pose, exposure, vessels and the
            position of the signs. Equal generators give images that differ by the signs alone.
        chest: the patient's measures.
        findings: names from `NIH.findings`, in canonical order.
        view: "PA" or "AP"; in AP images the heart is larger and the lungs are smaller.
        size: side in pixels.
    """
    film_rng, vessel_rng, sign_rng, benign_rng = rng.spawn(4)
    if view == "AP":
        raised = (chest.dome_y[0] - 0.015, chest.dome_y[1] - 0.015)
        chest = replace(chest, heart_right=chest.heart_right + 0.012, dome_y=raised)
    normal = chest
    for finding in findings:
        if finding in SHAPES:
            chest = SHAPES[finding](sign_rng, chest)
    scene = Scene.of(sign_rng, size, chest)
    add_benign(benign_rng, scene, normal, view)
    for finding in findings:
        SHADOWS[finding](scene)
    pose = _pose(film_rng, size)
    film = _compressed(render(scene, vessel_rng))
    posed = cv2.warpAffine(film, pose, (size, size), borderMode=cv2.BORDER_REPLICATE)
    return _exposed(film_rng, np.asarray(posed, np.float32)), _posed_boxes(scene, pose)


def _compressed(density: Plane) -> Plane:
    """Film saturates: densities above 0.7 are compressed, so that signs on bright areas stay below white."""
    over = density - 0.7
    np.maximum(over, 0, out=over)
    over *= 0.5
    density -= over
    return density


def _pose(rng: np.random.Generator, size: int) -> NDArray[np.float64]:
    pose = cv2.getRotationMatrix2D((size / 2, size / 2), rng.normal(0, 1.8), rng.uniform(0.95, 1.05))
    shift = np.zeros((2, 3))
    shift[:, 2] = rng.normal(0, 0.012, 2) * size
    return np.asarray(pose + shift, np.float64)


def _exposed(rng: np.random.Generator, plane: Plane) -> Grey:
    gain, offset = rng.uniform(0.9, 1.1), rng.uniform(-0.03, 0.03)
    noise = rng.standard_normal(plane.shape, dtype=np.float32)
    noise += 2 * cloud(rng, plane.shape[0], 0.12)
    grey = cv2.addWeighted(plane, 255 * gain, noise, 255 * 0.006, 255 * offset, dtype=cv2.CV_8U)
    return np.asarray(grey, np.uint8)


def _posed_boxes(scene: Scene, pose: NDArray[np.float64]) -> list[Box]:
    size = scene.size
    boxes = []
    for finding, x0, y0, x1, y1 in scene.boxes:
        corners = np.array([(x0, y0, 1 / size), (x1, y0, 1 / size), (x0, y1, 1 / size), (x1, y1, 1 / size)])
        moved = np.clip((corners * size) @ pose.T, 0, size)
        (left, top), (right, bottom) = moved.min(axis=0), moved.max(axis=0)
        boxes.append(Box(finding, float(left), float(top), float(right - left), float(bottom - top)))
    return boxes
