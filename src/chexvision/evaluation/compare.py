"""Two models on the same images: paired differences of their AUROCs, with intervals and p-values."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from chexvision.errors import UsageError
from chexvision.evaluation.bootstrap import draw_patients, interval
from chexvision.evaluation.delong import contributions, p_value, standard_error
from chexvision.evaluation.metrics import Measure, macro_columns, macro_of
from chexvision.evaluation.predictions import Predictions
from chexvision.evaluation.ranking import Floats
from chexvision.evaluation.records import CI, IntervalMethod, Record


class Difference(Record):
    """Of one AUROC, or of their mean.

    Args:
        first: the first model's AUROC.
        second: the second model's.
        difference: second - first.
        difference_ci: of the paired bootstrap over patients.
        p_delong: of DeLong's test, which takes images for independent; null with one image of a kind.
        p_patients: likewise, with several images of a patient allowed for (Obuchowski 1997).
    """

    first: float | None
    second: float | None
    difference: float | None
    difference_ci: CI
    p_delong: float | None
    p_patients: float | None


class Comparison(Record):
    """Two models on the same images. ``macro`` runs over the findings that have both kinds of image."""

    first: str
    second: str
    images: int
    patients: int
    images_sha256: str
    interval: IntervalMethod
    macro: Difference
    macro_findings: int
    outputs: dict[str, Difference]


def compare(
    first: Predictions, second: Predictions, method: IntervalMethod, names: tuple[str, str] = ("first", "second")
) -> Comparison:
    """Compare two models' predictions of the same images.

    Args:
        first: of the model that is compared with.
        second: of the other; its images may stand in another order.
        method: how to make intervals.
        names: what to call the two.

    Raises:
        UsageError: the images or their labels differ, or no output is in both.
    """
    first, second = _aligned(first, second, names)
    draws = draw_patients(len(np.unique(first.patients)), method)
    measured = [Measure(model, only=("auroc",)) for model in (first, second)]
    once = [model.once()["auroc"] for model in measured]
    resampled = [model.under(draws)["auroc"] for model in measured]
    columns = macro_columns(first.names, once[0][:, 0])
    shares = [[_shares(model, i) for i in range(len(model.names))] for model in (first, second)]

    def difference(values: list[Floats], draws: list[Floats], errors: list[Floats] | None) -> Difference:
        a, b = float(values[0][0]), float(values[1][0])
        if np.isnan(a) or np.isnan(b):
            return Difference(
                first=None, second=None, difference=None, difference_ci=None, p_delong=None, p_patients=None
            )
        error = errors[1] - errors[0] if errors else None
        return Difference(
            first=a,
            second=b,
            difference=b - a,
            difference_ci=interval(draws[1] - draws[0], method.level),
            p_delong=p_value(b - a, standard_error(error)) if error is not None else None,
            p_patients=p_value(b - a, standard_error(error, first.patients)) if error is not None else None,
        )

    def mean_shares(model: int) -> Floats | None:
        parts = [shares[model][i] for i in columns]
        known = [part for part in parts if part is not None]
        return np.mean(known, axis=0) if known and len(known) == len(parts) else None

    macro_errors = [part for part in (mean_shares(0), mean_shares(1)) if part is not None]
    outputs = {}
    for i, name in enumerate(first.names):
        pair = [part for part in (shares[0][i], shares[1][i]) if part is not None]
        outputs[name] = difference([a[i] for a in once], [r[i] for r in resampled], pair if len(pair) == 2 else None)
    return Comparison(
        first=names[0],
        second=names[1],
        images=len(first),
        patients=measured[0].patients,
        images_sha256=first.images_sha256,
        interval=method,
        macro=difference(
            [macro_of(a, columns) for a in once],
            [macro_of(r, columns) for r in resampled],
            macro_errors if len(macro_errors) == 2 else None,
        ),
        macro_findings=len(columns),
        outputs=outputs,
    )


def short_names(texts: Sequence[str]) -> list[str]:
    """The shortest ends of paths and references that still tell them apart."""
    parts = [[part for part in text.split("/") if part] or [text] for text in texts]
    for length in range(1, max(len(part) for part in parts) + 1):
        names = ["/".join(part[-length:]) for part in parts]
        if len(set(names)) == len(names):
            return names
    return list(texts)


def _shares(model: Predictions, i: int) -> Floats | None:
    target = model.targets[:, i]
    if min((target == 1).sum(), (target == 0).sum()) < 2:
        return None
    return contributions(model.probabilities[:, i], target)[1]


def _aligned(first: Predictions, second: Predictions, names: tuple[str, str]) -> tuple[Predictions, Predictions]:
    """Both with the same outputs, and the second in the first's order of images."""
    ours, theirs = set(first.filenames.tolist()), set(second.filenames.tolist())
    if ours != theirs:
        odd = min(ours ^ theirs)
        where, other = (names[0], names[1]) if odd in ours else (names[1], names[0])
        raise UsageError(
            f"{names[0]} and {names[1]} are not of the same images: {odd} is in {where} and not in {other} "
            f"({len(ours - theirs)} and {len(theirs - ours)} in all); a paired comparison needs the same ones"
        )
    index = np.empty(len(first), np.int64)
    index[np.argsort(first.filenames)] = np.argsort(second.filenames)
    second = second.take(index)
    common = tuple(name for name in first.names if name in second.names)
    if not common:
        raise UsageError(f"{names[0]} and {names[1]} predict nothing in common")
    first, second = _columns(first, common), _columns(second, common)
    if not np.array_equal(first.targets, second.targets, equal_nan=True):
        row = int(np.flatnonzero((first.targets != second.targets).any(axis=1))[0])
        raise UsageError(f"{names[0]} and {names[1]} have different labels, first for {first.filenames[row]}")
    return first, second


def _columns(model: Predictions, names: tuple[str, ...]) -> Predictions:
    index = [model.column(name) for name in names]
    return Predictions(names, model.filenames, model.patients, model.probabilities[:, index], model.targets[:, index])
