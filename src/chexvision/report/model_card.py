"""The model card, rendered from ``metrics.json`` and ``run.json``; no figure in it is typed."""

from __future__ import annotations

import re
from collections.abc import Sequence

from huggingface_hub import EvalResult, ModelCardData

from chexvision.artifact.contents import FIGURES, RunInfo
from chexvision.artifact.metrics_file import Evaluation
from chexvision.config import DataConfig
from chexvision.hub.reference import Reference, RepoRef, parse_reference
from chexvision.labels import NIH
from chexvision.metrics.catalog import METRICS
from chexvision.metrics.records import Attribute, Estimates, SplitMetrics
from chexvision.report.wording import about_means, figure, gap_text, no_mean, prior_shift_text
from chexvision.shards.split_rule import SplitRecord

_LIMITS = """\
## Limits

- **For research only. This is not a medical device** and must not be used to diagnose, treat or triage anybody.
- Its labels were mined from radiology reports by a text program and are noisy: radiologists who look at the same
  images agree with them clearly less often than their documentation says.
- Findings are correlated with how and why a picture was taken. A chest drain, for one, gives a treated
  pneumothorax away; a model may have learned the drain.
- The images come from one hospital. On pictures from another, expect lower figures.
- Calibration and thresholds hold for images like those they were chosen on. Where findings are less or more common,
  probabilities shift with them.
"""


def render_card(
    metrics: Evaluation, run: RunInfo, model_name: str, figures: Sequence[str] = (), to: Reference | None = None
) -> str:
    """The README.md of an artifact, with the Hub's metadata on top. It names no path of the machine it was made on.

    Args:
        metrics: its ``metrics.json``.
        run: its ``run.json``.
        model_name: for title and metadata.
        figures: file names in its folder `FIGURES`.
        to: where it will be published, as far as that is known; see `with_destination`.
    """
    data = ModelCardData(
        library_name="chexvision",
        pipeline_tag="image-classification",
        license="apache-2.0",
        tags=["chest-x-ray", "radiology", "medical-imaging", run.recipe.model.backbone],
        datasets=_hub_dataset(metrics),
        metrics=[metric.hub for metric in METRICS.values() if metric.hub],
        model_name=model_name,
        eval_results=eval_results(metrics),
    )
    sections = [
        f"---\n{data.to_yaml()}\n---\n",
        f"# {model_name}\n",
        _summary(metrics, run),
        "## Results\n",
        _division(run.split, run.recipe.data),
        *[_split_section(name, split, metrics) for name, split in reversed(metrics.splits.items())],
        *_subgroups(metrics.subgroups),
        *_published(metrics),
        *_figures(figures),
        _use(to, run.provenance.run_id),
        _LIMITS,
        _reproduction(metrics, run),
        _CITATION,
    ]
    return "\n".join(sections)


def with_destination(card: str, to: Reference, run_id: str) -> str:
    """A rendered card whose commands name the repository that it is now published to; otherwise unchanged."""
    return _USE_SECTION.sub(lambda _: _use(to, run_id), card, count=1)


def eval_results(metrics: Evaluation) -> list[EvalResult]:
    """Each split's main figures, as the Hub's model index takes them."""
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
                        dataset_name=_dataset_name(metrics),
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


def _hub_dataset(metrics: Evaluation) -> list[str] | None:
    reference = parse_reference(metrics.dataset)
    return [reference.repo_id] if isinstance(reference, RepoRef) else None


def _dataset_name(metrics: Evaluation) -> str:
    reference = parse_reference(metrics.dataset)
    return reference.repo_id if isinstance(reference, RepoRef) else reference.name


def _data(metrics: Evaluation, run: RunInfo) -> str:
    """What it was trained on: a repository at its commit, or a folder by its name and identity alone."""
    reference = parse_reference(metrics.dataset)
    if isinstance(reference, RepoRef):
        return f"`{reference}`"
    return f"a local folder `{reference.name}` (identity `{run.dataset_identity}`)"


def _outputs(metrics: Evaluation) -> str:
    findings = tuple(metrics.metrics.findings)
    of = " of NIH ChestX-ray14," if findings == NIH.findings else f" ({', '.join(findings)})"
    return f"{len(findings)} findings{of}"


