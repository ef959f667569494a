"""What a dataset on the Hub says of itself: its license, and whether it consists of shards of this project."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from chexvision.files.json_files import read_file
from chexvision.hub.hub_errors import call_hub
from chexvision.labels import NIH, LabelSpace
from chexvision.releases.from_hub.hub_stream import HubSource
from chexvision.releases.terms import Terms

_LICENSE = re.compile(r"[a-z0-9][a-z0-9.-]{0,60}", re.ASCII)
_LINK = re.compile(r"https://[\x21-\x7e]{1,300}")


class ShardsDataset(BaseModel):
    """Which dataset the images of shards are of; see `chexvision.shards.manifest`."""

    terms: Terms | None = None
    knows_patients: bool = True


class ShardsSource(BaseModel):
    """What the images of shards are."""

    kind: str = "radiographs"


class ShardsManifest(BaseModel):
    """What is read of the ``manifest.json`` of shards."""

    format: int
    chexvision: str
    label_space: LabelSpace = NIH
    dataset: ShardsDataset | None = None
    source: ShardsSource = ShardsSource()

    @property
    def synthetic(self) -> bool:
        """Whether the images are synthetic; format 1 calls them drawn."""
        return self.source.kind in ("synthetic", "drawn")


def terms_of(source: HubSource) -> Terms:
    """The terms of shards that are built again, else those of the dataset's card.

    A private dataset, or one whose terms are to be accepted first, is taken for a credentialed one.

    Raises:
        ChexError: the Hub does not answer.
    """
    from huggingface_hub import DatasetInfo, HfApi

    def asked() -> DatasetInfo:
        return HfApi().dataset_info(source.repo_id, revision=source.sha)

    info = call_hub(asked, "reading the card", source.reference, "dataset")
    restricted = bool(info.private or info.gated)
    manifest = manifest_of(source)
    terms = manifest.dataset.terms if manifest is not None and manifest.dataset is not None else None
    if terms is not None:
        return terms if terms.credentialed or not restricted else replace(terms, credentialed=True)
    page = f"https://huggingface.co/datasets/{source.repo_id}"
    card: Any = info.card_data or {}
    license_id, name, link = card.get("license"), card.get("license_name"), card.get("license_link")
    return Terms(
        title=source.repo_id,
        homepage=page,
        license=license_id if isinstance(license_id, str) and _LICENSE.fullmatch(license_id) else "unknown",
        license_name=name if isinstance(name, str) and _LICENSE.fullmatch(name) else None,
        license_link=link if isinstance(link, str) and _LINK.fullmatch(link) else page,
        credentialed=restricted,
        citation=f"The dataset {source.repo_id} on the Hugging Face Hub, at commit {source.sha}.",
    )


def manifest_of(source: HubSource) -> ShardsManifest | None:
    """The manifest of shards of this project; None where the dataset is another.

    Raises:
        ChexError: the Hub does not answer.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import RemoteEntryNotFoundError

    def fetched() -> str | None:
        try:
            return hf_hub_download(source.repo_id, "manifest.json", repo_type="dataset", revision=source.sha)
        except RemoteEntryNotFoundError:
            return None

    path = call_hub(fetched, "fetching manifest.json", source.reference, "dataset")
    try:
        return None if path is None else ShardsManifest.model_validate_json(read_file(Path(path)))
    except ValidationError:
        return None  # another project's
