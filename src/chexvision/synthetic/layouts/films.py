"""The synthetic radiographs of a release, before they are written: patients, studies, views, findings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from chexvision.images.radiograph import Grey
from chexvision.synthetic.synthesize import Visit, plan_visits, render_visit

_LATERALS = 4  # every fourth image is lateral
_FILMS = 7  # stream of random numbers


@dataclass(frozen=True, slots=True)
class Film:
    """One image of a release.

    Args:
        visit: what it shows.
        split: "train", "validation" or "test": no patient is in two.
        view: "PA", "AP" or "L".
        number: of the image in its study, from 1.
        seed: of the release.
    """

    visit: Visit
    split: str
    view: str
    number: int
    seed: int

    def pixels(self, size: int) -> Grey:
        """The image: uint8[size, size], a lateral one narrower."""
        grey, _ = render_visit(self.visit, self.seed, size)
        if self.view != "L":
            return grey
        # Both sides of the chest on top of each other: not the anatomy, but no frontal image.
        both = cv2.addWeighted(grey, 0.5, cv2.flip(grey, 1), 0.5, 0)
        return np.asarray(cv2.resize(both, (size * 3 // 4, size), interpolation=cv2.INTER_AREA), np.uint8)

    def random(self, stream: int) -> np.random.Generator:
        """Random numbers of the study, equal for its images."""
        return np.random.default_rng([self.seed, _FILMS, stream, self.visit.patient, self.visit.follow_up])


def plan_films(images: int, seed: int) -> list[Film]:
    """Plan a release of `images` images; a quarter are lateral, in studies that have a frontal one too."""
    laterals = images // _LATERALS
    films: list[Film] = []
    for i, (split, visit) in enumerate(plan_visits(images - laterals, seed)):
        films.append(Film(visit, split, visit.view, 1, seed))
        if i % (_LATERALS - 1) == 0 and laterals:
            films.append(Film(visit, split, "L", 2, seed))
            laterals -= 1
    return films


def report_labels(film: Film, names: Mapping[str, str], others: Sequence[str] = ()) -> dict[str, float | None]:
    """Labels as a program finds them in reports: 1, 0, -1 (uncertain), or None (not mentioned).

    Args:
        film: one image; all of its study have the same labels.
        names: the set's label of each of NIH's findings; some may have none.
        others: more labels of the set.

    Returns:
        By label; of a study without findings none is mentioned.
    """
    rng = film.random(0)
    present = {names[finding] for finding in film.visit.findings if finding in names}
    labels: dict[str, float | None] = {}
    for label in sorted({*names.values(), *others}):
        draw = rng.random()
        if label in present:
            labels[label] = 1.0
        elif not film.visit.findings or draw < 0.6:
            labels[label] = None
        else:
            labels[label] = -1.0 if draw < 0.7 else 0.0
    return labels