def _summary(metrics: Evaluation, run: RunInfo) -> str:
    recipe = run.recipe
    start = "ImageNet weights" if recipe.model.pretrained else "random weights"
    drawn = (
        "**Trained and measured on synthetic images, not on radiographs.** Its figures show that the pipeline works; "
        "they say nothing about patients.\n\n"
    )
    return (
        f"{drawn if metrics.synthetic else ''}"
        f"A `{recipe.model.backbone}` with two heads, trained from {start}: {_outputs(metrics)} and "
        f"normal/abnormal. Input: frontal chest radiographs, {recipe.data.image_size}x{recipe.data.image_size} "
        f"pixels. Trained on {_data(metrics, run)}; the weights are those of epoch {metrics.epoch}, the best by "
        f"macro AUROC on validation.\n"
    )


def _division(split: SplitRecord, data: DataConfig) -> str:
    lines = [
        f"Split: {split.described}. No patient is in two splits: validation and test are of patients "
        "that training has not seen.\n",
        "| split | images | patients | images_sha256 |",
        "| --- | ---: | ---: | --- |",
    ]
    for name, part in split.parts.items():
        lines.append(f"| {name} | {part.images:,} | {part.patients:,} | `{part.images_sha256[:12]}…` |")
    for name, most in (("train", data.max_train_images), ("validation", data.max_validation_images)):
        if most is not None and name in split.parts and most < split.parts[name].images:
            lines.append(f"\nOf {name}, whole patients with at most {most:,} images were used.")
    return "\n".join(lines) + "\n"


def _split_section(name: str, split: SplitMetrics, metrics: Evaluation) -> str:
    how = split.interval
    intervals = (
        f" In brackets: {how.level:.0%} intervals by {how.method}, {how.resamples:,} resamples." if how else ""
    )
    macro = split.macro
    lines = [
        f"### {name.capitalize()}\n",
        f"{split.images:,} images of {split.patients:,} patients, split: {metrics.division}, "
        f"{metrics.image_size} px, one view of each image, epoch {metrics.epoch}. Thresholds: {split.thresholds}. "
        f"Calibration: {split.calibration}.{intervals}\n",
        f"| | positives | threshold | {' | '.join(metric.title for metric in METRICS.values())} |",
        f"| --- | ---: | ---:{' | ---:' * len(METRICS)} |",
        f"| **mean of {macro.findings} findings** | | | {_cells(macro, no_mean(macro))} |",
    ]
    outputs = {"normal/abnormal": split.binary, **split.findings}
    for output, of in outputs.items():
        if of is not None:
            threshold = figure(of.decision.threshold if of.decision else None)
            lines.append(f"| {output} | {of.positives:,} | {threshold} | {_cells(of, of.too_few)} |")
    lines += [f"\n{_sentence(said)}" for said in about_means(macro)]
    if split.prior_shift is not None:
        lines.append(f"\n{_sentence(prior_shift_text(split.prior_shift))}")
    at = split.binary.decision if split.binary else None
    if at is not None:
        lines.append(
            f"\nNormal/abnormal at {at.threshold:.3f}: {at.true_positives:,} true and {at.false_positives:,} false "
            f"positives, {at.true_negatives:,} true and {at.false_negatives:,} false negatives."
        )
    return "\n".join(lines) + "\n"


def _cells(of: Estimates, too_few: str | None) -> str:
    """All metrics; the first with its interval."""
    first, *others = METRICS.values()
    cells = [figure(of[first.name], digits=first.digits, too_few=too_few)]
    return " | ".join(cells + [figure(of[metric.name].value, digits=metric.digits) for metric in others])


