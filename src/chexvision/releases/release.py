"""What a release contains before any pixel is read: images, labels, patients, its own split, and its terms."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from chexvision.images.sources import Index
from chexvision.labels import LabelSpace
from chexvision.nih.metadata import Entry


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


@dataclass(frozen=True, slots=True)
class Release:
    """A release, as its metadata describes it.

    Args:
        space: the label set.
        index: the image files.
        entries: by the names of `index`.
        tables: the files that labels and splits were read from, in a fixed order; their hashes are recorded.
        splits: the split of each patient by the release's own lists; None where it has none.
        missing: names of images that the tables list and that are not there, each with the reason.
        left_out: how many images of the tables are left out on purpose, by reason, such as ``lateral``.
    """

    space: LabelSpace
    index: Index
    entries: dict[str, Entry]
    tables: tuple[Path, ...]
    splits: dict[int, str] | None = None
    missing: tuple[tuple[str, str], ...] = ()
    left_out: tuple[tuple[str, int], ...] = ()
