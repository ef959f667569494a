"""A model of a mixture on the data sets of its mixture."""

from __future__ import annotations

import numpy as np

from chexvision.artifact.metrics_file import Conditions, Evaluation
from chexvision.data.dataset import Part, Split
from chexvision.data.rows import Rows
from chexvision.data.source import ShardSource
from chexvision.evaluation.parts import shared_image_notes, with_parts
from chexvision.evaluation.protocol import evaluate_trained
from chexvision.inference.labeled import labeled
from chexvision.metrics.predictions import Predictions


def split_of(name: str, **first_image: int) -> Split:
    """20 images of 20 patients of each data set, named by numbers from the given one on."""
    parts, begin = list[Part](), 0
    for dataset, first in first_image.items():
        numbers = np.arange(first, first + 20)
        findings = np.repeat((numbers % 2 == 0)[:, None], 14, axis=1).astype(np.float32)
        rows = Rows((numbers.astype(str)), findings, numbers, np.zeros(20, np.int32), numbers)
        parts.append(Part(dataset, ShardSource(dataset, {}, dataset, synthetic=False), rows, begin, 20))
        begin += 20
    together = Rows(
        np.concatenate([np.char.add(f"{part.name}/", part.rows.filenames) for part in parts]),
        np.concatenate([part.rows.findings for part in parts]),
        np.concatenate([part.rows.patients for part in parts]),
        np.zeros(begin, np.int32),
        np.arange(begin),
    )
    return Split(name, np.zeros((begin, 1, 1), np.uint8), together, parts=tuple(parts))


def predicted(split: Split) -> Predictions:
    return labeled(split.rows, np.random.default_rng(0).random((len(split), 15)))


def measured(splits: dict[str, Split]) -> Evaluation:
    predictions = {name: predicted(splits[name]) for name in ("validation", "test")}
    conditions = Conditions(dataset="a + b", synthetic=False, split="test")
    evaluation, points = evaluate_trained("mixed", predictions, None, conditions)
    return with_parts(evaluation, points, splits, predictions)


def test_a_test_split_of_one_data_set_alone_is_named_as_its() -> None:
    splits = {
        "train": split_of("train", a=100, b=200),
        "validation": split_of("validation", a=300, b=400),
        "test": split_of("test", b=500),
    }
    found = measured(splits)
    assert [(part.name, part.metrics.images) for part in found.mixture] == [("b", 20)]
    assert found.notes == () and found.published == ()


def test_images_that_one_data_set_trains_on_and_another_measures_are_noted() -> None:
    splits = {
        "train": split_of("train", a=100, b=200),
        "validation": split_of("validation", a=300, b=400),
        "test": split_of("test", a=500, b=105),  # of these, 15 are among the training images of a
    }
    note = "mixed was trained on 15 of the 20 test images of b, and on some image of 15 of their 20 patients"
    assert measured(splits).notes == (note,)
    assert shared_image_notes("mixed", splits) == [note]
    alone = {name: split_of(name, b=105) for name in ("train", "validation", "test")}
    assert shared_image_notes("alone", alone) == []
