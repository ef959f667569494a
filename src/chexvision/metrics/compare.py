"""Two models on the same images: paired differences of their AUROCs, with intervals and p-values.

The variance of a difference without resampling is DeLong, DeLong and Clarke-Pearson's (Biometrics 1988), computed by
ranks (Sun and Xu, IEEE Signal Processing Letters 2014). Their test assumes independent images. With several images
per patient, Obuchowski (Biometrics 1997) adds up each patient's contributions before they are squared.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from chexvision.errors import UsageError
from chexvision.labels import ABNORMAL
from chexvision.metrics.bootstrap import estimate, patient_index, resample_patients
from chexvision.metrics.measure import macro_columns, macro_of
from chexvision.metrics.predictions import Predictions
from chexvision.metrics.ranking import Floats
from chexvision.metrics.records import Comparison, Difference, IntervalMethod
from chexvision.metrics.weighted import Measure


def compare(
    first: Predictions, second: Predictions, method: IntervalMethod, names: tuple[str, str] = ("first", "second")
) -> Comparison:
    """Compare two models' predictions of the same images.

    Args:
        first: of the model that is compared with.
        second: of the other; its images may be in another order.
        method: how to make intervals.
        names: what to call the two.

    Raises:
        UsageError: the images, their labels or which of them are of one patient differ, or no output is in both.
    """
    first, second = aligned(first, second, names)
    weightings = resample_patients(len(np.unique(first.patients)), method)
    measured = [Measure(model, only=("auroc",)) for model in (first, second)]
    once = [model.once()["auroc"] for model in measured]
    resampled = [model.under(weightings)["auroc"] for model in measured]
    columns = macro_columns(first.names, once[0][:, 0])

    def difference(rows: list[int], too_few: str | None) -> Difference:
        """Of the mean AUROC over `rows`."""
        if too_few is not None:
            return Difference(too_few=too_few)
        a, b = (float(macro_of(values, rows)[0]) for values in once)
        draws = [macro_of(values, rows) for values in resampled]
        error = mean_shares(second, rows) - mean_shares(first, rows)
        return Difference(
            first=a,
            second=b,
            difference=estimate(b - a, draws[1] - draws[0], method.level),
            p_delong=p_value(b - a, standard_error(error)),
            p_patients=p_value(b - a, standard_error(error, first.patients)),
        )

    outputs = [difference([i], measured[0].too_few[i]) for i in range(len(first.names))]
    delong, patients = holm([of.p_delong for of in outputs]), holm([of.p_patients for of in outputs])
    adjusted = [
        of.model_copy(update={"p_delong_holm": a, "p_patients_holm": b})
        for of, a, b in zip(outputs, delong, patients, strict=True)
    ]
    return Comparison(
        first=names[0],
        second=names[1],
        images=len(first),
        patients=measured[0].patients,
        images_sha256=first.images_sha256,
        interval=method,
        macro=difference(columns, None if columns else "no finding has enough cases"),
        macro_findings=len(columns),
        outputs=dict(zip(first.names, adjusted, strict=True)),
    )


def mean_shares(model: Predictions, columns: list[int]) -> Floats:
    """What each image contributes to the error of the mean AUROC over `columns`: float64[N]."""
    parts = [contributions(model.probabilities[:, i], model.targets[:, i])[1] for i in columns]
    return np.asarray(np.mean(parts, axis=0), np.float64)


def aligned(first: Predictions, second: Predictions, names: tuple[str, str]) -> tuple[Predictions, Predictions]:
    """Both with the same outputs; the second in the first's order of images, with the first's patient numbers."""
    ours, theirs = set(first.filenames.tolist()), set(second.filenames.tolist())
    if ours != theirs:
        odd = min(ours ^ theirs)
        where, other = (names[0], names[1]) if odd in ours else (names[1], names[0])
        raise UsageError(
            f"{names[0]} and {names[1]} are not of the same images: {odd} is in {where} and not in {other} "
            f"({len(ours - theirs)} and {len(theirs - ours)} in all); a paired comparison needs the same ones"
        )
    second = in_order_of(first, second, names)
    common = tuple(name for name in first.names if name in second.names)
    if not common:
        raise UsageError(f"{names[0]} and {names[1]} predict nothing in common")
    first, second = first.select(common), second.select(common)
    if not np.array_equal(first.targets, second.targets, equal_nan=True):
        row = int(np.flatnonzero((first.targets != second.targets).any(axis=1))[0])
        raise UsageError(f"{names[0]} and {names[1]} have different labels, first for {first.filenames[row]}")
    return first, second


def in_order_of(first: Predictions, second: Predictions, names: tuple[str, str]) -> Predictions:
    """The second, which is of the first's images, in the first's order and with its patient numbers.

    Raises:
        UsageError: they do not agree on which images are of one patient.
    """
    index = np.empty(len(first), np.int64)
    index[np.argsort(first.filenames)] = np.argsort(second.filenames)
    second = second.take(index)
    differ = np.flatnonzero(_first_of_patient(first.patients) != _first_of_patient(second.patients))
    if differ.size:
        raise UsageError(
            f"{names[0]} and {names[1]} do not agree on which images are of one patient, first for "
            f"{first.filenames[differ[0]]} (patient {first.patients[differ[0]]} and {second.patients[differ[0]]}); "
            "correct patient_id in one of them"
        )
    return replace(second, patients=first.patients)


def _first_of_patient(patients: NDArray[np.int64]) -> NDArray[np.int64]:
    """For int64[N], where each image's patient occurs first: the same whatever numbers patients have."""
    _, first, index = np.unique(patients, return_index=True, return_inverse=True)
    return np.asarray(first[index], np.int64)


