"""Under which terms a dataset is used, as manifests record it; needs the standard library only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

Views: TypeAlias = Literal["frontal", "all"]


@dataclass(frozen=True, slots=True)
class Terms:
    """Under which terms a dataset is used.

    Args:
        title: the dataset's name in texts, such as ``CheXpert``.
        homepage: where it is requested or downloaded.
        license: an identifier of the Hub, such as ``cc-by-4.0``, or ``other``.
        license_name: with ``other``: a short name.
        license_link: the text of the terms.
        credentialed: whether only people who signed an agreement may have it: its shards are pushed to private
            datasets alone.
        citation: authors, title, venue.
    """

    title: str
    homepage: str
    license: str
    license_name: str | None
    license_link: str
    credentialed: bool
    citation: str
