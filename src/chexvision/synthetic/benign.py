"""Structures that radiographs show with or without findings.

Without them a normal image would have empty lungs, and normal/abnormal could be told from the presence of any shadow
without learning a single sign. Nothing here depends on the findings, and each structure resembles one of them at a
lower density, a smaller size or another position.
"""

from __future__ import annotations

import numpy as np

from chexvision.synthetic.anatomy import SIDES, Chest, Points, Scene, cloud, ellipse, filled, lung_outline, stroked


def add_benign(rng: np.random.Generator, scene: Scene, normal: Chest, view: str) -> None:
    """Add the variation of normal radiographs to `scene`.

    Args:
        rng: a separate generator, so that the signs of an image do not change what is added here.
        scene: without signs so far.
        normal: the chest before signs changed its shape, which must not affect what is added here.
        view: "AP" images are of patients in bed, most of them with leads on the chest.
    """
    _parenchyma(rng, scene)
    for structure, share in (
        (_hila, 0.4),
        (_soft_tissue, 0.4),
        (_scapulae, 0.5),
        (_nipples, 0.25),
        (_granulomas, 0.3),
        (_scar, 0.3),
        (_skin_fold, 0.2),
        (_stomach_bubble, 0.5),
        (_leads, 0.6 if view == "AP" else 0.1),
    ):
        if rng.random() < share:
            structure(rng, scene, normal)


def _parenchyma(rng: np.random.Generator, scene: Scene) -> None:
    """Lungs are neither even nor equally bright."""
    texture = rng.uniform(0.008, 0.025) * cloud(rng, scene.size, rng.uniform(0.05, 0.15))
    for side in SIDES:
        scene.haze += (texture + np.float32(rng.normal(0, 0.012))) * scene.lungs[side]


def _hila(rng: np.random.Generator, scene: Scene, normal: Chest) -> None:
    """Prominent hilar vessels; edema is wider and denser."""
    for side in SIDES:
        outline = ellipse((normal.spine_x + side * 0.10, 0.44), (0.05, rng.uniform(0.06, 0.09)), side * -14)
        scene.haze += rng.uniform(0.04, 0.12) * filled(scene.size, outline, 0.02) * scene.lungs[side]


def _soft_tissue(rng: np.random.Generator, scene: Scene, normal: Chest) -> None:
    """Soft tissue over one or both bases; an infiltration is denser and has texture."""
    for side in SIDES if rng.random() < 0.5 else (_side(rng),):
        center = (normal.spine_x + side * rng.uniform(0.15, 0.24), rng.uniform(0.58, 0.68))
        outline = ellipse(center, (rng.uniform(0.08, 0.12), rng.uniform(0.06, 0.10)))
        scene.haze += rng.uniform(0.03, 0.10) * filled(scene.size, outline, 0.03) * scene.lungs[side]


def _scapulae(rng: np.random.Generator, scene: Scene, normal: Chest) -> None:
    """The inner borders of the shoulder blades; pleural thickening is denser and follows the wall."""
    for side in SIDES:
        inner = rng.uniform(0.20, 0.27)
        corners = [(inner + 0.02, 0.16), (inner, 0.34), (inner + 0.03, 0.44), (0.40, 0.34), (0.40, 0.16)]
        outline = np.array(corners) * (side, 1) + (normal.spine_x, 0)
        scene.haze += rng.uniform(0.04, 0.10) * filled(scene.size, outline, 0.004) * scene.lungs[side]


def _nipples(rng: np.random.Generator, scene: Scene, normal: Chest) -> None:
    """Two faint round shadows at one height; nodules are denser and can be anywhere."""
    out, height = rng.uniform(0.18, 0.24), rng.uniform(0.58, 0.66)
    for side in SIDES:
        radius = rng.uniform(0.012, 0.018)
        outline = ellipse((normal.spine_x + side * out, height + rng.normal(0, 0.006)), (radius, radius))
        scene.haze += rng.uniform(0.08, 0.18) * filled(scene.size, outline, 0.005) * scene.lungs[side]


def _granulomas(rng: np.random.Generator, scene: Scene, normal: Chest) -> None:
    """Small calcified scars; nodules are larger."""
    for _ in range(rng.integers(1, 4)):
        side, radius = _side(rng), rng.uniform(0.006, 0.010)
        outline = ellipse(_place(rng, normal, side), (radius, radius))
        scene.haze += rng.uniform(0.25, 0.40) * filled(scene.size, outline, 0.002) * scene.lungs[side]


def _scar(rng: np.random.Generator, scene: Scene, normal: Chest) -> None:
    """A few thin lines; fibrosis is a net of them, and the plate of an atelectasis is thick."""
    side = _side(rng)
    lines: list[Points] = []
    for _ in range(rng.integers(1, 5)):
        start, way, length = np.array(_place(rng, normal, side)), rng.uniform(0, np.pi), rng.uniform(0.04, 0.12)
        lines.append(np.stack((start, start + length * np.array([np.cos(way), np.sin(way)]))))
    scene.haze += rng.uniform(0.12, 0.25) * stroked(scene.size, lines, 0.006, 0.002) * scene.lungs[side]


def _skin_fold(rng: np.random.Generator, scene: Scene, normal: Chest) -> None:
    """The edge of a fold of skin along the lung; vessels continue beyond it, unlike in a pneumothorax."""
    side = _side(rng)
    outline = lung_outline(normal, side)
    fold = outline[2:22] - (side * rng.uniform(0.05, 0.10), 0)
    scene.haze += rng.uniform(0.08, 0.16) * stroked(scene.size, [fold], 0.006, 0.003) * scene.lungs[side]


def _stomach_bubble(rng: np.random.Generator, scene: Scene, normal: Chest) -> None:
    """Gas under the diaphragm on the right of the image; the gas of a hernia is above it, behind the heart."""
    center = (normal.spine_x + rng.uniform(0.13, 0.20), normal.dome(1) + rng.uniform(0.10, 0.14))
    outline = ellipse(center, (rng.uniform(0.04, 0.07), rng.uniform(0.025, 0.04)))
    scene.haze -= rng.uniform(0.08, 0.18) * filled(scene.size, outline, 0.006) * (1 - scene.air)


def _leads(rng: np.random.Generator, scene: Scene, normal: Chest) -> None:
    """Electrodes with their wires."""
    wires: list[Points] = []
    rings: list[Points] = []
    for _ in range(rng.integers(2, 5)):
        x, y = normal.spine_x + _side(rng) * rng.uniform(0.05, 0.30), rng.uniform(0.25, 0.75)
        end = np.array([x + rng.normal(0, 0.15), rng.choice([-0.02, 1.02])])
        bend = (np.array([x, y]) + end) / 2 + rng.normal(0, 0.05, 2)
        wires.append(np.stack((np.array([x, y]), bend, end)))
        ring = ellipse((x, y), (0.014, 0.014))
        rings.append(np.concatenate((ring, ring[:1])))
    scene.haze += rng.uniform(0.15, 0.30) * stroked(scene.size, wires, 0.005, 0.001)
    scene.haze += 0.30 * stroked(scene.size, rings, 0.008, 0.001)


def _side(rng: np.random.Generator) -> int:
    return int(rng.choice(SIDES))


def _place(rng: np.random.Generator, normal: Chest, side: int) -> tuple[float, float]:
    return float(normal.spine_x + side * rng.uniform(0.09, 0.27)), float(rng.uniform(0.20, 0.66))
