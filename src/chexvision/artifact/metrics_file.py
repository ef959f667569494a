"""``metrics.json``: what a training run, `evaluate` and `score` measured, in one schema. Needs no numpy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from chexvision.artifact.mixture_records import PartResult
from chexvision.artifact.other_results import DatasetResult, OtherSet
from chexvision.config.test_time import Tta
from chexvision.errors import ChexError
from chexvision.files.json_files import first_problem, read_file
from chexvision.metrics.catalog import METRICS
from chexvision.metrics.literature import LiteratureComparison
from chexvision.metrics.records import Attribute, Comparison, Record, SplitMetrics
from chexvision.shards.split_rule import SplitRecord

RELEASE = "NIH ChestX-ray14"  # the data set of predictions that are scored


class Conditions(Record):
    """Under which everything was measured. Null where unknown or not applicable.

    Args:
        format: of the file.
        version: of chexvision.
        dataset: ``USER/NAME@sha``, the folder's path, or `RELEASE`.
        dataset_identity: equal for shards of equal names and content.
        synthetic: whether its images are synthetic, not taken of patients.
        split: which part of it was measured; "all" for predictions that were not restricted to one.
        split_rule: how its patients were divided, or the table; what the manifest records of shards as they are.
        division: the rule that was asked for, and the images of each split.
        precision: of the computation.
        image_size: side in pixels, of a training run.
        epoch: the one whose weights were measured, from 1, of a training run.
    """

    format: Literal[5] = 5
    version: str | None = None
    dataset: str
    dataset_identity: str | None = None
    synthetic: bool
    split: str
    split_rule: str | None = None
    division: SplitRecord | None = None
    precision: str | None = None
    image_size: int | None = None
    epoch: int | None = None


class SystemResult(Record):
    """A model, a model over several views, or several models as one.

    Args:
        name: for tables.
        members: the models.
        weights: theirs, in the same order.
        tta: the test-time augmentation.
        views: how many of each image were averaged.
        metrics: on the measured split.
    """

    name: str
    members: tuple[str, ...]
    weights: tuple[float, ...]
    tta: Tta
    views: int
    metrics: SplitMetrics


class Overlap(Record):
    """Of the images of one split, those that a model was trained on. Null where the model has no record of them.

    Args:
        model: its name.
        dataset: the further dataset that the split is of; null for the evaluation's own.
        split: which images.
        images: how many there are.
        patients: how many different ones.
        trained_images: those that it was trained on.
        trained_patients: those of whom it was trained on some image.
    """

    model: str
    split: str
    images: int
    patients: int
    trained_images: int | None
    trained_patients: int | None
    dataset: str | None = None


class CheckResult(Record):
    """What the input check flags of the images that a run has; see `chexvision.predict.input_check`.

    Args:
        images: of validation, that it was fitted on.
        patients: theirs.
        flagged: of these images, each measured by distributions of other patients.
        test_images: of the test split; null without one.
        test_flagged: of these.
    """

    images: int
    patients: int
    flagged: int
    test_images: int | None
    test_flagged: int | None


class Evaluation(Conditions):
    """``metrics.json``. Everything but `systems` and `comparisons` is of the last system.

    Args:
        systems: at least one; the last one combines all that was asked for.
        validation: of a training run, on the images that its thresholds and calibration were chosen on: metrics of
            raw probabilities, with calls at one half.
        comparisons: each further system with the first.
        subgroups: by attribute.
        published: results of others, and which of them are of the same images.
        expert: against radiologists' labels.
        shared_findings: where several datasets were measured: the findings that all of them label, with enough cases.
        datasets: where several were measured: all of them, the evaluation's own first.
        mixture: of a run on a mixture, each of its data sets; `systems` are of all their images together.
        input_check: of a training run; of an ensemble that of its first member, whose check it has.
        overlaps: what each model's training shares with the images measured, and with those chosen on.
        notes: what a reader must know.
    """

    systems: Annotated[tuple[SystemResult, ...], Field(min_length=1)]
    validation: SplitMetrics | None = None
    comparisons: tuple[Comparison, ...] = ()
    subgroups: tuple[Attribute, ...] = ()
    published: tuple[LiteratureComparison, ...] = ()
    expert: OtherSet | None = None
    shared_findings: tuple[str, ...] = ()
    datasets: tuple[DatasetResult, ...] = ()
    mixture: Annotated[tuple[PartResult, ...], Field(exclude_if=lambda value: not value)] = ()
    input_check: CheckResult | None = None
    overlaps: tuple[Overlap, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def metrics(self) -> SplitMetrics:
        """Of the last system on the measured split."""
        return self.systems[-1].metrics

    @property
    def splits(self) -> dict[str, SplitMetrics]:
        """Of the last system by split."""
        measured = {self.split: self.metrics}
        return measured if self.validation is None else {"validation": self.validation, **measured}


def read_metrics(path: Path) -> Evaluation:
    """Read a ``metrics.json`` of this version or an earlier one.

    Raises:
        ChexError: it cannot be read, or is something else.
    """
    try:
        content = json.loads(read_file(path))
        if isinstance(content, dict) and "format" not in content:
            content = _from_format_1(content)
        if isinstance(content, dict) and content["format"] == 2:
            content = _from_format_2(content)
        if isinstance(content, dict) and content["format"] == 3:
            content |= {"format": 4}  # there was no input check
        if isinstance(content, dict) and content["format"] == 4:
            content = _from_format_4(content)
        return Evaluation.model_validate_json(json.dumps(content))
    except ValidationError as error:
        raise ChexError(f"{path} cannot be used: {first_problem(error)}") from None
    except (ValueError, TypeError, AttributeError, KeyError, RecursionError) as error:
        raise ChexError(f"{path} is not a metrics.json: {' '.join(str(error).split())[:200]}") from None


def _from_format_1(old: dict[str, Any]) -> dict[str, Any]:
    """The content of a file from before formats were numbered: training, `evaluate` and `score` had one each."""
    new: dict[str, Any] = _with_estimates(old)
    new["synthetic"] = new.pop("drawn", new.get("synthetic", False))
    if "splits" in new:
        splits = new.pop("splits")
        new["division"] = new.pop("split")
        new["split"] = "test" if "test" in splits else "validation"
        new["systems"] = [_alone("model", splits[new["split"]])]
        new["validation"] = splits.get("validation")
    elif "predictions" in new:
        new |= {"dataset": RELEASE, "split": "all", "systems": [_alone(new.pop("predictions"), new.pop("metrics"))]}
    return new | {"format": 2}


def _from_format_2(old: dict[str, Any]) -> dict[str, Any]:
    """The content of a file from when there was one test-time augmentation."""
    systems = [system | {"tta": "views" if system["views"] > 1 else "none"} for system in old["systems"]]
    return old | {"format": 3, "systems": systems}


def _from_format_4(old: dict[str, Any]) -> dict[str, Any]:
    """The content of a file from when one further dataset could be measured, of the last system alone."""
    other = old.get("external")
    new: dict[str, Any] = {key: value for key, value in old.items() if key != "external"} | {"format": 5}
    if other is None:
        return new
    targets = other["macro"]["targets"]

    def system(where: str, **more: Any) -> list[dict[str, Any]]:
        shared = {"findings": len(targets), "left_out": [], "estimates": {"auroc": other["macro"][where]}}
        return [{"name": old["systems"][-1]["name"], "shared": shared, **more}]

    own = {
        key: old.get(key) for key in ("dataset", "dataset_identity", "synthetic", "split", "split_rule", "division")
    }
    further = {"name": other["name"], "dataset": other["name"], "split": "all", "label_map": other["label_map"]}
    measured = {key: other[key] for key in ("metrics", "macro", "gaps")}
    datasets = [
        {"name": old["dataset"], **own, "systems": system("here")},
        {**further, "same_images": other["same_images"], "systems": system("there", **measured)},
    ]
    return new | {"shared_findings": targets, "datasets": datasets}


def _alone(name: str, metrics: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "members": [name], "weights": [1.0], "views": 1, "metrics": metrics}


def _with_estimates(old: Any) -> Any:
    """Values with their interval under ``NAME_ci`` as estimates; those of `METRICS` moved into ``estimates``."""
    if isinstance(old, list):
        return [_with_estimates(item) for item in old]
    if not isinstance(old, dict):
        return old
    new = {key: _with_estimates(value) for key, value in old.items() if not key.endswith("_ci")}
    measured = METRICS.keys() if old.keys() & {"decision", "left_out", "true_positives"} else set[str]()
    estimates = {
        key: {"value": new[key], "interval": old.get(f"{key}_ci")}
        for key in new
        if f"{key}_ci" in old or key in measured
    }
    if "decision" not in new and "left_out" not in new:
        return new | estimates
    if "decision" in new:
        decision = new["decision"] or {}
        estimates |= {key: decision.pop(key, {}) for key, metric in METRICS.items() if metric.at_threshold}
    return {key: value for key, value in new.items() if key not in estimates} | {"estimates": estimates}
