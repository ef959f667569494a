"""A published model or ensemble as the files of ``onnx/``, compared with torch before they appear."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch

from chexvision.artifact.load import Ensemble, load_ensemble
from chexvision.errors import ChexError
from chexvision.export.agreement import Expected, compare, expected, rendered_images
from chexvision.export.check_steps import CheckSteps
from chexvision.export.facts import export_info, exported_file
from chexvision.export.graph import ExportedGraph
from chexvision.export.image_steps import ImageSteps
from chexvision.export.onnx_file import onnx_model, write_onnx
from chexvision.export.quantize import Calibrating, quantize
from chexvision.export.traced import NotExportable, TracedNetwork
from chexvision.files.atomic_folder import atomic_folder
from chexvision.hub.reference import Reference
from chexvision.images.radiograph import Grey
from chexvision.inference.gradcam import Maps, explain_batch
from chexvision.predict.published import Published, read_published
from chexvision.runtime.export_info import FOLDER, INFO, MODEL, QUANTIZED, ExportedFile, ExportInfo

_log = logging.getLogger(__name__)


def export_model(
    reference: Reference,
    out: Path,
    images: Sequence[Grey] = (),
    calibrating: Calibrating | None = None,
    name: str | None = None,
) -> ExportInfo:
    """Write ``onnx/model.onnx`` and ``onnx/model.json`` to the folder `out`, in place of an earlier export.

    Args:
        reference: a published model or ensemble; may be `out` itself.
        out: of the folder ``onnx``.
        images: originals uint8[H, W] that the files are compared with torch on; synthetic ones where empty.
        calibrating: also writes ``onnx/model_quantized.onnx``, in int8.
        name: of the model, for readers; by default its repository's or its folder's.

    Raises:
        UsageError: there is no such model.
        ChexError: it cannot be loaded or exported, or a file does not compute what torch does. An earlier export is
            kept then, and nothing new is written.
    """
    published = read_published(reference)
    ensemble = load_ensemble(published.reference)
    published.refuse_others(ensemble.label_space)
    side = common_side(ensemble)
    wanted = expected(ensemble, published.points, published.check, side, images or rendered_images(side))
    layers = [_map_layer(ensemble, i, wanted) for i in range(len(ensemble.members))]
    with atomic_folder(out / FOLDER) as partial:
        path = partial / Path(MODEL).name
        note = _write(published, ensemble, layers, path)
        difference = compare(path, wanted)
        difference.refuse()
        files = {MODEL: exported_file(path, len(wanted.originals), difference)}
        if calibrating is not None:
            smaller = partial / Path(QUANTIZED).name
            files[QUANTIZED] = _quantized(path, smaller, wanted, calibrating)
        method = None if note else " and ".join(sorted({layer.method for layer in layers}))
        info = export_info(published, ensemble, side, files, method, note)
        info = info if name is None else info.model_copy(update={"model": name})
        (partial / Path(INFO).name).write_text(info.model_dump_json(indent=2) + "\n", encoding="utf-8")
    return info


def common_side(ensemble: Ensemble) -> int:
    """The side that all members resize originals to first.

    Raises:
        ChexError: they differ.
    """
    sides = {member.preprocessing.shard_size or member.preprocessing.image_size for member in ensemble.members}
    if len(sides) > 1:
        listed = " and ".join(map(str, sorted(sides)))
        raise ChexError(
            f"the members resize radiographs to sides of {listed} pixels first, and an exported file takes one; "
            "export the members, or an ensemble of models that were trained on the same shards"
        )
    return sides.pop()


def _map_layer(ensemble: Ensemble, number: int, wanted: Expected) -> Maps:
    """Where torch computes a member's maps, as it chooses for the compared images."""
    member = ensemble.members[number]
    images = np.stack([member.preprocessing.apply(gray) for gray in wanted.resized[:2]])
    outputs = torch.zeros(len(images), 1, dtype=torch.int64)
    return explain_batch(member, member.normalize(torch.from_numpy(images)), outputs)


def _write(published: Published, ensemble: Ensemble, layers: Sequence[Maps], path: Path) -> str | None:
    """Write the file; without maps, and with the reason as the result, where these cannot be exported."""
    try:
        write_onnx(onnx_model(_graph(published, ensemble, layers)), path)
    except NotExportable as error:
        _log.warning("the exported model gives no maps: %s", error)
        write_onnx(onnx_model(_graph(published, ensemble, [None] * len(layers))), path)
        return str(error)
    return None


def _graph(published: Published, ensemble: Ensemble, layers: Sequence[Maps | None]) -> ExportedGraph:
    members = ensemble.members
    check = published.check
    return ExportedGraph(
        [ImageSteps(member.preprocessing) for member in members],
        [TracedNetwork(member, layer) for member, layer in zip(members, layers, strict=True)],
        ensemble.weights,
        ensemble.label_space.outputs,
        published.points.calibration,
        None if check is None else CheckSteps(check, members[0].preprocessing.image_size),
    )


def _quantized(path: Path, smaller: Path, wanted: Expected, calibrating: Calibrating) -> ExportedFile:
    with TemporaryDirectory() as scratch:
        quantize(path, smaller, calibrating.images, Path(scratch))
    file = exported_file(smaller, len(wanted.originals), compare(smaller, wanted))
    return calibrating.accepted(path, smaller, file)