def contributions(scores: Floats, targets: Floats) -> tuple[float, Floats]:
    """An AUROC and what each image contributes to its error.

    Args:
        scores: float[N].
        targets: float[N], 1, 0 or NaN for unknown; two or more of both kinds.

    Returns:
        The AUROC, and float64[N] whose sum of squares is DeLong's variance; 0 for unknown targets. For two
        models on the same images, the sum of products is the covariance.

    Raises:
        ValueError: fewer than two positives or negatives.
    """
    from scipy.stats import rankdata  # half a second to import

    positive, negative = targets == 1, targets == 0
    m, n = int(positive.sum()), int(negative.sum())
    if m < 2 or n < 2:
        raise ValueError(f"{m} positives and {n} negatives have no variance")
    known = positive | negative
    among_all = np.zeros(len(scores))
    among_all[known] = rankdata(scores[known])
    # Mid-ranks: how many of the other kind rank below, ties counted half.
    below = (among_all[positive] - rankdata(scores[positive])) / n
    above = 1 - (among_all[negative] - rankdata(scores[negative])) / m
    auroc = float(below.mean())
    shares = np.zeros(len(scores))
    shares[positive] = (below - auroc) / math.sqrt(m * (m - 1))
    shares[negative] = (above - auroc) / math.sqrt(n * (n - 1))
    return auroc, shares


def standard_error(shares: Floats, patients: NDArray[np.int64] | None = None) -> float:
    """The standard error of float[N] contributions, or of a difference or mean of several models' contributions.

    Args:
        shares: from `contributions`.
        patients: int[N]; adds up each patient's first. None takes images for independent.
    """
    if patients is not None:
        shares = np.asarray(np.bincount(patient_index(patients)[0], shares), np.float64)
    return math.sqrt(float((shares**2).sum()))


def macro_shares(predictions: Predictions) -> Floats | None:
    """What each image contributes to the error of the mean AUROC over the findings: float64[N].

    Findings with fewer than two positives or negatives, whose variance is unknown, are left out; None if all are.
    """
    targets = predictions.targets
    columns = [
        i
        for i, name in enumerate(predictions.names)
        if name != ABNORMAL and min((targets[:, i] == 1).sum(), (targets[:, i] == 0).sum()) >= 2
    ]
    return mean_shares(predictions, columns) if columns else None


def p_value(difference: float, error: float) -> float:
    """Two-sided, of a difference with its standard error under the normal distribution."""
    if error == 0:
        return 1.0 if difference == 0 else 0.0
    return math.erfc(abs(difference / error) / math.sqrt(2))


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """P-values adjusted for how many there are (Holm, Scandinavian Journal of Statistics 1979).

    If no null hypothesis is false, at least one of them is below 0.05 in at most 5 % of all families of tests.
    Nothing is assumed of how the tests depend on each other.

    Args:
        p_values: of one family of tests; None where there was no test, which does not count.

    Returns:
        In the same order, none below its raw value or above 1.
    """
    order = sorted((p, i) for i, p in enumerate(p_values) if p is not None)
    adjusted: list[float | None] = [None] * len(p_values)
    largest = 0.0
    for rank, (p, i) in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - rank) * p))
        adjusted[i] = largest
    return adjusted
