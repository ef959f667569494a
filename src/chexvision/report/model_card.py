"""The card of a model or an ensemble, rendered from the records of its artifact alone."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from huggingface_hub import EvalResult, ModelCardData

from chexvision.artifact.contents import RunInfo
from chexvision.artifact.ensemble_file import EnsembleInfo
from chexvision.artifact.metrics_file import Evaluation
from chexvision.backbones import LICENSES, license_note
from chexvision.config.data_config import Uncertain
from chexvision.config.recipe import ModelConfig, TrainingConfig
from chexvision.hub.reference import Reference, RepoRef, parse_reference
from chexvision.labels import NIH
from chexvision.metrics.catalog import METRICS
from chexvision.metrics.records import SplitMetrics
from chexvision.report.card_parts import (
    card_subgroups,
    check_line,
    citations,
    export_values,
    figures_of,
    parts_table,
    public_name,
    split_tables,
    trained_on_table,
)
from chexvision.report.evaluation_tables import literature_table
from chexvision.report.table import Column, Table, markdown_table, row
from chexvision.runtime.export_info import ExportInfo
from chexvision.shards.split_rule import SplitRecord
from chexvision.templating import code, render

if TYPE_CHECKING:
    from markupsafe import Markup


# What training does with them; see `chexvision.config.data_config.DataConfig`.
_UNCERTAIN: dict[Uncertain, str] = {
    "ignore": "were left out",
    "zeros": "counted as absent",
    "ones": "counted as present",
    "smooth": "had the target 0.7",
}


def render_card(
    metrics: Evaluation,
    run: RunInfo,
    model_name: str,
    figures: Sequence[str] = (),
    to: Reference | None = None,
    *,
    exported: ExportInfo | None = None,
) -> str:
    """The README.md of an artifact, with the Hub's metadata on top. It names no path of the machine it was made on.

    Args:
        metrics: its ``metrics.json``.
        run: its ``run.json``.
        model_name: for title and metadata.
        figures: file names in its folder `FIGURES`.
        to: where it will be published, if that is known; see `with_destination`.
        exported: its ``onnx/model.json``; see `chexvision.report.card_parts.with_exported` for a rendered card.
    """
    backbone = run.recipe.model.backbone
    return render(
        "chexvision.report",
        "model_card.md",
        run=run,
        recipe=run.recipe,
        uncertain=_UNCERTAIN[run.recipe.data.uncertain],
        initial=_initial(run.recipe.model),
        license_note=license_note("that it started from", _license(run)),
        kept=_kept(run.recipe.training),
        limits=list(_limits(run)),
        trained_on=trained_on_table(run.datasets) if run.datasets else None,
        **citations(run),
        **_shared(
            *(metrics, model_name, [backbone], run.dataset_identity, run.split, figures, [_license(run)]),
            mixture=[of.dataset for of in run.datasets],
        ),
        **_use(to, run.provenance.run_id),
        **export_values(exported),
        check=check_line(metrics.input_check),
    )


def render_ensemble_card(
    metrics: Evaluation,
    info: EnsembleInfo,
    figures: Sequence[str] = (),
    to: Reference | None = None,
    *,
    exported: ExportInfo | None = None,
) -> str:
    """The README.md of an ensemble.

    Args:
        metrics: its ``metrics.json``: of the members in their order, then of their mean.
        info: its ``ensemble.json``.
        figures: file names in its folder `FIGURES`.
        to: where it will be published.
        exported: its ``onnx/model.json``.
    """
    backbones = sorted({member.backbone for member in info.members})
    licenses = [member.license for member in info.members]
    name = f"CheXVision ensemble of {len(info.members)}"
    return render(
        "chexvision.report",
        "ensemble_card.md",
        made=info,
        members=_members(metrics, info),
        references=[
            member.reference if member.run_id is None else f"{member.reference}, run {member.run_id}"
            for member in info.members
        ],
        **citations(None),
        license_notes=[license_note("that a member started from", license) for license in _restricting(licenses)],
        **_shared(metrics, name, ["ensemble", *backbones], info.dataset_identity, info.split, figures, licenses),
        **_use(to, info.provenance.run_id, ensemble=True),
        **export_values(exported),
        check=check_line(metrics.input_check),
    )


def _shared(
    metrics: Evaluation,
    name: str,
    tags: Sequence[str],
    identity: str,
    split: SplitRecord,
    figures: Sequence[str],
    licenses: Sequence[str | None],
    mixture: Sequence[str] = (),
) -> dict[str, Any]:
    """What cards of models and of ensembles show; `licenses` are those of the weights that training started from.

    `mixture` names the data sets of one: also those without images in the measured split.
    """
    references = [parse_reference(name) for name in mixture or [metrics.dataset]]
    header = ModelCardData(
        library_name="chexvision",
        pipeline_tag="image-classification",
        **_license_metadata(licenses),
        tags=["chest-x-ray", "radiology", "medical-imaging", *tags],
        datasets=[of.repo_id for of in references if isinstance(of, RepoRef)] or None,
        metrics=[metric.hub for metric in METRICS.values() if metric.hub],
        model_name=name,
        eval_results=eval_results(metrics),
    )
    test = metrics.splits.get("test")
    curves, overlay = figures_of(figures)
    return {
        "header": header.to_yaml(),
        "name": name,
        "metrics": metrics,
        "findings": tuple(metrics.metrics.findings),
        "nih": tuple(metrics.metrics.findings) == NIH.findings,
        "data": _data(metrics, identity, mixture),
        "division": _division(split),
        "parts": parts_table(metrics.mixture) if metrics.mixture else None,
        "splits": [(name, of, *split_tables(of, name)) for name, of in reversed(metrics.splits.items())],
        "subgroups": card_subgroups(metrics.subgroups),
        "literature": literature_table(metrics.published, test, "this model", metrics.image_size)
        if test and metrics.published
        else None,
        "curves": curves,
        "overlay": overlay,
        "markdown_table": markdown_table,
    }


def _license(run: RunInfo) -> str | None:
    return run.weights.license if run.weights is not None else None


def _restricting(licenses: Iterable[str | None]) -> list[str]:
    """Those that a reader must know of, each once."""
    return sorted({license for license in licenses if license is not None and license_note("", license)})


def _license_metadata(initial: Iterable[str | None]) -> dict[str, Any]:
    """The license in the Hub's metadata: this package's, or that of the weights that training started from."""
    names = _restricting(initial)
    if len(names) > 1 or not set(names) <= set(LICENSES):
        return {"license": "other", "license_name": " and ".join(names)}
    return {"license": names[0] if names else "apache-2.0"}


def _initial(model: ModelConfig) -> Markup | str:
    """The weights that training started from."""
    if model.weights in ("imagenet", "none"):
        return "ImageNet weights" if model.weights == "imagenet" else "random weights"
    return "the weights " + _named(model.weights)


def _named(source: str | None) -> Markup | str:
    """A file or model that a recipe names: a repository as it is, a path by its last part alone."""
    if source is None:
        return ""
    return code(source if _AT_SHA.search(source) else Path(source).name)


def _members(metrics: Evaluation, info: EnsembleInfo) -> Table:
    systems = metrics.systems
    macros = [of.metrics.macro["auroc"] for of in systems]
    rows = [
        row(
            str(number),
            member.recipe or "",
            "" if member.seed is None else str(member.seed),
            member.backbone,
            f"{member.image_size} px",
            f"{member.weight:.3f}",
            macro,
        )
        for number, (member, macro) in enumerate(zip(info.members, macros, strict=False), 1)
    ]
    rows.append(row("mean", "", "", "", "", "", macros[-1], emphasis=True))
    heads = ("", "recipe", "seed", "network", "image size", "weight", f"macro AUROC on {metrics.split}")
    columns = tuple(Column(head, prose=head in ("recipe", "network")) for head in heads)
    return Table("", columns, tuple(rows))


def with_destination(card: str, to: Reference, run_id: str) -> str:
    """A rendered card whose commands name the repository that it is now published to; otherwise unchanged."""
    return _USE_SECTION.sub(lambda _: render("chexvision.report", "use.md", **_use(to, run_id)), card, count=1)


def eval_results(metrics: Evaluation) -> list[EvalResult]:
    """Each split's main metrics, as the Hub's model index takes them; of a mixture those of each data set."""
    if not metrics.mixture:
        return list(_eval_results(parse_reference(metrics.dataset), metrics.splits, metrics.image_size))
    results = list[EvalResult]()
    for part in metrics.mixture:
        splits = {part.split: part.metrics}
        if part.validation is not None:
            splits = {"validation": part.validation, **splits}
        reference = parse_reference(part.dataset)
        prefix = "" if isinstance(reference, RepoRef) else f"{part.name}, "
        results += _eval_results(reference, splits, metrics.image_size, prefix)
    return results


def _eval_results(
    reference: Reference, splits: Mapping[str, SplitMetrics], image_size: int | None, prefix: str = ""
) -> Iterator[EvalResult]:
    for split, of in splits.items():
        macro = [(m.hub, f"Macro {m.title}", of.macro[m.name].value) for m in METRICS.values() if m.hub]
        for kind, name, value in (*macro, ("roc_auc", "AUROC normal/abnormal", of.binary_auroc)):
            if value is not None:
                yield EvalResult(
                    task_type="image-classification",
                    dataset_type=reference.repo_id if isinstance(reference, RepoRef) else "local",
                    dataset_name=reference.repo_id if isinstance(reference, RepoRef) else reference.name,
                    # The Hub merges results that differ in nothing but the names of split and data set.
                    dataset_config=prefix + (f"{split}, {image_size} px" if image_size else split),
                    dataset_split=split,
                    dataset_revision=reference.revision if isinstance(reference, RepoRef) else None,
                    metric_type=kind,
                    metric_name=name,
                    metric_value=round(value, 4),
                )


def _data(metrics: Evaluation, identity: str, mixture: Sequence[str]) -> Markup:
    """The training data: a repository at its commit, or a folder by its name and identity alone."""
    if mixture:
        return _joined("a mixture of ", [code(public_name(of)) for of in mixture])
    reference = parse_reference(metrics.dataset)
    if isinstance(reference, RepoRef):
        return code(str(reference))
    return "a local folder " + code(reference.name) + " (identity " + code(identity) + ")"


def _joined(before: str, names: Sequence[Markup]) -> Markup:
    from markupsafe import Markup

    return Markup(before) + Markup(", ").join(names)


def _division(split: SplitRecord) -> Table:
    rows = [row(name, of.images, of.patients, f"{of.images_sha256[:12]}…") for name, of in split.parts.items()]
    columns = (Column("split"), Column("images"), Column("patients"), Column("images_sha256", prose=True))
    return Table("", columns, tuple(rows))


def _kept(training: TrainingConfig) -> str:
    """Which epoch's weights are published."""
    if not training.tolerance:
        return f"the best by {training.monitored} on validation"
    errors = "one standard error" if training.tolerance == 1 else f"{training.tolerance:g} standard errors"
    return f"the latest whose {training.monitored} on validation is within {errors} of the best"


def _limits(run: RunInfo) -> Iterator[str]:
    """The part of the splits that the recipe used, where it did not use all patients."""
    data, parts = run.recipe.data, run.split.parts
    if data.train_fraction < 1:
        yield f"Of train, {100 * data.train_fraction:g} % of the patients were used, a seeded sample."
    for name, most in (("train", data.max_train_images), ("validation", data.max_validation_images)):
        if most is not None and name in parts and most < parts[name].images:
            yield f"Of {name}, complete patients with at most {most:,} images were used."


def _use(to: Reference | None, run_id: str, *, ensemble: bool = False) -> dict[str, Any]:
    """How to use the model: from its repository, or from its folder where it is in none."""
    return {"repository": to.repo_id if isinstance(to, RepoRef) else None, "run_id": run_id, "ensemble": ensemble}


_AT_SHA = re.compile(r"@[0-9a-f]{40}\b")
_USE_SECTION = re.compile(r"^## Use\n.*?(?=\n## )", re.DOTALL | re.MULTILINE)
