"""CheXpert-v1.0 and -small: `train.csv`, `valid.csv`, `test.csv`, and a folder of each patient and study."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from chexvision.errors import UsageError
from chexvision.foreign import printable
from chexvision.label_maps.label_map import LabelMap, label_map_path, read_label_map
from chexvision.label_maps.labeled_images import SEXES, years
from chexvision.labels import LabelSpace
from chexvision.releases.image_entry import entry_of
from chexvision.releases.located import LATERAL, Listed, assign, locate, table_beside, table_of, why_left_out
from chexvision.releases.release import Reading, Release, Views
from chexvision.releases.report_labels import labeled_rows
from chexvision.releases.terms import Terms

CHEXPERT_TERMS = Terms(
    title="CheXpert",
    homepage="https://stanfordmlgroup.github.io/competitions/chexpert/",
    license="other",
    license_name="stanford-university-dataset-research-use-agreement",
    license_link="https://stanfordaimi.azurewebsites.net/datasets/8cbd9ed4-2eb9-4565-affc-111cf4f7ebe2",
    credentialed=True,
    citation=(
        "Jeremy Irvin, Pranav Rajpurkar, Michael Ko, et al. CheXpert: A Large Chest Radiograph Dataset with "
        "Uncertainty Labels and Expert Comparison. AAAI 2019, pp. 590–597."
    ),
)
# The last names are those of CheXlocalize, which has the radiologists' labels of the validation and test images.
_TRAIN = ("train.csv",)
_VALID = ("valid.csv", "val.csv", "val_labels.csv")
_TEST = ("test.csv", "test_labels.csv")
_PATH = re.compile(
    r"(?:.*/)?(patient(\d{1,9})/study(\d{1,6})/view\d{1,3}_(frontal|lateral))\.[a-z]{3,4}", re.A | re.I
)
_OTHERS = ("Sex", "Age", "AP/PA")  # the test table has none of them
# AP/PA is blank for laterals. 17 images of train.csv that are named frontal have LL or RL there: left out, as
# TorchXRayVision does.
_VIEWS = {"AP": "AP", "PA": "PA"}


def read_chexpert(reading: Reading) -> Release:
    """Read CheXpert in any of its layouts; images are found by patient, study and view.

    The split is that of the three tables. Without `test.csv`, as most have it, `valid.csv` is the test split (its 200
    studies are labeled by radiologists), and validation comes from the training patients.

    Raises:
        UsageError: a table is missing or not valid, or the images are not there.
        ChexError: an archive is damaged.
    """
    label_map = read_label_map("chexpert")
    space = label_map.label_space
    train = table_of(reading, _TRAIN)
    valid, test = table_beside(train, _VALID), table_beside(train, _TEST)
    held_out = "test" if test is None else "validation"
    tables = [(train, "train"), (valid, held_out), (test, "test")]
    listed: dict[str, Listed] = {}
    splits: dict[int, str] = {}
    for table, split in tables:
        if table is not None:
            for key, row in _read_table(table, label_map, space, reading.views):
                if key in listed:
                    raise UsageError(f"{row.where} names {row.image} again, first in {listed[key].where}")
                listed[key] = row
                assign(splits, row.entry.patient_id, split, row.where)
    located = locate(reading, listed, _key, _name)
    used = tuple(table for table, _ in tables if table is not None)
    return Release(
        space=space,
        index=located.index,
        entries=located.entries,
        tables=(*used, label_map_path("chexpert")),
        splits=splits if len(used) > 1 else None,
        split_tables=used,
        without_validation=test is None or valid is None,
        missing=located.missing,
        left_out=located.left_out,
    )


def _read_table(table: Path, label_map: LabelMap, space: LabelSpace, views: Views) -> Iterator[tuple[str, Listed]]:
    """The images of a table, each with its key."""
    for row, values in labeled_rows(table, label_map, ["Path"], _OTHERS):
        image = row.cells["Path"]
        match = _PATH.fullmatch(image)
        if match is None or ".." in PurePosixPath(image).parts:
            raise UsageError(
                f"{row.where}: {printable(image)!r} is not a path such as train/patient00001/study1/view1_frontal.jpg"
            )
        frontal = match[4] == "frontal"
        seen = row.cells.get("AP/PA", "")
        view = _VIEWS.get(seen) if frontal else LATERAL
        entry = entry_of(
            space,
            values,
            int(match[2]),
            study_id=int(match[3]),
            age=years(row.cells.get("Age", ""), row.where) or None,  # 0 of 3 rows; everybody else is 18 or older
            sex=SEXES.get(row.cells.get("Sex", "").casefold()),
            view=view,
        )
        yield match[1], Listed(row.where, image, entry, why_left_out(view, frontal=frontal and not seen, views=views))


def _key(member: str) -> str:
    match = _PATH.fullmatch(member)
    return "" if match is None else match[1]


def _name(member: str) -> str:
    return "__".join(PurePosixPath(member).parts[-3:])
