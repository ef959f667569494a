"""A mixture of synthetic NIH shards with shards of three findings, of which one is new and labels are open."""

from __future__ import annotations

import json
from pathlib import Path

from chexvision.labels import LabelSpace
from tests.label_sets import write_small_shards

OTHER = LabelSpace(findings=("Effusion", "Cardiomegaly", "Fracture"))


def write_other_shards(folder: Path) -> Path:
    """240 images of 32² with these findings, uncertain and unknown labels, and patients 1 to 240."""
    write_small_shards(folder, OTHER)
    return folder


def mixed_data(*folders: Path, **settings: object) -> list[str]:
    """The overrides of a recipe on a mixture of these folders, each as it is divided."""
    datasets = json.dumps([{"name": str(folder)} for folder in folders])
    return [f"data.datasets={datasets}", "data.split=shards", *(f"data.{key}={of}" for key, of in settings.items())]
