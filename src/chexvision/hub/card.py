"""The model card, rendered from ``metrics.json``, ``run.json`` and ``history.json``; no figure in it is typed."""

from __future__ import annotations

from huggingface_hub import EvalResult, ModelCardData

from chexvision.hub.artifact import Metrics, RunInfo, SplitMetrics
from chexvision.hub.reference import RepoRef, parse_reference

_LIMITS = """\
## Limits

- **For research only. This is not a medical device** and must not be used to diagnose, treat or triage anybody.
- Its labels were mined from radiology reports by a text program and are noisy: radiologists who look at the same
  images agree with them clearly less often than their documentation says.
- Findings are correlated with how and why a picture was taken. A chest drain, for one, gives a treated
  pneumothorax away; a model may have learned the drain.
- The images come from one hospital. On pictures from another, expect lower figures.
- Probabilities are not calibrated: they rank images, they do not say how likely a finding is.
"""


def render_card(metrics: Metrics, run: RunInfo, model_name: str) -> str:
    """The README.md of an artifact, with the Hub's metadata on top."""
    data = ModelCardData(
        library_name="chexvision",
        pipeline_tag="image-classification",
        license="apache-2.0",
        tags=["chest-x-ray", "radiology", "medical-imaging", run.recipe.model.backbone],
        datasets=_hub_dataset(metrics),
        metrics=["roc_auc"],
        model_name=model_name,
        eval_results=eval_results(metrics),
    )
    sections = [
        f"---\n{data.to_yaml()}\n---\n",
        f"# {model_name}\n",
        _summary(metrics, run),
        "## Results\n",
        *[_split_section(name, split, metrics) for name, split in metrics.splits.items()],
        _USE,
        _LIMITS,
        _reproduction(run),
        _CITATION,
    ]
    return "\n".join(sections)


def eval_results(metrics: Metrics) -> list[EvalResult]:
    """Each split's macro and binary AUROC, as the Hub's model index takes them."""
    reference = parse_reference(metrics.dataset)
    results = []
    for split, figures in metrics.splits.items():
        for name, value in (
            ("Macro AUROC", figures.macro_auroc),
            ("AUROC normal/abnormal", figures.binary_auroc),
        ):
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
                        metric_type="roc_auc",
                        metric_name=name,
                        metric_value=round(value, 4),
                    )
                )
    return results


def _hub_dataset(metrics: Metrics) -> list[str] | None:
    reference = parse_reference(metrics.dataset)
    return [reference.repo_id] if isinstance(reference, RepoRef) else None


def _dataset_name(metrics: Metrics) -> str:
    reference = parse_reference(metrics.dataset)
    return reference.repo_id if isinstance(reference, RepoRef) else reference.name


def _summary(metrics: Metrics, run: RunInfo) -> str:
    recipe = run.recipe
    start = "ImageNet weights" if recipe.model.pretrained else "random weights"
    drawn = (
        "**Trained and measured on drawn pictures, not on radiographs.** Its figures show that the pipeline works; "
        "they say nothing about patients.\n\n"
    )
    return (
        f"{drawn if metrics.drawn else ''}"
        f"A `{recipe.model.backbone}` with two heads, trained from {start}: 14 findings of NIH ChestX-ray14, and "
        f"normal/abnormal. Input: frontal chest radiographs, {recipe.data.image_size}x{recipe.data.image_size} "
        f"pixels. Trained on `{metrics.dataset}`; the weights are those of epoch {metrics.epoch}, the best by macro "
        f"AUROC on validation.\n"
    )


def _split_section(name: str, split: SplitMetrics, metrics: Metrics) -> str:
    division = f"the table `{metrics.split_table}`" if metrics.split_table else "the dataset's own split"
    lines = [
        f"### {name.capitalize()}\n",
        f"{split.images:,} images of {split.patients:,} patients, {division}, {metrics.image_size} px, one view of "
        f"each image, epoch {metrics.epoch}.\n",
        "| | positives | AUROC | AUPRC |",
        "| --- | ---: | ---: | ---: |",
        f"| **macro, {split.macro_auroc_findings} findings** | | **{_figure(split.macro_auroc)}** | |",
        f"| normal/abnormal (F1 {_figure(split.binary_f1)} at 0.5) | | {_figure(split.binary_auroc)} "
        f"| {_figure(split.binary_auprc)} |",
    ]
    for finding, figures in split.findings.items():
        lines.append(f"| {finding} | {figures.positives:,} | {_figure(figures.auroc)} | {_figure(figures.auprc)} |")
    return "\n".join(lines) + "\n"


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


_USE = """\
## Use

```bash
pip install 'chexvision[train]'
chexvision predict USER/REPO chest.png
```

```python
from chexvision import CheXVision

model = CheXVision.from_pretrained("USER/REPO", revision="THE_RUN_ID_BELOW")
```
"""


def _reproduction(run: RunInfo) -> str:
    made = run.provenance
    hardware = run.hardware
    versions = ", ".join(f"{name} {version}" for name, version in run.versions.items())
    source = f"`{made.source_revision}`{' with uncommitted changes' if made.source_dirty else ''}"
    bundle = f"`{made.bundle_sha256}`" if made.bundle_sha256 else "none, it was not dispatched"
    return (
        "## How it was made\n\n"
        "| | |\n| --- | --- |\n"
        f"| run | `{made.run_id}` (this repository's tag of that name) |\n"
        f"| source | {source} |\n"
        f"| bundle sha256 | {bundle} |\n"
        f"| data | `{run.dataset}` |\n"
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
