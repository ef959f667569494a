"""Distillation: a published model's probabilities for the training images, which are targets next to the labels.

Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network", arXiv:1503.02531, with temperature 1.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from accelerate import Accelerator
from numpy.typing import NDArray

from chexvision.artifact.contents import TRAINING_IMAGES, TeacherInfo
from chexvision.artifact.load import load_ensemble
from chexvision.config.recipe import Recipe
from chexvision.data.dataset import Split
from chexvision.errors import ChexError, UsageError
from chexvision.evaluation.overlap import TrainingImages, notes_of
from chexvision.files.atomic import atomic_path
from chexvision.hub.reference import Reference, pinned_reference
from chexvision.hub.repo_files import CONFIG, ENSEMBLE, WEIGHTS, at_commit, model_file
from chexvision.inference.predict_members import predict_members
from chexvision.training.hardware import rank_of
from chexvision.training.processes import from_first
from chexvision.training.training_session import TEACHER_FILE

_NETWORKS = (CONFIG, WEIGHTS, ENSEMBLE)  # the files that probabilities follow from


def with_teacher(
    recipe: Recipe, splits: Mapping[str, Split], accelerator: Accelerator, work: Path
) -> tuple[Split, TeacherInfo | None]:
    """The training split of a recipe with its teacher's probabilities, and the teacher's record.

    Without a teacher, or where its share of the loss is 0, the split stays as it is.

    Args:
        recipe: names the teacher.
        splits: all that the run uses.
        accelerator: device, precision and the other processes, all of which call this.
        work: the run's folder.

    Raises:
        UsageError: the teacher is not a folder nor a repository at a full commit sha, or it predicts other findings.
        ChexError: see `teacher_targets`.
    """
    train = splits["train"]
    if recipe.loss.taught_by is None:
        return train, None
    with accelerator.local_main_process_first():
        teacher = at_commit(pinned_reference(recipe.loss.taught_by, "loss.teacher"))
        info = _described(teacher, splits)
    if accelerator.is_main_process:
        for note in info.notes:
            print(f"note: {note}", flush=True)
    batch_size = recipe.optim.micro_batch_size
    targets = teacher_targets(teacher, train, accelerator, batch_size, work)
    return replace(train, teacher=targets), info


def _described(teacher: Reference, splits: Mapping[str, Split]) -> TeacherInfo:
    """The record of a teacher, with what it was trained on of the images that its student is measured on."""
    name = teacher.name if isinstance(teacher, Path) else str(teacher)  # without the path: cards show it
    path = model_file(teacher, TRAINING_IMAGES)
    notes: list[str] = []
    if path is None:
        notes.append(f"the teacher {name} has no record of its training images; it may have seen those measured here")
    else:
        seen = TrainingImages.read(path)
        for split in ("validation", "test"):
            for part in splits[split].parts if split in splits else ():
                where = f"measured here, of {part.name}" if splits[split].is_mixture else "measured here"
                notes += notes_of(seen.overlap(f"the teacher {name}", split, part.rows, part.source), where)
    return TeacherInfo(name=name, identity=_identity(teacher), notes=tuple(notes))


def _identity(teacher: Reference) -> str:
    if not isinstance(teacher, Path):
        return str(teacher)
    digest = hashlib.sha256()
    for path in sorted(teacher.rglob("*")):
        inside = path.relative_to(teacher)
        hidden = any(part.startswith(".") for part in inside.parts)  # earlier revisions, next to the newest
        if path.name in _NETWORKS and not hidden:
            with path.open("rb") as file:
                digest.update(f"{inside.as_posix()}:{hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    return digest.hexdigest()


def teacher_targets(
    teacher: Reference, train: Split, accelerator: Accelerator, batch_size: int, work: Path
) -> NDArray[np.float32]:
    """The teacher's probabilities for each training image, float32[N, K + 1], not calibrated.

    Images are prepared from the shards as the teacher's own training images were, and not augmented. They are
    predicted once per run, divided among the processes, and found again in the first one's folder `work`.

    Args:
        teacher: a folder, or a repository at a commit.
        train: the images.
        accelerator: device, precision and the other processes, all of which call this.
        batch_size: images per forward pass.
        work: the run's folder.

    Raises:
        UsageError: it predicts other findings than the shards have.
        ChexError: the teacher cannot be fetched or read, its input is larger than the shards' images, or the folder
            contains the probabilities of another teacher or of other images.
    """
    path, key = work / TEACHER_FILE, _key(teacher, train)
    space = train.rows.label_space
    shape = (len(train), len(space.outputs))
    found = from_first(rank_of(accelerator), lambda: path.read_bytes() if path.is_file() else None)
    if found is not None:
        return _read(path, found, key, shape)
    with accelerator.local_main_process_first():  # which fetches it for all of a machine
        model = load_ensemble(teacher)
    if model.findings != space.findings:
        names = " + ".join(part.source.name for part in train.parts)
        raise UsageError(
            f"loss.teacher {teacher} predicts {', '.join(model.findings)}, but the labels of {names} are "
            f"{', '.join(space.findings)}; name a teacher of the same findings"
        )
    if accelerator.is_main_process:
        print(f"predicting {len(train):,} training images with the teacher {teacher}", flush=True)
    model = model.to(accelerator.device)
    predicted = [predict_members(model, part.source, part.rows, accelerator, batch_size) for part in train.parts]
    probabilities = np.concatenate(predicted).astype(np.float32)
    if accelerator.is_main_process:
        work.mkdir(parents=True, exist_ok=True)
        with atomic_path(path) as partial, partial.open("wb") as file:
            np.savez(file, key=np.array(key), probabilities=probabilities)
    return probabilities


def _key(teacher: Reference, train: Split) -> str:
    identities = "\n".join(part.source.identity for part in train.parts)
    digest = hashlib.sha256(f"{_identity(teacher)}\n{identities}\n".encode())
    digest.update("|".join(train.rows.filenames.tolist()).encode())
    return digest.hexdigest()


def _read(path: Path, content: bytes, key: str, shape: tuple[int, int]) -> NDArray[np.float32]:
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as saved:
            found, probabilities = str(saved["key"]), saved["probabilities"]
        if found != key:
            raise ChexError(
                f"{path} contains the probabilities of another teacher or of other images; give --work an empty "
                "folder, or repeat the command that started the run"
            )
        if probabilities.dtype != np.float32 or probabilities.shape != shape:
            raise ValueError(f"expected float32{list(shape)}, found {probabilities.dtype}{list(probabilities.shape)}")
    except ChexError:
        raise
    except Exception as error:
        raise ChexError(f"{path} cannot be read: {error}; remove it to predict the images again") from error
    array: NDArray[np.float32] = probabilities
    return array
