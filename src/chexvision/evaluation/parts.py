"""A model that was trained on a mixture, measured on each of its data sets."""

from __future__ import annotations

from collections.abc import Mapping

from chexvision.artifact.metrics_file import Evaluation
from chexvision.artifact.mixture_records import PartResult
from chexvision.data.dataset import Split
from chexvision.evaluation.overlap import TrainingImages, notes_of
from chexvision.inference.labeled import labeled_parts
from chexvision.metrics.measure import measure
from chexvision.metrics.operating_points import OperatingPoints
from chexvision.metrics.predictions import Predictions


def with_parts(
    evaluation: Evaluation,
    points: OperatingPoints,
    splits: Mapping[str, Split],
    predictions: Mapping[str, Predictions],
) -> Evaluation:
    """The evaluation at the end of a run, with that of each data set of a mixture; of one data set as it is.

    A mixture has no comparison with the literature: no publication is of its images.

    Args:
        evaluation: of all images together.
        points: that were chosen on validation.
        splits: "validation" and, where there is one, "test".
        predictions: of the same splits, raw.
    """
    measured = splits[evaluation.split]
    if not splits["validation"].is_mixture:  # which all data sets have; of those with test images there may be one
        return evaluation
    method, name = evaluation.metrics.interval, evaluation.split
    validation = labeled_parts(splits["validation"], predictions["validation"].probabilities)
    raw = {of: measure(part, method=method) for of, part in validation.items()}
    if name == "validation":
        found = raw
    else:
        parts = labeled_parts(measured, predictions[name].probabilities)
        found = {of: points.measure(part, name, method) for of, part in parts.items()}
    results = tuple(
        PartResult(
            name=part.name,
            dataset=part.source.name,
            dataset_identity=part.source.identity,
            split=name,
            metrics=found[part.name],
            validation=None if name == "validation" else raw.get(part.name),
        )
        for part in measured.parts
    )
    notes = (*evaluation.notes, *shared_image_notes(evaluation.systems[-1].name, splits))
    return evaluation.model_copy(update={"mixture": results, "published": (), "notes": notes})


def shared_image_notes(model: str, splits: Mapping[str, Split]) -> list[str]:
    """What a mixture trains on of the images that it is measured on: data sets may have images of one release.

    Args:
        model: what to call it.
        splits: "train", "validation" and, where there is one, "test".
    """
    if not splits["validation"].is_mixture:
        return []
    seen = TrainingImages.union([TrainingImages.of(part.rows, part.source) for part in splits["train"].parts])
    return [
        note
        for split in ("validation", "test")
        if split in splits
        for part in splits[split].parts
        for note in notes_of(seen.overlap(model, split, part.rows, part.source), f"of {part.name}")
    ]
