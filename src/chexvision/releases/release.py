"""What a release contains before any pixel is read: images, labels, patients, and its own split."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from chexvision.images.sources import Index, ListedContainer
from chexvision.labels import LabelSpace
from chexvision.nih.metadata import Entry
from chexvision.releases.terms import Terms as Terms
from chexvision.releases.terms import Views as Views


@dataclass(frozen=True, slots=True)
class Reading:
    """What to read.

    Args:
        dataset: a name of `chexvision.releases.sets.SETS`, after it ``:`` and what the set takes, such as
            ``hub:USER/NAME@SHA``.
        images: folders or archives.
        metadata: the release's table or the folder with its tables, or one's own table; None: it is looked for next
            to the images.
        label_map: see `chexvision.label_maps.label_map.read_label_map`; None for sets that come with one.
        views: "frontal" leaves lateral views out.
        remote: more images; the tables that are next to them are in a folder of `images`.
        size: side in pixels of the shards' images, if any are built; sets with smaller images refuse it.
    """

    dataset: str
    images: tuple[Path, ...] = ()
    metadata: Path | None = None
    label_map: str | None = None
    views: Views = "frontal"
    size: int | None = None
    remote: tuple[ListedContainer, ...] = ()

    @property
    def sources(self) -> tuple[Path | ListedContainer, ...]:
        """All places of images, for `find_images`."""
        return (*self.images, *self.remote)


@dataclass(frozen=True, slots=True)
class Release:
    """A release, as its metadata describes it.

    Args:
        space: the label set.
        index: the image files.
        entries: by the names of `index`.
        tables: the files that labels were read from, in a fixed order, the first names the source in the manifest;
            their hashes are recorded.
        splits: the split of each patient by the release's own lists; None where it has none.
        split_tables: the files that `splits` were read from, in a fixed order; the hashes are recorded.
        split_name: how the manifest names `splits`.
        without_validation: whether some of the patients of "train" become the validation that `splits` lacks.
        numbered: whether patients were numbered by the reader, so that a table of others cannot name them.
        missing: names of images that the tables list and that are not there, each with the reason.
        left_out: how many images are left out on purpose, by reason, such as ``lateral view``.
        knows_patients: whether it says which images are of one person. If not, every image counts as a patient, and
            only the release's own split may keep a person out of two splits.
        source_name: what the manifest names as the source, where that is no file.
        terms: where they are not those of the set: of a dataset on the Hub.
        synthetic: whether the images are synthetic, not taken of patients.
    """

    space: LabelSpace
    index: Index
    entries: dict[str, Entry]
    tables: tuple[Path, ...]
    splits: dict[int, str] | None = None
    split_tables: tuple[Path, ...] = ()
    split_name: str = "official"
    without_validation: bool = False
    numbered: bool = False
    missing: tuple[tuple[str, str], ...] = ()
    left_out: tuple[tuple[str, int], ...] = ()
    knows_patients: bool = True
    source_name: str | None = None
    terms: Terms | None = None
    synthetic: bool = False
