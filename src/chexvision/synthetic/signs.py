"""The visible sign of each finding, where a radiologist would expect it.

A sign changes the measures of the chest before the scene is composed (`SHAPES`), adds to the scene (`SHADOWS`), or
both. Each function in `SHADOWS` records the bounding box of its sign.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from chexvision.synthetic.anatomy import (
    SIDES,
    Chest,
    Points,
    Scene,
    cloud,
    ellipse,
    filled,
    heart_outline,
    lung_outline,
    stroked,
)


def _enlarge_heart(rng: np.random.Generator, chest: Chest) -> Chest:
    return replace(
        chest,
        heart_left=chest.heart_left + rng.uniform(0.02, 0.045),
        heart_right=chest.heart_right + rng.uniform(0.065, 0.10),
    )


def _inflate_lungs(rng: np.random.Generator, chest: Chest) -> Chest:
    lower = rng.uniform(0.06, 0.09)
    left, right = chest.dome_y
    return replace(
        chest,
        dome_y=(left + lower, right + lower),
        dome_depth=0.025,
        wall_x=chest.wall_x + 0.02,
        lung_density=chest.lung_density - rng.uniform(0.07, 0.10),
        markings=chest.markings * 0.4,
        heart_left=chest.heart_left * 0.85,
        heart_right=chest.heart_right * 0.80,
        rib_slope=chest.rib_slope * 0.6,
    )


def _lose_volume(rng: np.random.Generator, chest: Chest) -> Chest:
    return chest.raised_dome(int(rng.choice(SIDES)), rng.uniform(0.06, 0.085))


SHAPES: dict[str, Callable[[np.random.Generator, Chest], Chest]] = {
    "Atelectasis": _lose_volume,
    "Cardiomegaly": _enlarge_heart,
    "Emphysema": _inflate_lungs,
}


def _cardiomegaly(scene: Scene) -> None:
    _record(scene, "Cardiomegaly", heart_outline(scene.chest))


def _emphysema(scene: Scene) -> None:
    outlines = [lung_outline(scene.chest, side) for side in SIDES]
    _record(scene, "Emphysema", np.concatenate(outlines))


def _atelectasis(scene: Scene) -> None:
    """A bright plate across the lower zone and airless lung over a raised diaphragm."""
    rng, chest = scene.rng, scene.chest
    side = 1 if chest.dome_y[1] < chest.dome_y[0] else -1  # the raised one
    dome = chest.dome(side)
    near, far = chest.spine_x + side * 0.09, chest.spine_x + side * (chest.wall_x - 0.03)
    height = dome - rng.uniform(0.08, 0.12)
    plate = np.array([(near, height + rng.uniform(0.02, 0.05)), (far, height)])
    floor = dome + chest.dome_depth
    wedge = np.array([(near, dome - 0.05), (far, dome - 0.02), (far + side * 0.05, floor), (near, floor)])
    scene.haze += 0.30 * stroked(scene.size, [plate], 0.022) * scene.lungs[side]
    scene.haze += 0.26 * filled(scene.size, wedge, 0.008) * scene.lungs[side]
    _record(scene, "Atelectasis", np.concatenate((plate, wedge)))


def _effusion(scene: Scene) -> None:
    """Fluid that fills the costophrenic angle and climbs the side wall: a meniscus."""
    rng, chest, side = scene.rng, scene.chest, _side(scene)
    level = chest.dome(side) - rng.uniform(0.00, 0.10)
    climb = rng.uniform(0.09, 0.14)
    across = np.linspace(0, 1, 16)
    x = chest.spine_x + side * (0.04 + (chest.wall_x + 0.02 - 0.04) * across)
    surface = np.stack((x, level - climb * across**3), axis=1)
    bottom = chest.dome(side) + chest.dome_depth + 0.02
    fluid = np.concatenate((surface, [(x[-1], bottom), (x[0], bottom)]))
    inside = filled(scene.size, fluid, 0.005) * scene.lungs[side]
    scene.haze += 0.36 * inside
    scene.vessels *= 1 - inside
    _record(scene, "Effusion", fluid)


def _infiltration(scene: Scene) -> None:
    """A faint, ill-defined haze in one or both lungs."""
    rng = scene.rng
    for side in SIDES if rng.random() < 0.4 else (_side(scene),):
        center = _place(scene, side, (0.40, 0.62), (0.12, 0.22))
        outline = ellipse(center, (rng.uniform(0.10, 0.13), rng.uniform(0.12, 0.16)))
        texture = np.clip(1 + 0.35 * cloud(rng, scene.size, 0.05), 0, 2)
        scene.haze += 0.17 * filled(scene.size, outline, 0.035) * texture * scene.lungs[side]
        _record(scene, "Infiltration", outline)


def _mass(scene: Scene) -> None:
    """One round, dense shadow of 3 cm and more."""
    rng, side = scene.rng, _side(scene)
    center = _place(scene, side, (0.25, 0.60), (0.13, 0.22))
    radius = rng.uniform(0.052, 0.075)
    outline = ellipse(center, (radius, radius * rng.uniform(0.85, 1.1)), rng.uniform(0, 90))
    scene.haze += 0.40 * filled(scene.size, outline, 0.006)
    _record(scene, "Mass", outline)


def _nodule(scene: Scene) -> None:
    """One to four small round shadows."""
    rng = scene.rng
    for _ in range(rng.integers(2, 5)):
        side = _side(scene)
        radius = rng.uniform(0.019, 0.027)
        outline = ellipse(_place(scene, side, (0.22, 0.64), (0.10, 0.26)), (radius, radius))
        scene.haze += 0.40 * filled(scene.size, outline, 0.004)
        _record(scene, "Nodule", outline)


def _pneumonia(scene: Scene) -> None:
    """Patches that run together in one zone, with dark bronchi branching through them."""
    rng, side = scene.rng, _side(scene)
    x, y = _place(scene, side, (0.50, 0.62), (0.13, 0.20))
    patches = [
        ellipse(
            (x + rng.normal(0, 0.045), y + rng.normal(0, 0.045)),
            (rng.uniform(0.035, 0.055), rng.uniform(0.03, 0.05)),
            rng.uniform(0, 180),
        )
        for _ in range(7)
    ]
    shadow = np.zeros_like(scene.haze)
    for patch in patches:
        np.maximum(shadow, filled(scene.size, patch, 0.009), out=shadow)
    hilum = np.array([x - side * 0.09, y - 0.06])
    ways = [np.array([side * 0.2 * np.cos(angle), 0.2 * np.sin(angle)]) for angle in (0.0, 0.4, 0.85)]
    bronchi = [np.stack((hilum, hilum + way)) for way in ways]
    shadow *= 0.36 * (1 - 0.75 * stroked(scene.size, bronchi, 0.008, 0.002)) * scene.lungs[side]
    scene.haze += shadow
    _record(scene, "Pneumonia", np.concatenate(patches))


def _pneumothorax(scene: Scene) -> None:
    """Black space without vessels above and next to a collapsed lung with a fine edge."""
    rng, chest, side = scene.rng, scene.chest, _side(scene)
    outline = lung_outline(chest, side)
    gap = rng.uniform(0.07, 0.11)
    pivot = np.array([chest.spine_x + side * 0.07, 0.50])
    shrunk = pivot + (outline - pivot) * (1 - gap / 0.27, 1 - gap / 0.40)
    shrunk[:, 1] += 0.04
    inside = filled(scene.size, shrunk, 0.003)
    space = np.clip(scene.lungs[side] - inside, 0, 1)
    scene.haze += 0.20 * stroked(scene.size, [shrunk[:25]], 0.006, 0.002) * scene.lungs[side]
    scene.haze += 0.05 * inside * scene.lungs[side] - 0.14 * space
    scene.vessels *= 1 - space
    _record(scene, "Pneumothorax", outline[:25])


def _consolidation(scene: Scene) -> None:
    """A lobe filled evenly, cut off straight by the fissure."""
    rng, chest, side = scene.rng, scene.chest, _side(scene)
    outline = lung_outline(chest, side)
    fissure = rng.uniform(0.38, 0.42)
    lobe = outline[outline[:, 1] < fissure]
    inside = filled(scene.size, lobe, 0.005) * scene.lungs[side]
    scene.haze += rng.uniform(0.28, 0.34) * inside
    _record(scene, "Consolidation", lobe)


def _edema(scene: Scene) -> None:
    """Haze on both sides of the hila, like the wings of a butterfly."""
    rng, chest = scene.rng, scene.chest
    strength = rng.uniform(0.26, 0.34)
    wings = []
    for side in SIDES:
        wing = ellipse((chest.spine_x + side * 0.135, 0.46), (0.105, 0.17), side * -14)
        texture = np.clip(1 + 0.2 * cloud(rng, scene.size, 0.03), 0, 2)
        scene.haze += strength * filled(scene.size, wing, 0.028) * texture * scene.lungs[side]
        wings.append(wing)
    _record(scene, "Edema", np.concatenate(wings))


def _fibrosis(scene: Scene) -> None:
    """A net of fine lines towards the bases and the walls of both lungs."""
    rng, chest = scene.rng, scene.chest
    net = np.zeros_like(scene.haze)
    outlines = []
    for side in SIDES:
        lines: list[Points] = []
        for _ in range(140):
            start = np.array([chest.spine_x + side * rng.uniform(0.10, chest.wall_x), rng.uniform(0.46, 0.80)])
            way = rng.uniform(0, np.pi)
            lines.append(np.stack((start, start + rng.uniform(0.02, 0.05) * np.array([np.cos(way), np.sin(way)]))))
        net += stroked(scene.size, lines, 0.004, 0.002) * scene.lungs[side]
        outlines.append(np.concatenate(lines))
    scene.haze += 0.34 * net
    _record(scene, "Fibrosis", np.concatenate(outlines))


def _pleural_thickening(scene: Scene) -> None:
    """A bright band inside the side wall and a cap over the apex."""
    rng, side = scene.rng, _side(scene)
    outline = lung_outline(scene.chest, side)
    wall = outline[:19]
    width = rng.uniform(0.055, 0.075)
    band = stroked(scene.size, [wall], width, 0.004) * scene.lungs[side]
    scene.haze += 0.34 * band
    inner = wall - (side * width / 2, 0)
    _record(scene, "Pleural_Thickening", np.concatenate((wall, inner)))


def _hernia(scene: Scene) -> None:
    """A round bubble behind the heart: a bright wall, gas above, a fluid level below."""
    rng, chest = scene.rng, scene.chest
    center = (chest.spine_x + rng.uniform(0.01, 0.05), max(chest.dome_y) - rng.uniform(0.03, 0.06))
    radii = (rng.uniform(0.085, 0.11), rng.uniform(0.075, 0.095))
    outline = ellipse(center, radii)
    inside = filled(scene.size, outline, 0.003)
    gas = inside.copy()
    gas[round((center[1] + 0.2 * radii[1]) * scene.size) :] = 0
    scene.haze += 0.22 * stroked(scene.size, [np.concatenate((outline, outline[:1]))], 0.014) - 0.36 * gas
    _record(scene, "Hernia", outline)


SHADOWS: dict[str, Callable[[Scene], None]] = {
    "Atelectasis": _atelectasis,
    "Cardiomegaly": _cardiomegaly,
    "Effusion": _effusion,
    "Infiltration": _infiltration,
    "Mass": _mass,
    "Nodule": _nodule,
    "Pneumonia": _pneumonia,
    "Pneumothorax": _pneumothorax,
    "Consolidation": _consolidation,
    "Edema": _edema,
    "Emphysema": _emphysema,
    "Fibrosis": _fibrosis,
    "Pleural_Thickening": _pleural_thickening,
    "Hernia": _hernia,
}


def _side(scene: Scene) -> int:
    return int(scene.rng.choice(SIDES))


def _place(scene: Scene, side: int, rows: tuple[float, float], out: tuple[float, float]) -> tuple[float, float]:
    """A point in the lung of `side`: `rows` is the range of y, `out` that of the distance from the spine."""
    x = scene.chest.spine_x + side * scene.rng.uniform(*out)
    return float(x), float(scene.rng.uniform(*rows))


def _record(scene: Scene, finding: str, outline: Points) -> None:
    (x0, y0), (x1, y1) = outline.min(axis=0), outline.max(axis=0)
    scene.boxes.append((finding, float(x0), float(y0), float(x1), float(y1)))
