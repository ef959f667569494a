"""What published runs were measured on: only figures of the same images and labels compare. Needs no numpy."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from chexvision.artifact.published_run import PublishedRun
from chexvision.labels import ABNORMAL


@dataclass(frozen=True, slots=True)
class MeasuredOn:
    """Equal for runs whose figures compare.

    Args:
        images_sha256: of the names of the images.
        synthetic: identities of the shards that are synthetic, or may be: their images have the same names in all.
        labels: of each output, how many images are positive, negative and unknown.
        averaged: findings that the macro AUROC runs over.
    """

    images_sha256: str
    synthetic: tuple[str | None, ...]
    labels: dict[str, tuple[int, int, int]]
    averaged: int


def measured_on(run: PublishedRun) -> MeasuredOn | None:
    """None where the run has no metrics."""
    if run.metrics is None:
        return None
    metrics = run.metrics.metrics
    outputs = metrics.findings | ({ABNORMAL: metrics.binary} if metrics.binary is not None else {})
    return MeasuredOn(
        metrics.images_sha256,
        tuple(_synthetic(run)),
        {name: (of.positives, of.negatives, of.unknown) for name, of in outputs.items()},
        metrics.macro.findings,
    )


def synthetic_part(run: PublishedRun) -> str | None:
    """Whether the measured images are "synthetic", or "partly synthetic"; None of images of patients."""
    if run.metrics is None:
        return None
    if run.metrics.synthetic:
        return "synthetic"
    trained = {of.name: of.synthetic for of in run.info.datasets} if run.info is not None else {}
    parts = [trained.get(of.name, False) for of in run.metrics.mixture]
    return None if not any(parts) else "synthetic" if all(parts) else "partly synthetic"


def numbered_sets(runs: Sequence[PublishedRun]) -> list[int | None]:
    """Of each run the number of what it was measured on, from 0 in the order of the runs; None without metrics."""
    found: list[MeasuredOn] = []
    numbers: list[int | None] = []
    for of in map(measured_on, runs):
        if of is not None and of not in found:
            found.append(of)
        numbers.append(None if of is None else found.index(of))
    return numbers


def why_not(name: str, run: MeasuredOn, first_name: str, first: MeasuredOn) -> str | None:
    """Why the figures of a run do not compare with those of the first, after the name of the run; None if they do."""
    if run.images_sha256 != first.images_sha256:
        return f"{name} was measured on other images than {first_name}"
    if run.synthetic != first.synthetic:
        return f"{name} was measured on other shards than {first_name}; synthetic images have the same names in all"
    if odd := sorted(run.labels.keys() ^ first.labels.keys()):
        return f"{name} and {first_name} were not measured on the same findings: {', '.join(odd[:5])}"
    if odd := [key for key in run.labels if run.labels[key] != first.labels[key]]:
        return f"{name} and {first_name} were measured with other labels of the same images: {', '.join(odd[:5])}"
    if run.averaged != first.averaged:
        return f"the mean of {name} is over {run.averaged} findings, that of {first_name} over {first.averaged}"
    return None


def _synthetic(run: PublishedRun) -> Iterator[str | None]:
    of = run.metrics
    if of is None:
        return
    if not of.mixture:
        if of.synthetic:
            yield of.dataset_identity
        return
    real = {one.name for one in run.info.datasets if not one.synthetic} if run.info is not None else set()
    for part in sorted(of.mixture, key=lambda part: part.name):
        if part.name not in real:
            yield part.dataset_identity
