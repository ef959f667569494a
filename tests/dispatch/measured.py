"""Files of earlier runs on Kaggle that estimates read."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from chexvision.recipes import load_recipe
from chexvision_dispatch import run_records as records
from chexvision_dispatch.targets.kaggle import Kaggle, KaggleOptions
from tests.dispatch.standin import RECORD

TARGET = Kaggle(KaggleOptions(accelerator="NvidiaTeslaT4"))
OLD_METRICS = Path(__file__).parent.parent / "evaluation" / "old_metrics" / "training.json"
# 1,000 images in each split at 10 images per second while the backbone is frozen, at 5 otherwise; 50 s of validation.
SMALL = ["data.max_train_images=1000", "data.max_validation_images=1000"]
FROZEN, LEARNING = (phase.epochs for phase in load_recipe("densenet").training.phases)
SMALL_HOURS = (FROZEN * (1000 / 10 + 50) + LEARNING * (1000 / 5 + 50)) / 3600


def measured_artifact(folder: Path, *, epochs: int = 40, **changes: Any) -> Path:
    """The small files of a published run of the densenet recipe."""
    folder.mkdir(parents=True)
    recipe = load_recipe("densenet", overrides=[*SMALL, *(f"{key}={value}" for key, value in changes.items())])
    history: list[dict[str, float | None]] = [
        {
            "epoch": number,
            "phase": 1 if number <= FROZEN else 2,
            "validation_seconds": 50.0 if number > 1 else 500.0,
            "train_images_per_second": 10.0 if number <= FROZEN else 5.0,
            "a_field_of_another_version": None,
        }
        for number in range(1, epochs + 1)
    ]
    (folder / "run.json").write_text(json.dumps({"recipe": recipe.model_dump(), "later": 1}))
    (folder / "history.json").write_text(json.dumps(history))
    metrics = json.loads(OLD_METRICS.read_text())
    metrics["splits"]["validation"]["images"] = 1000
    (folder / "metrics.json").write_text(json.dumps(metrics))
    return folder


def published_run(published: object, number: int = 1, **changes: Any) -> None:
    usual: dict[str, Any] = {
        "target": "kaggle",
        "options": TARGET.options.model_dump(mode="json"),
        "published": str(published),
    }
    run_id = f"densenet-20260101-1432-000{number}"
    records.save(replace(RECORD, run_id=run_id, dispatched_at=f"2026-01-0{number}T00:00:00+00:00", **usual | changes))