def _subgroups(attributes: Sequence[Attribute]) -> list[str]:
    if not attributes:
        return []
    lines = [
        "### Subgroups of test\n",
        "| | group | images | patients | macro AUROC | AUROC normal/abnormal | gap |",
        "| --- | --- | ---: | ---: | ---: | ---: | --- |",
    ]
    for attribute in attributes:
        gap = attribute.gap
        for group in attribute.groups:
            first = group is attribute.groups[0]
            said = gap_text(gap) if gap else "–"
            binary = figure(group.binary_auroc, too_few=group.binary_too_few)
            lines.append(
                f"| {attribute.attribute if first else ''} | {group.group} | {group.images:,} | {group.patients:,} | "
                f"{figure(group.macro_auroc, too_few=group.note)} | "
                f"{binary} | {said if first else ''} |"
            )
    counts = ", ".join(f"{len(attribute.macro_findings)} by {attribute.attribute}" for attribute in attributes)
    lines.append(
        f"\nA group's macro AUROC runs over the findings that every compared group has enough cases of: {counts}. "
        "Groups of too few images or cases are shown without one and not compared."
    )
    return ["\n".join(lines) + "\n"]


def _published(metrics: Evaluation) -> list[str]:
    test = metrics.splits.get("test")
    if test is None or not metrics.published:
        return []
    lines = [
        "### LiteratureComparison published figures\n",
        "| | macro AUROC | split | pixels | how | comparable |",
        "| --- | ---: | --- | --- | --- | --- |",
        f"| **this model** | **{figure(test.macro['auroc'])}** | {test.images:,} images | "
        f"{metrics.image_size} | single model | |",
    ]
    for row in metrics.published:
        of = row.published
        lines.append(
            f"| [{of.who}]({of.reference}) | {of.auroc:.3f} | {of.split} | {of.size or '–'} | {of.how} | "
            f"{'yes' if row.comparable else 'no'}: {row.why} |"
        )
    return ["\n".join(lines) + "\n"]


def _figures(names: Sequence[str]) -> list[str]:
    if not names:
        return []
    pictures = [f"![{name.removesuffix('.svg').replace('-', ' ')} curves]({FIGURES}/{name})\n" for name in names]
    return ["### Curves\n", *pictures]


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."


def _use(to: Reference | None, run_id: str) -> str:
    """How to use the model: out of its repository, or out of its folder where it is in none."""
    name, revision = (to.repo_id, run_id) if isinstance(to, RepoRef) else (".", None)
    where = "" if isinstance(to, RepoRef) else "cd FOLDER  # the one that holds this README.md\n"
    at = f"@{revision}" if revision else ""
    named = f', revision="{revision}"' if revision else ""
    return f"""\
## Use

```bash
pip install 'chexvision[train]'
{where}chexvision predict {name}{at} chest.png
```

```python
from chexvision import CheXVision

model = CheXVision.from_pretrained("{name}"{named})
```
"""


_USE_SECTION = re.compile(r"^## Use\n.*?(?=\n## )", re.DOTALL | re.MULTILINE)


def _reproduction(metrics: Evaluation, run: RunInfo) -> str:
    made = run.provenance
    hardware = run.hardware
    versions = ", ".join(f"{name} {version}" for name, version in run.versions.items())
    source = f"`{made.source_revision}`{' with uncommitted changes' if made.source_dirty else ''}"
    bundle = f"`{made.bundle_sha256}`" if made.bundle_sha256 else "none, it was not dispatched"
    return (
        "## How it was made\n\n"
        "| | |\n| --- | --- |\n"
        f"| run | `{made.run_id}` (in a repository, its tag) |\n"
        f"| source | {source} |\n"
        f"| bundle sha256 | {bundle} |\n"
        f"| data | {_data(metrics, run)} |\n"
        f"| seed | {run.recipe.training.seed} |\n"
        f"| hardware | {hardware.processes} x {hardware.device}, {hardware.precision} |\n"
        f"| training | {run.train_seconds:,.0f} s in optimisation steps, {run.started_at} to {run.finished_at} |\n"
        f"| versions | {versions} |\n\n"
        "The whole recipe stands in `run.json`, each epoch's figures in `history.json`.\n"
    )


_CITATION = """\
## Citation

Wang X, Peng Y, Lu L, Lu Z, Bagheri M, Summers RM. ChestX-ray8: Hospital-scale Chest X-ray Database and Benchmarks
on Weakly-Supervised Classification and Localization of Common Thorax Diseases. CVPR 2017.
"""
