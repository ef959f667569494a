"""The README.md of a shard folder, rendered from its manifest and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from chexvision.shards.manifest import Manifest
from chexvision.shards.schema import features

_SYNTHETIC = """\
# Synthetic chest radiographs

**No patient is in this set.** A program drew every picture: a schematic frontal chest in which each of the
14 findings of NIH ChestX-ray14 has a simple visible sign of its own. It exists to try out and to test
training. A model trained on it knows nothing about radiographs, and a figure measured on it says nothing
about medicine.

Label combinations come as often as in the release; a finding on fewer than 4 % of a split's pictures is then
added to abnormal ones, so that rare ones can be learned and measured too. Ages, sexes, views and patients are
made up. `boxes.csv` holds the place of each sign in the layout of the release's `BBox_List_2017.csv`, in
pixels of these pictures.
"""
_REAL = """\
# NIH ChestX-ray14, {size}²

Frontal chest radiographs of the NIH Clinical Center's ChestX-ray14 release as one 8-bit grey channel,
area-averaged to {size}×{size} and stored as {stored}.

Labels were mined from radiology reports by a program and are noisy. For research only, not a medical device.
"""
_NIH_TERMS = "https://nihcc.app.box.com/v/ChestXray-NIHCC"
_CITATION = """\
## Citation

The NIH Clinical Center provides the radiographs. Cite:

> Xiaosong Wang, Yifan Peng, Le Lu, Zhiyong Lu, Mohammadhadi Bagheri, Ronald M. Summers. ChestX-ray8:
> Hospital-scale Chest X-ray Database and Benchmarks on Weakly-Supervised Classification and Localization of
> Common Thorax Diseases. IEEE CVPR 2017, pp. 3462–3471.
"""
_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))


def write_card(folder: Path, manifest: Manifest) -> None:
    """Write README.md into `folder`."""
    (folder / "README.md").write_text(render_card(manifest), encoding="utf-8")


def render_card(manifest: Manifest) -> str:
    """The card of a set: metadata for the Hub, what it is, how it was made, counts, citation."""
    header = yaml.safe_dump(_metadata(manifest), sort_keys=False, allow_unicode=True, width=110)
    stored = "lossless PNG" if manifest.encoding == "png" else "JPEG of quality 95"
    synthetic = manifest.synthetic
    about = _SYNTHETIC if synthetic else _REAL.format(size=manifest.size, stored=stored)
    parts = [f"---\n{header}---\n", about, _making(manifest), _counts(manifest), _bad(manifest)]
    return "\n".join(part for part in [*parts, "" if synthetic else _CITATION] if part)


def _metadata(manifest: Manifest) -> dict[str, Any]:
    synthetic = manifest.synthetic
    data_files = [{"split": name, "path": f"data/{name}-*"} for name in manifest.splits]
    columns = [
        {"name": name, "dtype": "image" if kind["_type"] == "Image" else kind["dtype"]}
        for name, kind in features().items()
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
        "pretty_name": "Synthetic chest radiographs" if synthetic else f"NIH ChestX-ray14 {manifest.size}²",
        "license": "cc0-1.0" if synthetic else "other",
        **({} if synthetic else {"license_name": "nih-clinical-center", "license_link": _NIH_TERMS}),
        "task_categories": ["image-classification"],
        "task_ids": ["multi-label-image-classification"],
        "tags": ["chest-x-ray", "synthetic"] if synthetic else ["chest-x-ray", "medical", "radiology"],
        "size_categories": [next((name for top, name in _SIZES if manifest.images < top), "n>1M")],
        "configs": [{"config_name": "default", "data_files": data_files}],
        "dataset_info": {"features": columns, "splits": splits, "download_size": size, "dataset_size": size},
    }


def _making(manifest: Manifest) -> str:
    split = manifest.split
    lines = ["## How it was made", ""]
    if manifest.synthetic:
        lines.append(f"- drawn by chexvision {manifest.chexvision} with seed {split.seed}, {manifest.size}² pixels")
    else:
        lines.append(f"- by chexvision {manifest.chexvision} from the release's files and {manifest.source.metadata}")
        lines.append(f"- metadata SHA-256: `{manifest.source.metadata_sha256}`")
    lines.append(f"- split: {_SPLIT_WORDS.get(split.name, f'the table {split.name}')}; seed {split.seed}")
    if split.sha256:
        lines.append(f"- split SHA-256: `{split.sha256}`")
    if manifest.impossible_ages:
        lines.append(f"- {len(manifest.impossible_ages):,} images have an age that nobody can have; it is null here")
    lines.append("- no patient is in two splits; `manifest.json` holds the SHA-256 of every shard")
    return "\n".join(lines) + "\n"


_SPLIT_WORDS = {
    "official": "the release's own lists, 5 % of the training list's patients held out as validation",
    "patient": "70 % / 10 % / 20 % of the patients by a seeded hash",
}


def _counts(manifest: Manifest) -> str:
    names = list(manifest.splits)
    lines = ["## Counts", "", f"| | {' | '.join(names)} |", "| --- |" + " ---: |" * len(names)]
    splits = manifest.splits.values()
    lines.append(f"| images | {' | '.join(f'{counts.images:,}' for counts in splits)} |")
    lines.append(f"| patients | {' | '.join(f'{counts.patients:,}' for counts in splits)} |")
    for finding in (*manifest.label_space.findings, manifest.label_space.normal):
        lines.append(f"| {finding} | {' | '.join(f'{counts.findings[finding]:,}' for counts in splits)} |")
    return "\n".join(lines) + "\n"


def _bad(manifest: Manifest) -> str:
    if not manifest.bad:
        return ""
    lines = [f"- `{bad.name}`: {bad.reason}" for bad in manifest.bad]
    return "\n".join(["## Images left out", "", *lines]) + "\n"
