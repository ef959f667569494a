"""The same metrics by sex, age, view and follow-up, and how far apart the groups are.

The gap is between the groups with the highest and the lowest macro AUROC, which are found on the same data. An
interval for these two as if they had been named before excludes zero in a quarter to a third of all data sets without
any difference between five groups. So all pairs of groups are compared at once: the bootstrap's deviations of every
pair's difference from the measured one, each divided by its standard error, show how large the largest of them gets
by chance (Westfall and Young 1993; for intervals, Tukey's method with the bootstrap's quantile).

Patients are resampled with all their images, so this holds for attributes that change from image to image (age,
view, follow-up) as for those that do not (sex), and for groups of different size and prevalence. A permutation of
groups does not: it assumes equal prevalence in all groups, gave up to 20 % false positives without it, and has no
exchangeable units where a patient's images are in several groups.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from chexvision.labels import ABNORMAL
from chexvision.metrics.bootstrap import MIN_DEFINED_SHARE, Counts, estimate, patient_index, resample_patients
from chexvision.metrics.measure import macro_of
from chexvision.metrics.predictions import Predictions
from chexvision.metrics.ranking import Floats
from chexvision.metrics.records import (
    MIN_CASES,
    UNDEFINED,
    Attribute,
    Estimate,
    Gap,
    Group,
    GroupFinding,
    Interval,
    IntervalMethod,
)
from chexvision.metrics.weighted import Measure, Values

MIN_IMAGES = 100  # a smaller group is shown, but not compared
MIN_SHARE = 0.5  # of the findings with enough cases; a group with fewer would shorten the mean for all groups
AGE_BANDS = ((0, 17), (18, 39), (40, 59), (60, 79), (80, 120))

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
        method: how to make intervals; all groups share the resampled patients.
        calibrated: float[N, K], what calls are made on, if not the raw probabilities.
        thresholds: by name.
    """
    draws = resample_patients(len(np.unique(predictions.patients)), method)
    found = []
    for attribute, of in groups.items():
        names = sorted(set(of.tolist()) - {""}, key=_band_order)
        if len(names) > 1:
            found.append(_measure(attribute, names, of, predictions, draws, method.level, calibrated, thresholds))
    return tuple(found)


@dataclass(frozen=True, slots=True)
class _Measured:
    """A group's predictions, values once and resampled, cases (int[K, 2]) and why a column has no values."""

    part: Predictions
    once: Values
    resampled: Values
    cases: NDArray[np.int64]
    too_few: tuple[str | None, ...]

    @property
    def findings(self) -> int:
        """How many findings it has enough cases of."""
        of = zip(self.part.names, self.too_few, strict=True)
        return sum(name != ABNORMAL and reason is None for name, reason in of)

    def note(self, findings: int) -> str | None:
        """Why it is not compared, if it is not; `findings` is how many all images together have enough cases of."""
        if len(self.part) < MIN_IMAGES:
            return f"{len(self.part)} images are too few to compare (fewer than {MIN_IMAGES})"
        if self.findings < MIN_SHARE * findings or not findings:
            return f"too few cases to compare: enough of {self.findings} of {findings} findings"
        return None


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
        # The same draws for every group, so that a patient in two of them counts alike in both.
        counts = draws[np.unique(index[chosen])]
        measured[name] = _values(part, None if calibrated is None else calibrated[chosen], thresholds, counts)
    findings = Measure(predictions, only=()).too_few
    total = sum(name != ABNORMAL and why is None for name, why in zip(predictions.names, findings, strict=True))
    notes = {name: group.note(total) for name, group in measured.items()}
    compared = {name: group for name, group in measured.items() if notes[name] is None}
    columns = [
        i
        for i, output in enumerate(predictions.names)
        if output != ABNORMAL and compared and all(group.too_few[i] is None for group in compared.values())
    ]
    return Attribute(
        attribute=attribute,
        unknown=int((of == "").sum()),
        macro_findings=tuple(predictions.names[i] for i in columns),
        groups=tuple(_group(name, group, columns, notes[name], level) for name, group in measured.items()),
        gap=_gap(compared, columns, level),
    )


