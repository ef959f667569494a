"""The same figures by sex, age, view and follow-up, and how far the groups lie apart."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from chexvision.evaluation.bootstrap import Counts, draw_patients, interval, patient_index
from chexvision.evaluation.metrics import Figures, Measure, macro_of
from chexvision.evaluation.predictions import Predictions
from chexvision.evaluation.ranking import Floats
from chexvision.evaluation.records import ABNORMAL, CI, Attribute, Gap, Group, GroupFinding, IntervalMethod

FEWEST_IMAGES = 100  # a smaller group is shown, but not compared
FEWEST_OF_A_KIND = 10  # positives and negatives that a finding needs in a group
AGE_BANDS = ((0, 17), (18, 39), (40, 59), (60, 79), (80, 200))

Groups = dict[str, NDArray[np.str_]]  # by attribute: str[N], "" where it is not known


def group_images(
    sex: list[str | None], age: list[int | None], view: list[str | None], follow_up: list[int | None]
) -> Groups:
    """Sort images into groups by what is known of each."""
    return {
        "sex": np.array([value or "" for value in sex]),
        "age": np.array([_age_band(value) for value in age]),
        "view": np.array([value or "" for value in view]),
        "follow-up": np.array(
            ["" if v is None else "first" if v == 0 else "1-4" if v < 5 else "5+" for v in follow_up]
        ),
    }


def measure_subgroups(
    predictions: Predictions,
    groups: Groups,
    method: IntervalMethod,
    calibrated: Floats | None = None,
    thresholds: Mapping[str, float] | None = None,
) -> tuple[Attribute, ...]:
    """Measure every group of every attribute that has more than one.

    Args:
        predictions: all images.
        groups: from `group_images`, for the same images.
        method: how to make intervals; all groups share the drawn patients.
        calibrated: float[N, K], what calls are made on, if not the raw probabilities.
        thresholds: by name.
    """
    draws = draw_patients(len(np.unique(predictions.patients)), method)
    found = []
    for attribute, of in groups.items():
        names = sorted(set(of.tolist()) - {""}, key=_band_order)
        if len(names) > 1:
            found.append(_measure(attribute, names, of, predictions, draws, method.level, calibrated, thresholds))
    return tuple(found)


@dataclass(frozen=True, slots=True)
class _Measured:
    """A group's predictions, its figures once and resampled, and bool[K], the outputs with enough of both kinds."""

    part: Predictions
    once: Figures
    resampled: Figures
    enough: NDArray[np.bool_]

    @property
    def compared(self) -> bool:
        return len(self.part) >= FEWEST_IMAGES


def _measure(
    attribute: str,
    names: list[str],
    of: NDArray[np.str_],
    predictions: Predictions,
    draws: Counts,
    level: float,
    calibrated: Floats | None,
    thresholds: Mapping[str, float] | None,
) -> Attribute:
    measured: dict[str, _Measured] = {}
    index, _ = patient_index(predictions.patients)
    for name in names:
        chosen = of == name
        part = predictions.take(chosen)
        kinds = [(part.targets == kind).sum(axis=0) for kind in (1, 0)]
        # The same draws for every group, so that a patient in two of them counts alike in both.
        drawn = draws[np.unique(index[chosen])]
        once, resampled = _figures(part, None if calibrated is None else calibrated[chosen], thresholds, drawn)
        measured[name] = _Measured(part, once, resampled, np.minimum(*kinds) >= FEWEST_OF_A_KIND)
    compared = {name: group for name, group in measured.items() if group.compared}
    columns = [
        i
        for i, output in enumerate(predictions.names)
        if output != ABNORMAL and compared and all(group.enough[i] for group in compared.values())
    ]
    return Attribute(
        attribute=attribute,
        unknown=int((of == "").sum()),
        macro_findings=tuple(predictions.names[i] for i in columns),
        groups=tuple(_group(name, group, columns, level) for name, group in measured.items()),
        gap=_gap(compared, columns, level),
    )


