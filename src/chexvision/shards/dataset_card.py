"""The README.md of a shard folder, rendered from its manifest alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from chexvision.labels import NIH
from chexvision.releases.nih14 import NIH_TERMS
from chexvision.releases.terms import Terms
from chexvision.shards.manifest import Manifest
from chexvision.shards.schema import Columns, features
from chexvision.templating import render

_SPLIT_RULES = {
    "official": "the release's own; where it has no validation, that is 5 % of the training patients",
    "patient": "70 % / 10 % / 20 % of the patients by a seeded hash",
}
_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))


def write_card(folder: Path, manifest: Manifest) -> None:
    """Write README.md into `folder`."""
    (folder / "README.md").write_text(render_card(manifest), encoding="utf-8")


def render_card(manifest: Manifest) -> str:
    """The card of a set: metadata for the Hub, what it is, how it was made, counts, citation."""
    splits = manifest.splits.values()
    rows = [("images", [counts.images for counts in splits]), ("patients", [counts.patients for counts in splits])]
    rows += [
        (name, [counts.findings[name] for counts in splits])
        for name in (*manifest.label_space.findings, manifest.label_space.normal)
    ]
    return render(
        "chexvision.shards",
        "dataset_card.md",
        header=yaml.safe_dump(_metadata(manifest), sort_keys=False, allow_unicode=True, width=110),
        set=manifest,
        synthetic=manifest.synthetic,
        terms=terms_of(manifest),
        open_labels=any(counts.open_labels for counts in splits),
        stored="lossless PNG" if manifest.encoding == "png" else "JPEG of quality 95",
        split_rule=_SPLIT_RULES.get(manifest.split.name, f"the table {manifest.split.name}"),
        rows=rows,
    )


def terms_of(manifest: Manifest) -> Terms | None:
    """The terms of the dataset; None of synthetic images and of one's own.

    Manifests of formats before 3 do not name the dataset: radiographs with NIH's labels are of its release.
    """
    if manifest.dataset is not None:
        return manifest.dataset.terms
    return NIH_TERMS if manifest.label_space == NIH and not manifest.synthetic else None


def _license(manifest: Manifest) -> dict[str, str]:
    terms = terms_of(manifest)
    if terms is None:
        return {"license": "cc0-1.0" if manifest.synthetic else "other"}
    if terms.license_name is None:
        return {"license": terms.license}
    return {"license": terms.license, "license_name": terms.license_name, "license_link": terms.license_link}


def _metadata(manifest: Manifest) -> dict[str, Any]:
    synthetic, terms = manifest.synthetic, terms_of(manifest)
    name = f"{terms.title if terms else 'Chest radiographs'} {manifest.size}²"
    data_files = [{"split": name, "path": f"data/{name}-*"} for name in manifest.splits]
    columns = Columns(
        any(counts.open_labels for counts in manifest.splits.values()),
        manifest.dataset is not None and manifest.dataset.studies,
    )
    described = [
        {"name": name, "dtype": "image" if kind["_type"] == "Image" else kind["dtype"]}
        for name, kind in features(columns).items()
    ]
    splits = [
        {
            "name": name,
            "num_bytes": sum(shard.bytes for shard in manifest.shards if shard.split == name),
            "num_examples": counts.images,
        }
        for name, counts in manifest.splits.items()
    ]
    size = sum(shard.bytes for shard in manifest.shards)
    return {
        "pretty_name": "Synthetic chest radiographs" if synthetic else name,
        **_license(manifest),
        "task_categories": ["image-classification"],
        "task_ids": ["multi-label-image-classification"],
        "tags": ["chest-x-ray", "synthetic"] if synthetic else ["chest-x-ray", "medical", "radiology"],
        "size_categories": [next((name for top, name in _SIZES if manifest.images < top), "n>1M")],
        "configs": [{"config_name": "default", "data_files": data_files}],
        "dataset_info": {"features": described, "splits": splits, "download_size": size, "dataset_size": size},
    }