def _group(name: str, measured: _Measured, columns: list[int], note: str | None, level: float) -> Group:
    """The record of a group; its macro AUROC is over `columns`, which all compared groups have."""
    part, once, resampled = measured.part, measured.once, measured.resampled
    if note is None and not columns:
        note = f"no finding has {MIN_CASES} patients with and {MIN_CASES} without it in every group"
    binary = part.names.index(ABNORMAL) if ABNORMAL in part.names else None

    def of_binary(metric: str) -> Estimate:
        if binary is None:
            return UNDEFINED
        row = binary if metric == "auroc" else 0
        return estimate(once[metric][row, 0], resampled[metric][row], level)

    return Group(
        group=name,
        images=len(part),
        patients=len(np.unique(part.patients)),
        macro_auroc=UNDEFINED
        if note is not None
        else estimate(macro_of(once["auroc"], columns)[0], macro_of(resampled["auroc"], columns), level),
        binary_auroc=of_binary("auroc"),
        binary_too_few=None if binary is None else measured.too_few[binary],
        recall=of_binary("recall"),
        specificity=of_binary("specificity"),
        findings={
            output: GroupFinding(
                positives=int((part.targets[:, i] == 1).sum()),
                auroc=estimate(once["auroc"][i, 0], resampled["auroc"][i], level),
                too_few=measured.too_few[i],
            )
            for i, output in enumerate(part.names)
            if output != ABNORMAL
        },
        note=note,
    )


def _values(
    part: Predictions, calibrated: Floats | None, thresholds: Mapping[str, float] | None, draws: Counts
) -> _Measured:
    """The values of a group; those at thresholds for normal/abnormal alone."""
    areas = Measure(part, only=("auroc",))
    once, resampled = areas.once(), areas.under(draws)
    if ABNORMAL in part.names:
        i = part.column(ABNORMAL)
        threshold = None if thresholds is None else {k: v for k, v in thresholds.items() if k == ABNORMAL}
        alone = part.select((ABNORMAL,))
        calls = Measure(
            alone, None if calibrated is None else calibrated[:, [i]], threshold, only=("recall", "specificity")
        )
        once |= calls.once()
        resampled |= calls.under(draws)
    return _Measured(part, once, resampled, areas.cases, areas.too_few)


def _gap(measured: dict[str, _Measured], columns: list[int], level: float) -> Gap | None:
    if len(measured) < 2 or not columns:
        return None
    names = list(measured)
    macro = np.array([macro_of(group.once["auroc"], columns)[0] for group in measured.values()])
    resampled = np.stack([macro_of(group.resampled["auroc"], columns) for group in measured.values()])
    # A resample of m cases varies by (m - 1) / m too little.
    cases = np.array([group.cases[columns].min() for group in measured.values()])
    resampled = macro[:, None] + (resampled - macro[:, None]) * np.sqrt(cases / (cases - 1))[:, None]
    worst, *_, best = np.argsort(macro, kind="stable").tolist()
    ends, p_value = _of_all_pairs(macro, resampled, (best, worst), level)
    return Gap(
        best=names[best],
        worst=names[worst],
        difference=Estimate(value=float(macro[best] - macro[worst]), interval=ends),
        p_value=p_value,
        pairs=len(names) * (len(names) - 1) // 2,
    )


def _of_all_pairs(
    macro: Floats, resampled: Floats, pair: tuple[int, int], level: float
) -> tuple[Interval, float | None]:
    """The simultaneous interval of one pair's difference, the higher group first, and its p-value for all pairs.

    Macro AUROCs are float64[G], and float64[G, B] with NaN where a resample does not define one.
    """
    first, second = np.triu_indices(len(macro), 1)
    deviations = resampled - macro[:, None]
    pairs = deviations[first] - deviations[second]
    pairs = pairs[:, ~np.isnan(pairs).any(axis=0)]
    if pairs.shape[1] < MIN_DEFINED_SHARE * resampled.shape[1]:
        return None, None
    errors = pairs.std(axis=1, ddof=1)[:, None]
    largest = np.divide(np.abs(pairs), errors, out=np.zeros_like(pairs), where=errors > 0).max(axis=0)
    error = float(errors[(first == min(pair)) & (second == max(pair))][0, 0])
    difference = float(macro[pair[0]] - macro[pair[1]])
    reach = float(np.quantile(largest, level)) * error
    p_value = (1 + int((largest * error >= difference).sum())) / (1 + len(largest))
    return (difference - reach, difference + reach), p_value


def _age_band(age: int | None) -> str:
    band = next((band for band in AGE_BANDS if age is not None and band[0] <= age <= band[1]), None)
    if band is None:  # unknown, or as impossible as the 414 years in the release's first edition
        return ""
    low, high = band
    return f"{low}-{high}" if high < AGE_BANDS[-1][1] else f"{low}+"


def _band_order(group: str) -> tuple[int, str]:
    digits = group.split("-")[0].rstrip("+")
    return (0 if group == "first" else int(digits) + 1 if digits.isdigit() else 0, group)
