"""The folder of what a run publishes."""

from __future__ import annotations

import logging
from pathlib import Path

from chexvision.artifact import contents as artifact
from chexvision.artifact.contents import RunInfo
from chexvision.artifact.probabilities import Probabilities
from chexvision.data.dataset import Split
from chexvision.evaluation.overlap import TrainingImages
from chexvision.files.atomic import write_text_atomic
from chexvision.files.atomic_folder import atomic_folder
from chexvision.hub.reference import Reference, RepoRef
from chexvision.hub.repo_files import CONFIG, WEIGHTS
from chexvision.models.classifier import CheXVision
from chexvision.predict.input_check import FILE as CHECK_FILE
from chexvision.predict.operating_files import save_operating_points
from chexvision.report.card_parts import with_exported
from chexvision.report.model_card import render_card
from chexvision.runtime.export_info import MODEL, ExportInfo
from chexvision.tracking.event_files import copy_event_files
from chexvision.training.history import History, dump_history
from chexvision.training.result.measured_run import Measured, Predicted

_log = logging.getLogger(__name__)


def write_artifact(
    folder: Path,
    model: CheXVision,
    history: History,
    train: Split,
    predicted: Predicted,
    measured: Measured,
    info: RunInfo,
    to: Reference | None,
    events: Path,
    *,
    export: bool,
) -> None:
    """Write all files of the artifact into `folder`, which appears complete or not at all.

    Args:
        folder: to be made.
        model: with the weights to publish; it is on the CPU afterwards.
        history: of the epochs.
        train: the split that it was trained on.
        predicted: by the model.
        measured: of that.
        info: how it was made.
        to: where it will be published, if anywhere.
        events: of a tracker, whose TensorBoard files are published, too; there may be none.
        export: whether the model is there as ONNX, too; where that fails it is left out.
    """
    seen = TrainingImages.union([TrainingImages.of(part.rows, part.source) for part in train.parts])
    with atomic_folder(folder) as partial:
        figures, name = measured.figures, f"CheXVision {info.recipe.name}"
        card = render_card(measured.evaluation, info, name, sorted(figures), to)
        write_text_atomic(partial / artifact.CARD, card)
        save_operating_points(measured.points, partial)
        (partial / artifact.FIGURES).mkdir()
        for file, content in figures.items():
            (partial / artifact.FIGURES / file).write_bytes(content.encode() if isinstance(content, str) else content)
        (partial / artifact.HISTORY).write_text(dump_history(history), encoding="utf-8")
        write_text_atomic(partial / artifact.METRICS, measured.evaluation.model_dump_json(indent=2) + "\n")
        write_text_atomic(partial / artifact.RUN, info.model_dump_json(indent=2) + "\n")
        seen.write(partial / artifact.TRAINING_IMAGES)
        if measured.check is not None:
            measured.check.write(partial / CHECK_FILE)
        probabilities = Probabilities.of(info.dataset_identity, model.label_space, predicted.predictions)
        probabilities.write(partial / artifact.PROBABILITIES)
        copy_event_files(events, partial)
        model.to("cpu").save_pretrained(partial)  # the card is there already, so the mixin writes none of its own
        # safetensors makes its file readable by its owner alone.
        (partial / WEIGHTS).chmod((partial / CONFIG).stat().st_mode)
        if export:
            made = exported(partial, str(to) if isinstance(to, RepoRef) else info.recipe.name)
            write_text_atomic(partial / artifact.CARD, with_exported(card, made))


def exported(folder: Path, name: str) -> ExportInfo | str:
    """Export the model in a folder; where that fails, the reason: a run took hours and is published anyway."""
    try:
        from chexvision.export.export_model import export_model

        return export_model(folder, folder, name=name)
    except Exception as error:  # noqa: BLE001 - of the exporter, of onnxruntime, or of a package that is missing
        why = " ".join(str(error).split())[:300] or type(error).__name__
        _log.warning("WARNING: the model is published without %s: %s", MODEL, why)
        return why
