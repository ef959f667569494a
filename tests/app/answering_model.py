"""A published model that answers at once: see `tests.runtime.small_export`, with thresholds."""

from __future__ import annotations

import json
from pathlib import Path

from chexvision.labels import NIH
from chexvision.metrics.operating_points import OperatingPoints
from chexvision.metrics.thresholds import ChosenOn, Thresholds
from chexvision.predict.operating_files import save_operating_points
from tests.runtime.small_export import publish

SYNTHETIC = "trained on synthetic images"


def write_model(folder: Path) -> Path:
    """A model of synthetic images whose last finding has no threshold."""
    where = ChosenOn(dataset="d", split="validation", images=3, images_sha256="0" * 64)
    values: dict[str, float | None] = dict.fromkeys(NIH.outputs, 0.5)
    values[NIH.findings[-1]] = None
    thresholds = Thresholds(
        rule="f1", scale="raw", chosen_on=where, values=values, positives=dict.fromkeys(NIH.outputs, 1)
    )
    results = {"Effusion": {"sensitivity": 0.8, "specificity": 0.9}}
    publish(folder, synthetic=True, test=results, test_set="500 images of the test split")
    save_operating_points(OperatingPoints(None, thresholds), folder)
    (folder / "metrics.json").write_text(json.dumps({"format": 3, "synthetic": True}))
    (folder / "run.json").write_text(json.dumps({"provenance": {"run_id": "small-20260101-0000-abcd"}}))
    return folder
