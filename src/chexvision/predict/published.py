"""What a published model or ensemble says about itself. Needs no torch."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import AliasChoices, BaseModel, Field

from chexvision.errors import ChexError
from chexvision.files.atomic import sha256_of
from chexvision.files.json_files import read_record
from chexvision.hub.reference import Reference, RepoRef
from chexvision.hub.repo_files import CONFIG, ENSEMBLE, RUN, at_commit, model_file
from chexvision.labels import LabelSpace
from chexvision.metrics.calibration import FILE as CALIBRATION_FILE
from chexvision.metrics.operating_points import OperatingPoints
from chexvision.predict.answer import ModelFacts
from chexvision.predict.input_check import FILE as CHECK_FILE
from chexvision.predict.input_check import InputCheck
from chexvision.predict.operating_files import load_operating_points

_METRICS = "metrics.json"  # see `chexvision.artifact.metrics_file`


@dataclass(frozen=True, slots=True)
class Published:
    """The files next to a model's weights, all of one commit.

    Args:
        reference: where; of the Hub at a commit.
        facts: for every answer.
        points: calibration and thresholds, as far as there are any.
        check: the input check; None of a model without one.
    """

    reference: Reference
    facts: ModelFacts
    points: OperatingPoints
    check: InputCheck | None

    def refuse_others(self, label_space: LabelSpace) -> None:
        """Raise ChexError unless the calibration names every output of `label_space`."""
        if self.points.calibration is None:
            return
        missing = [name for name in label_space.outputs if name not in self.points.calibration.curves]
        if missing:
            raise ChexError(
                f"{CALIBRATION_FILE} of {self.reference} does not name {missing[0]}: it belongs to another model"
            )


def read_published(reference: Reference, **client: Any) -> Published:
    """Read what a model or ensemble was published with; files that it lacks are left out.

    Args:
        reference: a folder, or a repository on the Hub.
        client: further options of `huggingface_hub.hf_hub_download`.

    Raises:
        UsageError: there is no such folder, or a revision of a folder is named.
        ChexError: any of it cannot be fetched, is damaged, or does not belong together.
    """
    reference = at_commit(reference, **client)
    points = load_operating_points(reference, **client)
    check = model_file(reference, CHECK_FILE, **client)
    run_id = _run_id(reference, client)
    facts = ModelFacts(
        model=reference.repo_id if isinstance(reference, RepoRef) else reference.resolve().name,
        revision=reference.revision if isinstance(reference, RepoRef) else run_id,
        synthetic=trained_on_synthetic(reference, **client),
        calibrated=points.calibration is not None,
        rule="" if points.thresholds is None else points.rule,
        run_id=run_id,
    )
    return Published(reference, facts, points, None if check is None else InputCheck.read(check))


def trained_on_synthetic(reference: Reference, **client: Any) -> bool:
    """Whether a model, or any member of an ensemble, was trained on synthetic images, as far as its files say.

    An ensemble's own ``metrics.json`` says what its images are, which may be others than its members were trained on.

    Raises:
        ChexError: a file cannot be fetched or is damaged.
    """
    names = [_METRICS]
    if model_file(reference, CONFIG, **client) is None:
        path = model_file(reference, ENSEMBLE, **client)
        members = () if path is None else read_record(path, _Recorded).members
        names += [f"members/{number}/{_METRICS}" for number in range(1, len(members) + 1)]
    found = (model_file(reference, name, **client) for name in names)
    return any(read_record(path, _Measured).synthetic for path in found if path is not None)


class _Measured(BaseModel):
    """The part of ``metrics.json`` that is read here; the first format has another name for it."""

    synthetic: bool = Field(False, validation_alias=AliasChoices("synthetic", "drawn"))


class _Named(BaseModel):
    run_id: str


class _Recorded(BaseModel):
    """The part of ``run.json`` and ``ensemble.json`` that is read here."""

    members: tuple[Any, ...] = ()
    provenance: _Named | None = None  # of a record that names no run, as of an early version


def _run_id(reference: Reference, client: dict[str, Any]) -> str | None:
    path: Path | None = model_file(reference, RUN, **client) or model_file(reference, ENSEMBLE, **client)
    recorded = _Recorded() if path is None else read_record(path, _Recorded)
    return None if recorded.provenance is None else recorded.provenance.run_id


def sha256_of_folder(folder: Path) -> str:
    """Equal for models and ensembles in folders whose files are equal, as far as answers depend on them."""
    digest = hashlib.sha256()
    patterns = ("*.json", "*.safetensors", "*.npz", "onnx/*", "members/*/*.json", "members/*/*.safetensors")
    for path in sorted(found for pattern in patterns for found in folder.glob(pattern) if found.is_file()):
        digest.update(f"{path.relative_to(folder).as_posix()} {sha256_of(path)}\n".encode())
    return digest.hexdigest()
