"""One's own images: a table of labels and the map that says what its columns mean."""

from __future__ import annotations

from chexvision.errors import UsageError
from chexvision.images.sources import find_images, flat_name
from chexvision.label_maps.label_map import label_map_path, read_label_map
from chexvision.label_maps.labeled_images import read_labeled_images
from chexvision.releases.image_entry import entry_of, only, without_folder
from chexvision.releases.located import without_laterals
from chexvision.releases.map_terms import terms_of_map
from chexvision.releases.release import Reading, Release


def read_own_table(reading: Reading) -> Release:
    """Read a table with its label map. Images that it does not name are left out.

    Raises:
        UsageError: the table or the map is missing or not valid, or none of its images is there.
        ChexError: an archive is damaged.
    """
    labels, label_map = reading.metadata, reading.label_map
    if labels is None or label_map is None:
        raise UsageError("your own labels need --labels CSV and --map MAP; chexvision labels template writes a map")
    read_map = read_label_map(label_map)
    space, listed = read_labeled_images(labels, read_map)
    listed, left_out = without_laterals(listed, reading.views, labels)
    by_path = any("/" in one.image for one in listed)
    named = {flat_name(one.image): one for one in listed}
    if len(named) < len(listed):
        raise UsageError(f"{labels} names two images whose paths differ only in / and __; rename one")
    index = find_images(reading.sources, by_path=by_path)
    names = {found.name for found in index.images}
    missing = tuple(
        (name, f"not found ({without_folder(one.where)})") for name, one in named.items() if name not in names
    )
    if len(missing) == len(named):
        places = ", ".join(map(str, reading.remote or reading.images))
        raise UsageError(
            f"none of the {len(named):,} images of {labels} is in {places}, first {listed[0].image}; "
            "name the folder that its paths start from, or their ending with suffix: in the map"
        )
    splits = {one.patient: one.split for one in listed if one.split is not None}
    return Release(
        space=space,
        index=only(index, named),
        entries={
            name: entry_of(space, one.values, one.patient, age=one.age, sex=one.sex, view=one.view)
            for name, one in named.items()
        },
        tables=(labels, label_map_path(label_map)),
        splits=splits or None,
        split_tables=(labels,) if splits else (),
        split_name=labels.name,
        numbered=True,
        knows_patients=read_map.names_patients,
        missing=missing,
        left_out=left_out,
        terms=terms_of_map(read_map),
    )