def _group(name: str, measured: _Measured, columns: list[int], level: float) -> Group:
    """The record of a group; its macro AUROC is over `columns`, which all compared groups have."""
    part, once, resampled = measured.part, measured.once, measured.resampled
    macro = macro_of(once["auroc"], columns)[0] if measured.compared else np.nan
    macro_ci = interval(macro_of(resampled["auroc"], columns), level) if not np.isnan(macro) else None
    binary = part.names.index(ABNORMAL) if ABNORMAL in part.names else None

    def of_binary(figure: str) -> tuple[float | None, CI]:
        row = binary if figure == "auroc" else 0
        if binary is None or np.isnan(once[figure][row, 0]):
            return None, None
        return float(once[figure][row, 0]), interval(resampled[figure][row], level)

    auroc, recall, specificity = (of_binary(figure) for figure in ("auroc", "recall", "specificity"))
    return Group(
        group=name,
        images=len(part),
        patients=len(np.unique(part.patients)),
        macro_auroc=None if np.isnan(macro) else float(macro),
        macro_auroc_ci=macro_ci,
        binary_auroc=auroc[0],
        binary_auroc_ci=auroc[1],
        recall=recall[0],
        recall_ci=recall[1],
        specificity=specificity[0],
        specificity_ci=specificity[1],
        findings={
            output: GroupFinding(
                positives=int((part.targets[:, i] == 1).sum()),
                auroc=float(once["auroc"][i, 0]) if measured.enough[i] else None,
                auroc_ci=interval(resampled["auroc"][i], level) if measured.enough[i] else None,
            )
            for i, output in enumerate(part.names)
            if output != ABNORMAL
        },
        note=_note(len(part), measured.compared, bool(columns)),
    )


def _figures(
    part: Predictions, calibrated: Floats | None, thresholds: Mapping[str, float] | None, draws: Counts
) -> tuple[Figures, Figures]:
    """The figures of a group, once and resampled; calls of normal/abnormal alone, in its row."""
    areas = Measure(part, only=("auroc",))
    once, resampled = areas.once(), areas.under(draws)
    if ABNORMAL in part.names:
        i = part.column(ABNORMAL)
        cut = None if thresholds is None else {k: v for k, v in thresholds.items() if k == ABNORMAL}
        alone = Predictions(
            (ABNORMAL,), part.filenames, part.patients, part.probabilities[:, [i]], part.targets[:, [i]]
        )
        calls = Measure(
            alone, None if calibrated is None else calibrated[:, [i]], cut, only=("recall", "specificity")
        )
        once |= calls.once()
        resampled |= calls.under(draws)
    return once, resampled


def _gap(measured: dict[str, _Measured], columns: list[int], level: float) -> Gap | None:
    if len(measured) < 2 or not columns:
        return None
    macro = {name: float(macro_of(group.once["auroc"], columns)[0]) for name, group in measured.items()}
    best, worst = max(macro, key=macro.__getitem__), min(macro, key=macro.__getitem__)
    drawn = [macro_of(measured[name].resampled["auroc"], columns) for name in (best, worst)]
    return Gap(
        best=best,
        worst=worst,
        difference=macro[best] - macro[worst],
        difference_ci=interval(drawn[0] - drawn[1], level),
    )


def _note(images: int, compared: bool, common: bool) -> str | None:
    if not compared:
        return f"{images} images are too few to compare (fewer than {FEWEST_IMAGES})"
    if not common:
        return f"no finding has {FEWEST_OF_A_KIND} positives and negatives in every group"
    return None


def _age_band(age: int | None) -> str:
    if age is None:
        return ""
    low, high = next(band for band in AGE_BANDS if band[0] <= age <= band[1])
    return f"{low}-{high}" if high < AGE_BANDS[-1][1] else f"{low}+"


def _band_order(group: str) -> tuple[int, str]:
    digits = group.split("-")[0].rstrip("+")
    return (0 if group == "first" else int(digits) + 1 if digits.isdigit() else 0, group)
