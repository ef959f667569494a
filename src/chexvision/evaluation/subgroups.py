"""The same figures by sex, age, view and follow-up, and how far the groups lie apart."""

from __future__ import annotations

from collections.abc import Mapping

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
    enough: dict[str, NDArray[np.bool_]] = {}
    measured: dict[str, tuple[Figures, Figures]] = {}
    index, _ = patient_index(predictions.patients)
    for name in names:
        chosen = of == name
        part = predictions.take(chosen)
        kinds = [(part.targets == kind).sum(axis=0) for kind in (1, 0)]
        enough[name] = np.minimum(*kinds) >= FEWEST_OF_A_KIND
        # The same draws for every group, so that a patient in two of them counts alike in both.
        drawn = draws[np.unique(index[chosen])]
        measured[name] = _figures(part, None if calibrated is None else calibrated[chosen], thresholds, drawn)
    compared = [name for name in names if (of == name).sum() >= FEWEST_IMAGES]
    columns = [
        i
        for i, output in enumerate(predictions.names)
        if output != ABNORMAL and compared and all(enough[name][i] for name in compared)
    ]

    def group(name: str) -> Group:
        chosen = of == name
        once, resampled = measured[name]
        macro = macro_of(once["auroc"], columns)[0] if columns and name in compared else np.nan
        macro_ci = interval(macro_of(resampled["auroc"], columns), level) if not np.isnan(macro) else None
        binary = predictions.names.index(ABNORMAL) if ABNORMAL in predictions.names else None

        def of_binary(figure: str) -> tuple[float | None, CI]:
            row = binary if figure == "auroc" else 0
            if binary is None or np.isnan(once[figure][row, 0]):
                return None, None
            return float(once[figure][row, 0]), interval(resampled[figure][row], level)

        auroc, recall, specificity = (of_binary(figure) for figure in ("auroc", "recall", "specificity"))
        return Group(
            group=name,
            images=int(chosen.sum()),
            patients=len(np.unique(predictions.patients[chosen])),
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
                    positives=int((predictions.targets[chosen, i] == 1).sum()),
                    auroc=float(once["auroc"][i, 0]) if enough[name][i] else None,
                    auroc_ci=interval(resampled["auroc"][i], level) if enough[name][i] else None,
                )
                for i, output in enumerate(predictions.names)
                if output != ABNORMAL
            },
            note=_note(int(chosen.sum()), name in compared, bool(columns)),
        )

    return Attribute(
        attribute=attribute,
        unknown=int((of == "").sum()),
        macro_findings=tuple(predictions.names[i] for i in columns),
        groups=tuple(group(name) for name in names),
        gap=_gap({name: measured[name] for name in compared}, columns, level),
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


def _gap(measured: dict[str, tuple[Figures, Figures]], columns: list[int], level: float) -> Gap | None:
    if len(measured) < 2 or not columns:
        return None
    macro = {name: float(macro_of(once["auroc"], columns)[0]) for name, (once, _) in measured.items()}
    best, worst = max(macro, key=macro.__getitem__), min(macro, key=macro.__getitem__)
    drawn = [macro_of(measured[name][1]["auroc"], columns) for name in (best, worst)]
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
