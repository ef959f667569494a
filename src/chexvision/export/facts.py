"""What ``onnx/model.json`` says about a model, from the files that it was published with."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from chexvision import __version__
from chexvision.artifact.contents import METRICS, read_run
from chexvision.artifact.ensemble_file import member_folder, read_ensemble
from chexvision.artifact.load import Ensemble
from chexvision.artifact.metrics_file import Evaluation, read_metrics
from chexvision.export.agreement import Difference
from chexvision.files.atomic import sha256_of
from chexvision.hub.reference import Reference, RepoRef, parse_reference
from chexvision.hub.repo_files import CONFIG, ENSEMBLE, RUN, WEIGHTS, model_file
from chexvision.metrics.calibration import FILE as CALIBRATION
from chexvision.metrics.records import FindingMetrics
from chexvision.metrics.thresholds import FILE as THRESHOLDS
from chexvision.predict.input_check import FILE as CHECK
from chexvision.predict.published import Published
from chexvision.runtime.export_info import CheckLimit, ExportedFile, ExportInfo, ThresholdResult
from chexvision.shards.split_rule import SplitRecord


def exported_file(path: Path, images: int, difference: Difference) -> ExportedFile:
    """The record of a file that was compared with torch."""
    return ExportedFile(
        sha256=sha256_of(path),
        bytes=path.stat().st_size,
        images=images,
        largest_difference=difference.probabilities,
        originals_difference=difference.originals,
        maps_difference=difference.maps,
        checks_difference=difference.checks,
    )


def export_info(
    published: Published,
    ensemble: Ensemble,
    side: int,
    files: Mapping[str, ExportedFile],
    method: str | None,
    without_maps: str | None,
) -> ExportInfo:
    """The content of ``onnx/model.json``.

    Args:
        published: what the model was published with.
        ensemble: its networks.
        side: that originals are resized to first.
        files: by path below the model's folder.
        method: of the maps; None where the files give none.
        without_maps: why, then.

    Raises:
        ChexError: a file of the model cannot be fetched or is damaged.
    """
    facts, points, reference = published.facts, published.points, published.reference
    test, test_set = _test_results(reference)
    return ExportInfo(
        version=__version__,
        model=facts.model,
        run_id=facts.run_id,
        label_space=ensemble.label_space,
        side=side,
        image_size=ensemble.members[0].preprocessing.image_size,
        map_method=method,
        without_maps=without_maps,
        synthetic=facts.synthetic,
        data=_data(reference),
        calibration="none" if points.calibration is None else points.calibration.described,
        rule=points.rule,
        thresholds=points.threshold_values(ensemble.label_space.outputs),
        test=test,
        test_set=test_set,
        checks=tuple(
            CheckLimit(name=one.name, limit=one.limit, message=one.message)
            for one in (published.check.tests if published.check else ())
        ),
        sources=_sources(reference, len(ensemble.members)),
        files=dict(sorted(files.items())),
    )


def _sources(reference: Reference, members: int) -> dict[str, str]:
    """sha256 of the files that an export depends on."""
    names = [CONFIG, WEIGHTS]
    if members > 1:
        names = [ENSEMBLE, *(f"{member_folder(i)}/{name}" for i in range(1, members + 1) for name in names)]
    found = {name: model_file(reference, name) for name in (*names, CALIBRATION, THRESHOLDS, CHECK)}
    return {name: sha256_of(path) for name, path in found.items() if path is not None}


def _test_results(reference: Reference) -> tuple[dict[str, ThresholdResult], str | None]:
    """How each threshold did on the measured split, and which one that is."""
    path = model_file(reference, METRICS)
    if path is None:
        return {}, None
    metrics = read_metrics(path)
    by_output = dict(metrics.metrics.findings)
    if metrics.metrics.binary is not None:
        by_output["Abnormal"] = metrics.metrics.binary
    results = {name: _result(of) for name, of in by_output.items()}
    return results, _measured_on(metrics)


def _result(of: FindingMetrics) -> ThresholdResult:
    return ThresholdResult(
        sensitivity=of["recall"].value,
        specificity=of["specificity"].value,
        precision=of["precision"].value,
        positives=of.positives,
        images=of.positives + of.negatives,
    )


def _measured_on(metrics: Evaluation) -> str:
    kind = " synthetic" if metrics.synthetic else ""
    return f"{metrics.metrics.images:,}{kind} images of the {metrics.split} split of {_named(metrics.dataset)}"


def _data(reference: Reference) -> str | None:
    """What a model was trained on, without a path of the machine that trained it."""
    run, ensemble = model_file(reference, RUN), model_file(reference, ENSEMBLE)
    if run is not None:
        recorded = read_run(run)
        return _described(recorded.dataset, recorded.split)
    if ensemble is not None:
        info = read_ensemble(ensemble)
        return _described(info.dataset, info.split)
    return None


def _described(dataset: str, split: SplitRecord) -> str:
    return f"{_named(dataset)}, split {split}"


def _named(dataset: str) -> str:
    reference = parse_reference(dataset)
    return str(reference) if isinstance(reference, RepoRef) else reference.name
