"""A synthetic frontal chest: its measures, its outlines and how they are rendered.

Lengths are fractions of the image's side, x to the right and y down, so that a chest looks the same at any size.
`side` is -1 for the lung on the left of the image (the patient's right) and +1 for the other.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

Plane: TypeAlias = NDArray[np.float32]  # [S, S]: radiographic density from 0 (black) to 1 (white)
Points: TypeAlias = NDArray[np.float64]  # [N, 2]: x, y
SIDES = (-1, 1)
_SUBPIXEL_BITS = 4


@dataclass(frozen=True, slots=True)
class Chest:
    """The measures of one chest; signs that change its shape make a new one with `dataclasses.replace`."""

    spine_x: float
    apex_y: float
    wall_x: float  # from the spine to the side wall of a lung at its base
    dome_y: tuple[float, float]  # top of the diaphragm on the left and on the right of the image
    dome_depth: float  # from a dome's top down to the costophrenic angle; small is flat
    heart_left: float  # reach of the heart to the left of the spine in the image
    heart_right: float
    lung_density: float
    markings: float  # brightness of the vessels in the lungs
    rib_slope: float
    rib_count: int
    rib_brightness: float
    breast: float
    breast_y: float
    body_x: float  # from the spine to the body's side; signs inside the chest change neither it nor the breasts

    def dome(self, side: int) -> float:
        """The top of the diaphragm on `side`."""
        return self.dome_y[side > 0]

    def raised_dome(self, side: int, by: float) -> Chest:
        """The same chest with the diaphragm of `side` higher by `by`."""
        left, right = self.dome_y
        return replace(self, dome_y=(left - by, right) if side < 0 else (left, right - by))


def sample_chest(rng: np.random.Generator, female: bool) -> Chest:
    """Sample the measures of one patient."""
    dome = rng.uniform(0.69, 0.73)
    wall_x = rng.uniform(0.315, 0.355) - 0.015 * female
    return Chest(
        spine_x=0.5 + rng.normal(0, 0.008),
        apex_y=rng.uniform(0.11, 0.15),
        wall_x=wall_x,
        dome_y=(dome, dome + rng.uniform(0.005, 0.03)),
        dome_depth=rng.uniform(0.085, 0.115),
        heart_left=rng.uniform(0.080, 0.110),
        heart_right=rng.uniform(0.160, 0.21),
        lung_density=rng.uniform(0.20, 0.28),
        markings=rng.uniform(0.08, 0.12),
        rib_slope=rng.uniform(0.09, 0.14),
        rib_count=int(rng.integers(8, 10)),
        rib_brightness=rng.uniform(0.05, 0.08),
        breast=rng.uniform(0.03, 0.07) if female else 0.0,
        breast_y=dome - 0.06,
        body_x=wall_x + 0.07,
    )


def lung_outline(chest: Chest, side: int) -> Points:
    """The closed outline of one lung: apex, side wall, diaphragm, mediastinum."""
    down = np.linspace(0, 1, 24)
    corner_y = chest.dome(side) + chest.dome_depth
    wall = np.stack(
        (
            0.09 + (chest.wall_x - 0.09) * np.sqrt(1 - (1 - down) ** 2.4),
            chest.apex_y + (corner_y - chest.apex_y) * down,
        ),
        axis=1,
    )
    along = np.linspace(0, 1, 16)[1:]
    fall = np.where(along < 0.55, (1 - along / 0.55) ** 2, 0.25 * ((along - 0.55) / 0.45) ** 2)
    base = np.stack(
        (chest.wall_x + (0.05 - chest.wall_x) * along, chest.dome(side) + chest.dome_depth * fall), axis=1
    )
    inner = np.array([[0.05, chest.apex_y + 0.10], [0.06, chest.apex_y + 0.02]])
    outline = np.concatenate((wall, base, inner))
    outline[:, 0] = chest.spine_x + side * outline[:, 0]
    return outline


def filled(size: int, outline: Points, blur: float = 0.005) -> Plane:
    """A mask of 0 to 1 inside `outline`, its edge softened by a Gaussian of sigma `blur`."""
    plane = _canvas(size, blur)
    cv2.fillPoly(plane, [_fixed(outline, plane.shape[0])], 1.0, cv2.LINE_8, _SUBPIXEL_BITS)
    return _softened(plane, size, blur)


def stroked(size: int, lines: list[Points], width: float, blur: float = 0.005) -> Plane:
    """A mask of 0 to 1 along open `lines` of `width`."""
    plane = _canvas(size, blur)
    points = [_fixed(line, plane.shape[0]) for line in lines]
    thickness = max(1, round(width * plane.shape[0]))
    cv2.polylines(plane, points, False, 1.0, thickness, cv2.LINE_8, _SUBPIXEL_BITS)
    return _softened(plane, size, blur)


def ellipse(center: tuple[float, float], radii: tuple[float, float], degrees: float = 0.0) -> Points:
    """The outline of an ellipse, turned clockwise by `degrees`."""
    angle = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    turn = np.deg2rad(degrees)
    x, y = radii[0] * np.cos(angle), radii[1] * np.sin(angle)
    return np.stack(
        (
            center[0] + x * np.cos(turn) - y * np.sin(turn),
            center[1] + x * np.sin(turn) + y * np.cos(turn),
        ),
        axis=1,
    )


def cloud(rng: np.random.Generator, size: int, grain: float) -> Plane:
    """Smooth random texture of mean 0 and deviation about 1 with structures of about `grain`."""
    cells = max(4, round(1 / grain))
    coarse = rng.standard_normal((cells, cells), dtype=np.float32)
    return np.asarray(cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC), np.float32) * 1.2


def heart_outline(chest: Chest) -> Points:
    """The heart: an ellipse that leans to the right of the image and rests on the diaphragm."""
    center = chest.spine_x + (chest.heart_right - chest.heart_left) / 2
    reach = (chest.heart_right + chest.heart_left) / 2
    height = 0.118 + 0.3 * (reach - 0.14)
    return ellipse((center, max(chest.dome_y) + 0.02 - height), (reach * 1.10, height), 30)


@dataclass(slots=True)
class Scene:
    """The layers of one chest before rendering; signs add to them."""

    rng: np.random.Generator
    size: int
    chest: Chest
    lungs: dict[int, Plane]  # the parts that neither heart nor mediastinum hides
    heart: Plane
    column: Plane  # spine and mediastinum
    haze: Plane  # density that signs add (negative: remove)
    vessels: Plane  # visibility of the vessels, initially 1
    boxes: list[tuple[str, float, float, float, float]] = field(default_factory=list)  # x0, y0, x1, y1

    @classmethod
    def of(cls, rng: np.random.Generator, size: int, chest: Chest) -> Scene:
        """An empty scene."""
        heart = filled(size, heart_outline(chest), 0.006)
        column = filled(size, _mediastinum_outline(chest), 0.008)
        free = 1 - np.maximum(heart, column)
        lungs = {side: filled(size, lung_outline(chest, side)) * free for side in SIDES}
        haze, vessels = np.zeros((size, size), np.float32), np.ones((size, size), np.float32)
        return cls(rng, size, chest, lungs, heart, column, haze, vessels)

    @property
    def air(self) -> Plane:
        """The mask of both lungs."""
        return np.maximum(self.lungs[-1], self.lungs[1])


def render(scene: Scene, vessel_rng: np.random.Generator) -> Plane:
    """Compose body, lungs, vessels, heart, bones and the signs into one plane of densities."""
    size, chest = scene.size, scene.chest
    rows = np.linspace(0, 1, size, dtype=np.float32)[:, None]
    density = 0.04 + (0.50 + 0.14 * np.clip((rows - 0.70) / 0.2, 0, 1)) * filled(size, _body_outline(chest), 0.012)
    lung_level = chest.lung_density + 0.05 * np.clip(rows - 0.35, 0, 1)
    # Planes are modified in place: at 320² allocation takes longer than the arithmetic.
    air = scene.air
    to_lung = lung_level - density
    to_lung *= air
    to_lung *= 0.9
    density += to_lung
    vessels = _vessels(scene, vessel_rng)
    vessels *= scene.vessels
    vessels *= air
    vessels *= chest.markings
    density += vessels
    for side in SIDES if chest.breast else ():
        center = (chest.spine_x + side * 0.21, chest.breast_y)
        density += chest.breast * filled(size, ellipse(center, (0.13, 0.13)), 0.012)
    np.maximum(density, scene.column * 0.62, out=density)
    np.maximum(density, scene.heart * 0.66, out=density)
    density += scene.column * (0.09 * _vertebrae(scene))
    ribs = _ribs(scene)
    ribs *= chest.rib_brightness
    density += ribs
    density += scene.haze
    return np.asarray(density, np.float32)


def _canvas(size: int, blur: float) -> Plane:
    """An empty plane with as many pixels as a content blurred by `blur` needs."""
    sigma = blur * size
    # After a wide blur fewer pixels hold the same content, at a tenth of the cost.
    side = size if sigma < 1.5 else size // 2 if sigma < 4 else size // 4
    return np.zeros((side, side), np.float32)


def _softened(plane: Plane, size: int, blur: float) -> Plane:
    sigma = blur * plane.shape[0]
    soft = cv2.GaussianBlur(plane, (0, 0), sigma) if sigma > 0.2 else plane
    return np.asarray(soft if plane.shape[0] == size else cv2.resize(soft, (size, size)), np.float32)


def _fixed(points: Points, size: int) -> NDArray[np.int32]:
    return np.round((points * size - 0.5) * (1 << _SUBPIXEL_BITS)).astype(np.int32)


def _body_outline(chest: Chest) -> Points:
    wall = chest.body_x
    right = np.array(
        [
            (0.10, -0.05), (0.12, 0.05), (0.30, 0.10), (0.46, 0.17), (0.56, 0.30), (wall + 0.05, 0.36),
            (wall, 0.50), (wall, 0.75), (wall + 0.02, 1.05),
        ]
    )  # fmt: skip
    left = right[::-1] * (-1, 1)
    return np.asarray(np.concatenate((right, left)) + np.array([chest.spine_x, 0]))


def _mediastinum_outline(chest: Chest) -> Points:
    right = np.array(
        [(0.035, -0.05), (0.045, 0.2), (0.078, 0.28), (0.06, 0.37), (0.11, 0.50), (0.11, 0.7), (0.05, 1.05)]
    )
    left = np.array([(-0.05, 1.05), (-0.07, 0.7), (-0.07, 0.55), (-0.045, 0.4), (-0.05, 0.25), (-0.035, -0.05)])
    return np.asarray(np.concatenate((right, left)) + np.array([chest.spine_x, 0]))


def _vertebrae(scene: Scene) -> Plane:
    rows = np.arange(scene.size, dtype=np.float32)[:, None] / scene.size
    return (0.6 + 0.4 * np.cos(rows * (2 * np.pi / 0.055))).astype(np.float32)


def _ribs(scene: Scene) -> Plane:
    chest = scene.chest
    along = np.linspace(0, 1, 14)
    bones: list[Points] = []
    for side in SIDES:
        for i in range(chest.rib_count):
            start = chest.apex_y + 0.01 + i * 0.073
            reach = 0.035 + (chest.body_x - 0.075) * min(1.0, 0.5 + 0.17 * i)
            # The back part of a rib rises a little from the spine and then falls to the side wall.
            fall = chest.rib_slope * (along**2 - 0.35 * np.sin(np.pi * along))
            x = chest.spine_x + side * (0.035 + (reach - 0.035) * along)
            bones.append(np.stack((x, start + fall), axis=1))
        clavicle = np.stack((0.03 + 0.33 * along, chest.apex_y + 0.07 - 0.07 * along), axis=1)
        bones.append(clavicle * (side, 1) + (chest.spine_x, 0))
    return stroked(scene.size, bones, 0.020)


def _vessels(scene: Scene, rng: np.random.Generator) -> Plane:
    """Vessels that leave each hilum and fork as they thin out."""
    chest = scene.chest
    trunks: list[Points] = []
    twigs: list[Points] = []
    for side in SIDES:
        hilum = np.array([chest.spine_x + side * 0.075, 0.43])
        for angle in np.linspace(-1.25, 1.25, 9) + rng.normal(0, 0.1, 9):
            length = rng.uniform(0.13, 0.20)
            joint = hilum + length * np.array([side * np.cos(angle), np.sin(angle)])
            trunks.append(np.stack((hilum, joint)))
            for turn in (-0.35, 0.3):
                way = angle + turn + rng.normal(0, 0.1)
                end = joint + rng.uniform(0.10, 0.17) * np.array([side * np.cos(way), np.sin(way)])
                twigs.append(np.stack((joint, end)))
    return 0.9 * stroked(scene.size, trunks, 0.011) + 0.7 * stroked(scene.size, twigs, 0.005, 0.003)
