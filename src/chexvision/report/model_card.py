"""The model card, rendered from ``metrics.json`` and ``run.json`` alone."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from huggingface_hub import EvalResult, ModelCardData

from chexvision.artifact.contents import FIGURES, RunInfo
from chexvision.artifact.metrics_file import Evaluation
from chexvision.backbones import LICENSES, license_note
from chexvision.hub.reference import Reference, RepoRef, parse_reference
from chexvision.labels import NIH
from chexvision.metrics.catalog import METRICS
from chexvision.report.evaluation_tables import literature_table, metrics_table, subgroup_table
from chexvision.report.table import Column, Table, markdown_table, row
from chexvision.templating import code, render

if TYPE_CHECKING:
    from markupsafe import Markup


def render_card(
    metrics: Evaluation, run: RunInfo, model_name: str, figures: Sequence[str] = (), to: Reference | None = None
) -> str:
    """The README.md of an artifact, with the Hub's metadata on top. It names no path of the machine it was made on.

    Args:
        metrics: its ``metrics.json``.
        run: its ``run.json``.
        model_name: for title and metadata.
        figures: file names in its folder `FIGURES`.
        to: where it will be published, if that is known; see `with_destination`.
    """
    dataset = parse_reference(metrics.dataset)
    header = ModelCardData(
        library_name="chexvision",
        pipeline_tag="image-classification",
        **_license(run),
        tags=["chest-x-ray", "radiology", "medical-imaging", run.recipe.model.backbone],
        datasets=[dataset.repo_id] if isinstance(dataset, RepoRef) else None,
        metrics=[metric.hub for metric in METRICS.values() if metric.hub],
        model_name=model_name,
        eval_results=eval_results(metrics),
    )
    test = metrics.splits.get("test")
    return render(
        "chexvision.report",
        "model_card.md",
        header=header.to_yaml(),
        name=model_name,
        metrics=metrics,
        run=run,
        recipe=run.recipe,
        findings=tuple(metrics.metrics.findings),
        license_note=license_note("which it started from", run.weights.license) if run.weights else None,
        nih=tuple(metrics.metrics.findings) == NIH.findings,
        data=_data(metrics, run),
        division=_division(run),
        limits=list(_limits(run)),
        splits=[(name, of, metrics_table(of, name)) for name, of in reversed(metrics.splits.items())],
        subgroups=[subgroup_table(attribute) for attribute in metrics.subgroups],
        literature=literature_table(metrics.published, test, "this model", metrics.image_size)
        if test and metrics.published
        else None,
        figures=figures,
        folder=FIGURES,
        markdown_table=markdown_table,
        **_use(to, run.provenance.run_id),
    )


def _license(run: RunInfo) -> dict[str, Any]:
    """The Hub's metadata of the license: this package's, or that of the weights that training started from."""
    of = run.weights.license if run.weights is not None else None
    if of is None or license_note("", of) is None:
        return {"license": "apache-2.0"}
    return {"license": of} if of in LICENSES else {"license": "other", "license_name": of}


def with_destination(card: str, to: Reference, run_id: str) -> str:
    """A rendered card whose commands name the repository that it is now published to; otherwise unchanged."""
    return _USE_SECTION.sub(lambda _: render("chexvision.report", "use.md", **_use(to, run_id)), card, count=1)


def eval_results(metrics: Evaluation) -> list[EvalResult]:
    """Each split's main metrics, as the Hub's model index takes them."""
    reference = parse_reference(metrics.dataset)
    results = []
    for split, of in metrics.splits.items():
        macro = [(m.hub, f"Macro {m.title}", of.macro[m.name].value) for m in METRICS.values() if m.hub]
        for kind, name, value in (*macro, ("roc_auc", "AUROC normal/abnormal", of.binary_auroc)):
            if value is not None:
                results.append(
                    EvalResult(
                        task_type="image-classification",
                        dataset_type=reference.repo_id if isinstance(reference, RepoRef) else "local",
                        dataset_name=reference.repo_id if isinstance(reference, RepoRef) else reference.name,
                        # The Hub merges results that differ in nothing but their split's name.
                        dataset_config=f"{split}, {metrics.image_size} px",
                        dataset_split=split,
                        dataset_revision=reference.revision if isinstance(reference, RepoRef) else None,
                        metric_type=kind,
                        metric_name=name,
                        metric_value=round(value, 4),
                    )
                )
    return results


def _data(metrics: Evaluation, run: RunInfo) -> Markup:
    """The training data: a repository at its commit, or a folder by its name and identity alone."""
    reference = parse_reference(metrics.dataset)
    if isinstance(reference, RepoRef):
        return code(str(reference))
    return "a local folder " + code(reference.name) + " (identity " + code(run.dataset_identity) + ")"


def _division(run: RunInfo) -> Table:
    rows = [
        row(name, part.images, part.patients, f"{part.images_sha256[:12]}…") for name, part in run.split.parts.items()
    ]
    columns = (Column("split"), Column("images"), Column("patients"), Column("images_sha256", prose=True))
    return Table("", columns, tuple(rows))


def _limits(run: RunInfo) -> Iterator[tuple[str, int]]:
    """Splits of which the recipe used a part of the patients, and how many images that is at most."""
    data, parts = run.recipe.data, run.split.parts
    for name, most in (("train", data.max_train_images), ("validation", data.max_validation_images)):
        if most is not None and name in parts and most < parts[name].images:
            yield name, most


def _use(to: Reference | None, run_id: str) -> dict[str, str | None]:
    """How to use the model: from its repository, or from its folder where it is in none."""
    return {"repository": to.repo_id if isinstance(to, RepoRef) else None, "run_id": run_id}


_USE_SECTION = re.compile(r"^## Use\n.*?(?=\n## )", re.DOTALL | re.MULTILINE)
