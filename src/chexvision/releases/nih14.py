"""NIH ChestX-ray14: `Data_Entry_2017*.csv`, the image archives or folders, and the two public lists."""

from __future__ import annotations

from chexvision.images.sources import find_images
from chexvision.labels import NIH
from chexvision.nih.lists import find_official_lists, read_official_lists
from chexvision.nih.metadata import find_metadata, read_metadata
from chexvision.releases.release import Reading, Release
from chexvision.releases.terms import Terms

NIH_TERMS = Terms(
    title="NIH ChestX-ray14",
    homepage="https://nihcc.app.box.com/v/ChestXray-NIHCC",
    license="other",
    license_name="nih-clinical-center",
    license_link="https://nihcc.app.box.com/v/ChestXray-NIHCC",
    credentialed=False,
    citation=(
        "Xiaosong Wang, Yifan Peng, Le Lu, Zhiyong Lu, Mohammadhadi Bagheri, Ronald M. Summers. ChestX-ray8: "
        "Hospital-scale Chest X-ray Database and Benchmarks on Weakly-Supervised Classification and Localization of "
        "Common Thorax Diseases. IEEE CVPR 2017, pp. 3462–3471."
    ),
)


def read_nih(reading: Reading) -> Release:
    """Read NIH's release, which has frontal views only.

    Raises:
        UsageError: the metadata or a list is missing or not valid, or there are no images.
        ChexError: an archive is damaged.
    """
    images = list(reading.images)
    metadata = reading.metadata or find_metadata(images)
    entries = read_metadata(metadata)
    index = find_images(reading.sources)
    lists = find_official_lists(folder for place in (*images, metadata) for folder in (place, place.parent))
    return Release(
        space=NIH,
        index=index,
        entries=entries,
        tables=(metadata,),
        splits=read_official_lists(*lists) if lists else None,
        split_tables=lists or (),
        without_validation=True,
    )
