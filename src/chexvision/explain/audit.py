"""The audit: do a model's maps agree with the boxes of annotators, or of the synthetic images?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from chexvision.artifact.load import Ensemble
from chexvision.explain.measures import (
    GRID,
    MEASURES,
    TOLERANCE,
    BoxMasks,
    MapAgreement,
    agreement,
    center_map,
    enlarge,
    random_agreement,
)
from chexvision.explain.overlay import Heat
from chexvision.images.radiograph import Grey
from chexvision.inference.member_maps import explain_members
from chexvision.metrics.bootstrap import interval, patient_index, resample_patients
from chexvision.metrics.records import Estimate, IntervalMethod, Record
from chexvision.nih.boxes import Box
from chexvision.shards.split_rule import SplitRecord

_BATCH = 8


class MapEstimate(Estimate):
    """A mean over cases, and that of an uninformative map; null where no case defines it.

    Args:
        value: of the model, with its interval.
        random: of the same maps at a random position, exactly.
        centre: of a Gaussian in the image's center.
        gain: `value` less the larger of `random` and `centre`, case means.
    """

    random: float | None = None
    centre: float | None = None
    gain: float | None = None


class FindingAudit(Record):
    """Of one finding, or of all. See `chexvision.explain.measures.MapAgreement` for the four measures."""

    cases: int
    patients: int
    empty: int  # maps of zeros: nothing raises the logit
    pointing: MapEstimate
    iou: MapEstimate
    energy: MapEstimate
    outside: MapEstimate


class CaseRecord(Record):
    """One image and finding."""

    image: str
    finding: str
    probability: float
    pointing: bool
    iou: float
    energy: float
    outside: float | None


class AuditConditions(Record):
    """Under which the maps were measured.

    Args:
        images: folders, or the shards and which split of them.
        division: how the shards were divided; null for folders and for all images of the shards.
    """

    model: str
    images: str
    division: SplitRecord | None
    boxes: str
    boxes_sha256: str
    method: str
    grid: int = GRID
    pointing_tolerance: int = TOLERANCE
    iou_threshold: str = "Otsu's, of each map"
    chest: str = "a rounded rectangle, the same for every image; see docs/explain.md"
    interval: IntervalMethod


class Audit(Record):
    """``audit.json``. In format 1, which had no such key, `interval` of a `MapEstimate` was named ``ci``."""

    format: Literal[2] = 2
    conditions: AuditConditions
    overall: FindingAudit
    findings: dict[str, FindingAudit]
    cases: tuple[CaseRecord, ...]


@dataclass(frozen=True, slots=True)
class Subject:
    """An image that has boxes.

    Args:
        name: its file.
        patient: by number; one a person.
        pixels: for each member of the ensemble, uint8[S, S], as it takes the image.
        boxes: by finding, not empty.
    """

    name: str
    patient: int
    pixels: tuple[Grey, ...]
    boxes: dict[str, tuple[Box, ...]]


@dataclass(frozen=True, slots=True)
class Case:
    """One image and finding, explained and measured."""

    subject: Subject
    finding: str
    probability: float  # raw
    heat: Heat  # float[GRID, GRID], in units of the logit
    measured: MapAgreement
    random: MapAgreement
    center: MapAgreement


def explain_subjects(
    ensemble: Ensemble, subjects: Sequence[Subject], advance: Callable[[int], None] = lambda _: None
) -> tuple[list[Case], str]:
    """Explain every boxed finding of every image, and return the method.

    Args:
        ensemble: on the device to use; it finds all of the subjects' findings.
        subjects: at least one.
        advance: called with the number of further images that are done.
    """
    center = center_map()
    cases: list[Case] = []
    method = ""
    for first in range(0, len(subjects), _BATCH):
        batch = subjects[first : first + _BATCH]
        pixels = [np.stack(of) for of in zip(*(subject.pixels for subject in batch), strict=True)]
        outputs = [[ensemble.findings.index(finding) for finding in subject.boxes] for subject in batch]
        most = max(len(row) for row in outputs)
        # Shorter rows are filled up with their first output, whose repeated maps are not used.
        wanted = np.array([row + row[:1] * (most - len(row)) for row in outputs], np.int64)
        found, maps = explain_members(ensemble, pixels, wanted)
        method = maps.method
        chances = np.take_along_axis(found.probabilities, wanted, axis=1).tolist()
        for i, subject in enumerate(batch):
            for j, (finding, boxes) in enumerate(subject.boxes.items()):
                heat, target = enlarge(maps.values[i, j]), BoxMasks.of(boxes)
                cases.append(
                    Case(
                        subject,
                        finding,
                        chances[i][j],
                        heat,
                        agreement(heat, target),
                        random_agreement(heat, target),
                        agreement(center, target),
                    )
                )
        advance(len(batch))
    return cases, method


def summarize(cases: Sequence[Case], conditions: AuditConditions, findings: Sequence[str]) -> Audit:
    """All measurements of the cases; findings without a case are left out."""
    by_finding = {name: [case for case in cases if case.finding == name] for name in findings}
    return Audit(
        conditions=conditions,
        overall=_audit(cases, conditions.interval),
        findings={name: _audit(of, conditions.interval) for name, of in by_finding.items() if of},
        cases=tuple(
            CaseRecord(
                image=case.subject.name,
                finding=case.finding,
                probability=case.probability,
                pointing=bool(case.measured.pointing),
                iou=case.measured.iou,
                energy=case.measured.energy,
                outside=None if np.isnan(case.measured.outside) else case.measured.outside,
            )
            for case in cases
        ),
    )


def _audit(cases: Sequence[Case], method: IntervalMethod) -> FindingAudit:
    index, patients = patient_index(np.array([case.subject.patient for case in cases], np.int64))
    draws = resample_patients(patients, method).astype(np.float64)

    def mean(name: str) -> MapEstimate:
        """Of a measure over the cases that define it."""
        values, random, center = (
            np.array([getattr(of, name) for of in group], np.float64)
            for group in zip(*((case.measured, case.random, case.center) for case in cases), strict=True)
        )
        known = ~np.isnan(values)
        if not known.any():
            return MapEstimate()
        sums = np.bincount(index[known], values[known], patients) @ draws
        with np.errstate(divide="ignore", invalid="ignore"):
            resampled = sums / (np.bincount(index[known], minlength=patients) @ draws)
        value, by_chance, central = (float(of[known].mean()) for of in (values, random, center))
        return MapEstimate(
            value=value,
            interval=interval(resampled, method.level),
            random=by_chance,
            centre=central,
            gain=value - max(by_chance, central),
        )

    empty = sum(bool(np.isnan(case.measured.outside)) for case in cases)
    return FindingAudit(cases=len(cases), patients=patients, empty=empty, **{name: mean(name) for name in MEASURES})
