"""``study.json``: what the variants of a study reached, in one record. Needs no numpy."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from chexvision.config.test_time import Tta
from chexvision.metrics.records import UNDEFINED, Difference, Estimate, IntervalMethod, Record


class StudyMember(Record):
    """One run of a variant.

    Args:
        seed: of its training.
        run_id: the run; null where it was not sent.
        status: as of `chexvision runs status`, or "waiting".
        message: why it failed, or why there are no results of it.
        artifact: where the model is: ``USER/REPO@<sha>`` or a folder.
        split: what was measured, mostly "test".
        macro_auroc: mean AUROC over the findings.
        binary_auroc: AUROC of normal/abnormal.
        macro_f1: mean F1 over the findings at their thresholds.
        tta: the test-time augmentation that it was measured with.
        epoch: the one whose weights were measured, from 1.
        train_seconds: spent in optimization steps.
        source: commit or version of the source that the run was sent with.
    """

    seed: int
    run_id: str | None
    status: str
    message: str = ""
    artifact: str | None = None
    split: str | None = None
    macro_auroc: Estimate = UNDEFINED
    binary_auroc: Estimate = UNDEFINED
    macro_f1: Estimate = UNDEFINED
    tta: Tta = "none"
    epoch: int | None = None
    train_seconds: float | None = None
    source: str | None = None


class StudyVariant(Record):
    """One row of a study's table.

    Args:
        name: of the variant.
        changes: what differs from the base, as ``a.b=value`` texts.
        members: its runs, one per seed.
        macro_auroc: of one seed that of its run; of several their mean, with an interval where predictions are
            available.
        difference: of macro AUROC from the base's, with p-values; null where there was no paired test.
        untested: why there was none.
    """

    name: str
    changes: tuple[str, ...] = ()
    members: tuple[StudyMember, ...]
    macro_auroc: Estimate = UNDEFINED
    difference: Difference | None = None
    untested: str = ""

    @property
    def seed_values(self) -> list[float]:
        """The macro AUROC of each seed that has one."""
        return [of.macro_auroc.value for of in self.members if of.macro_auroc.value is not None]


class LeftOut(Record):
    """A data set that a run was trained without, and its test images under the models with it and without it.

    Args:
        variant: the run's.
        dataset: ``USER/NAME@<sha>`` or a folder.
        seed: of both models.
        images: that were measured.
        patients: of whom.
        findings: of the mean: that both models predict, with enough cases.
        macro_auroc: first of the model that was trained with the data set, then of the one without it, and their
            difference, which is paired.
        message: why there is none.
    """

    variant: str
    dataset: str
    seed: int
    images: int | None = None
    patients: int | None = None
    findings: int | None = None
    macro_auroc: Difference | None = None
    message: str = ""


class StudyResults(Record):
    """``study.json``.

    Args:
        format: of the file.
        version: of chexvision.
        study: its name.
        base: the variant that the others are compared with, the first one.
        dataset: ``USER/NAME@<sha>`` or a folder; several where variants differ in it.
        synthetic: whether the images are synthetic, not taken of patients.
        images: how many were measured; null where nothing was.
        patients: of whom.
        interval: how the intervals of differences were made; null where nothing was compared.
        variants: in the order of the study.
        left_out: of a study that leaves data sets out.
        notes: what a reader must know.
    """

    format: Literal[1] = 1
    version: str
    study: str
    base: str
    dataset: tuple[str, ...]
    synthetic: bool = False
    images: int | None = None
    patients: int | None = None
    interval: IntervalMethod | None = None
    variants: tuple[StudyVariant, ...] = Field(min_length=1)
    left_out: tuple[LeftOut, ...] = ()
    notes: tuple[str, ...] = ()
