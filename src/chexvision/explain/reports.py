"""`audit`: from names of a model, images and boxes to ``audit.json`` and ``audit.png``."""

from __future__ import annotations

from pathlib import Path

import torch

from chexvision.artifact.load import load_ensemble
from chexvision.artifact.recorded_split import split_for
from chexvision.data.source import find_shards
from chexvision.errors import UsageError
from chexvision.explain.audit import Audit, AuditConditions, explain_subjects, summarize
from chexvision.explain.sheet import write_sheet
from chexvision.explain.subjects import shard_folder, subjects_of_files, subjects_of_shards
from chexvision.files.atomic import sha256_of, write_text_atomic
from chexvision.hub.reference import Reference, RepoRef
from chexvision.metrics.records import IntervalMethod
from chexvision.nih.boxes import RELEASE_SIDE, read_boxes
from chexvision.progress import Progress
from chexvision.shards.remote import fetch_file
from chexvision.synthetic.synthesize import BOXES_NAME

AUDIT_NAME = "audit.json"
SHEET_NAME = "audit.png"


def run_audit(
    model: Reference,
    folders: list[Path],
    data: Reference | None,
    split: str,
    split_rule: str | None,
    boxes: Path | None,
    box_side: int | None,
    out: Path,
    *,
    resamples: int,
    seed: int,
) -> Audit:
    """Audit a model and write the results to the folder `out`.

    Args:
        model: a folder or a Hub repository.
        folders: of radiographs; used without `data`.
        data: shards.
        split: of the shards, or "all".
        split_rule: how to divide them, as `SplitChoice.parse` takes it; None for the model's own split.
        boxes: a box list; the one next to the shards if None.
        box_side: of the square images that the boxes are measured on; the synthetic shards' side or the release's if
            None.
        out: created if missing.
        resamples: of the bootstrap over patients.
        seed: of the bootstrap.

    Raises:
        UsageError: there is no box list, it does not fit, or none of the images has a box.
        ChexError: the model or the shards cannot be loaded.
    """
    source = find_shards(data) if data is not None else None
    own: Path | None = None
    if boxes is None and isinstance(data, RepoRef):
        own = fetch_file(data, BOXES_NAME)  # the list alone
    elif source is not None:
        own = shard_folder(source) / BOXES_NAME
    path = boxes or own
    if path is None or (not path.exists() and boxes is None):
        raise UsageError("these images come without boxes; name a list such as BBox_List_2017.csv with --boxes")
    # Boxes next to synthetic shards are measured on images of the shards' side.
    synthetic = source.manifest if source is not None and source.synthetic and path == own else None
    read = read_boxes(path, box_side or (synthetic.size if synthetic else RELEASE_SIDE))
    loaded = load_ensemble(model)
    division = None
    if source is None:
        subjects, images = subjects_of_files(loaded, folders, read), ", ".join(map(str, folders))
    else:
        asked = "shards" if split == "all" else split_rule
        choice = split_for([str(model)], [model], asked, source.identity).fitting(source.manifest)
        subjects, division = subjects_of_shards(loaded, source, split, choice, read)
        images = f"{source.name}, {split}" + ("" if split == "all" else f" by {choice}")
    loaded = loaded.to(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    with Progress("explaining", len(subjects), "images") as progress:
        cases, method = explain_subjects(loaded, subjects, progress.advance)
    conditions = AuditConditions(
        model=str(model),
        images=images,
        division=division,
        boxes=path.name,
        boxes_sha256=sha256_of(path),
        method=method,
        interval=IntervalMethod(resamples=resamples, seed=seed),
    )
    audit = summarize(cases, conditions, loaded.findings)
    write_text_atomic(out / AUDIT_NAME, audit.model_dump_json(indent=2) + "\n")
    write_sheet(out / SHEET_NAME, cases, method)
    return audit
