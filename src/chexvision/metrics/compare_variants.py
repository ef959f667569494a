"""The variants of a study against its base on the same images: paired differences of their macro AUROCs.

A variant is one model or several of different seeds, whose macro AUROCs are averaged. The tests are those of
`chexvision.metrics.compare`. They are about these trained models: how far another seed would be from them is not part
of the error, and shows in the differences between the seeds alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from chexvision.metrics.bootstrap import estimate, resample_patients
from chexvision.metrics.compare import aligned, holm, mean_shares, p_value, standard_error
from chexvision.metrics.measure import macro_columns, macro_of
from chexvision.metrics.predictions import Predictions
from chexvision.metrics.ranking import Floats
from chexvision.metrics.records import Difference, Estimate, IntervalMethod
from chexvision.metrics.weighted import Measure

Seeds = Sequence[Predictions]  # of one variant, one per seed


@dataclass(frozen=True, slots=True)
class _Group:
    """The mean over the seeds of a variant.

    Args:
        macro: macro AUROC.
        draws: float64[B], the same under each resample.
        shares: float64[N], what each image contributes to the error of `macro`; see `contributions`.
    """

    macro: float
    draws: Floats
    shares: Floats


def compare_variants(
    base: tuple[str, Seeds], variants: Mapping[str, Seeds], method: IntervalMethod
) -> tuple[Estimate, dict[str, tuple[Estimate, Difference]]]:
    """Compare variants with a base.

    Args:
        base: its name and predictions.
        variants: the same of each variant, of the same images in any order.
        method: how to make intervals.

    Returns:
        The base's macro AUROC; for each variant its own, and its difference from the base with p-values, adjusted
        for the number of variants by Holm's method.

    Raises:
        UsageError: the images, their labels or which of them are of one patient differ, or no output is in both.
    """
    name, (first, *_) = base
    weightings = resample_patients(len(np.unique(first.patients)), method)
    columns = macro_columns(first.names, Measure(first, only=("auroc",)).once()["auroc"][:, 0])
    if not columns:
        nothing = Difference(too_few="no finding has enough cases")
        return Estimate(), {variant: (Estimate(), nothing) for variant in variants}

    def group(of: str, seeds: Seeds) -> _Group:
        members = [aligned(first, seed, (name, of))[1].select(first.names) for seed in seeds]
        measured = [Measure(member, only=("auroc",)) for member in members]
        return _Group(
            float(np.mean([macro_of(one.once()["auroc"], columns)[0] for one in measured])),
            np.asarray(np.mean([macro_of(one.under(weightings)["auroc"], columns) for one in measured], axis=0)),
            np.asarray(np.mean([mean_shares(member, columns) for member in members], axis=0)),
        )

    against = group(name, base[1])
    groups = {variant: group(variant, seeds) for variant, seeds in variants.items()}
    made = {}
    for variant, of in groups.items():
        error = of.shares - against.shares
        difference = of.macro - against.macro
        made[variant] = Difference(
            first=against.macro,
            second=of.macro,
            difference=estimate(difference, of.draws - against.draws, method.level),
            p_delong=p_value(difference, standard_error(error)),
            p_patients=p_value(difference, standard_error(error, first.patients)),
        )
    delong, patients = holm([of.p_delong for of in made.values()]), holm([of.p_patients for of in made.values()])
    return estimate(against.macro, against.draws, method.level), {
        variant: (
            estimate(groups[variant].macro, groups[variant].draws, method.level),
            of.model_copy(update={"p_delong_holm": a, "p_patients_holm": b}),
        )
        for (variant, of), a, b in zip(made.items(), delong, patients, strict=True)
    }
