"""The sets that shards are built from, by name: how each is read, and its terms."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from chexvision.errors import UsageError
from chexvision.releases.chestmnist import CHESTMNIST_TERMS, read_chestmnist
from chexvision.releases.chexpert import CHEXPERT_TERMS, read_chexpert
from chexvision.releases.from_hub.hub_card import terms_of
from chexvision.releases.from_hub.hub_dataset import read_hub
from chexvision.releases.from_hub.hub_stream import HubSource
from chexvision.releases.mimic import MIMIC_TERMS, read_mimic
from chexvision.releases.nih14 import NIH_TERMS, read_nih
from chexvision.releases.own_table import read_own_table
from chexvision.releases.padchest import PADCHEST_TERMS, read_padchest
from chexvision.releases.release import Reading, Release
from chexvision.releases.terms import Terms
from chexvision.releases.vindr import VINDR_TERMS, read_vindr


@dataclass(frozen=True, slots=True)
class ReleaseSet:
    """A set that can be read.

    Args:
        read: raises UsageError where the release is not there or not valid, ChexError where an archive is damaged.
        terms: None of one's own images.
        no_split: why the set has no split of its own, or what it needs for it; for messages.
        takes: what follows its name after ``:``, such as ``USER/NAME@SHA``; None for nothing.
        needs_images: whether folders of images are to be named.
        takes_map: whether its labels need a label map.
    """

    read: Callable[[Reading], Release]
    terms: Terms | None
    no_split: str
    takes: str | None = None
    needs_images: bool = True
    takes_map: bool = False


SETS: dict[str, ReleaseSet] = {
    "nih": ReleaseSet(
        read_nih,
        NIH_TERMS,
        "needs train_val_list.txt and test_list.txt next to the images; put them there or choose --split patient",
    ),
    "chexpert": ReleaseSet(
        read_chexpert, CHEXPERT_TERMS, "needs valid.csv or test.csv next to train.csv; or choose --split patient"
    ),
    "mimic": ReleaseSet(
        read_mimic, MIMIC_TERMS, "needs mimic-cxr-2.0.0-split.csv next to the labels; or choose --split patient"
    ),
    "padchest": ReleaseSet(read_padchest, PADCHEST_TERMS, "is of releases with a split; choose --split patient"),
    "vindr": ReleaseSet(read_vindr, VINDR_TERMS, "is its own: there is always one"),
    "chestmnist": ReleaseSet(read_chestmnist, CHESTMNIST_TERMS, "is its own: there is always one"),
    "hub": ReleaseSet(
        read_hub,
        None,
        "needs several splits in the dataset, or a column with them: name it with split: in the label map",
        takes="USER/NAME@SHA",
        needs_images=False,
        takes_map=True,
    ),
    "csv": ReleaseSet(
        read_own_table,
        None,
        "needs a column with train, validation and test: name it with split: in the label map",
        takes_map=True,
    ),
}


def set_of(dataset: str) -> ReleaseSet:
    """The set that a name such as ``nih`` or ``hub:USER/NAME@SHA`` stands for.

    Raises:
        UsageError: there is none.
    """
    name, _, rest = dataset.partition(":")
    found = SETS.get(name)
    if found is None or bool(rest) != (found.takes is not None):
        raise UsageError(f"--set {dataset!r} is none of {', '.join(usage_of(each) for each in SETS)}")
    return found


def terms_of_set(dataset: str) -> Terms | None:
    """The terms of a set before it is read; the Hub is asked for those of a dataset there.

    Raises:
        UsageError: there is no such set, or a dataset on the Hub is not named with a commit.
        ChexError: the Hub does not have it, or does not answer.
    """
    chosen = set_of(dataset)
    return chosen.terms if chosen.takes is None else terms_of(HubSource.parse(dataset.partition(":")[2]))


def usage_of(name: str) -> str:
    """How a set is named on the command line, with what it takes."""
    takes = SETS[name].takes
    return name if takes is None else f"{name}:{takes}"


def read_release(reading: Reading) -> Release:
    """Read the metadata of a release and list its images.

    Raises:
        UsageError: an input is missing or not valid.
        ChexError: an archive is damaged.
    """
    return set_of(reading.dataset).read(reading)
