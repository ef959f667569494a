"""Splits: public lists, tables, random patients, or the split of the shards."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chexvision.data.rows import Rows, divide, record_split
from chexvision.errors import ChexError, UsageError
from chexvision.labels import NIH, LabelSpace
from chexvision.nih.patients import PATIENTS, release
from chexvision.recipes import load_recipe
from chexvision.shards.manifest import Dataset, Manifest, Source, SplitRule
from chexvision.shards.split import official_split
from chexvision.shards.split_rule import SHARDS, SplitChoice

OFFICIAL = SplitChoice("official", 0.05)
CHEXNET = SplitChoice("chexnet")


def rows_of(names: list[str], patients: list[int] | None = None) -> Rows:
    numbers = [int(name[:8]) for name in names] if patients is None else patients
    return Rows(
        np.array(names),
        np.zeros((len(names), 14), np.float32),
        np.array(numbers, np.int64),
        np.zeros(len(names), np.int32),
        np.arange(len(names), dtype=np.int64),
    )


def as_train(rows: Rows) -> np.ndarray[tuple[int], np.dtype[np.str_]]:
    return np.full(len(rows), "train")


@settings(max_examples=25)
@given(st.sets(st.integers(1, PATIENTS), min_size=1, max_size=200), st.sampled_from([OFFICIAL, CHEXNET]))
def test_a_public_split_does_not_depend_on_who_built_the_shards(patients: set[int], choice: SplitChoice) -> None:
    rows = rows_of(list(release().filenames(patients)))
    found = divide(rows, as_train(rows), choice)
    table = official_split(0.05) if choice.rule == "official" else release().chexnet
    for split, part in found.items():
        assert {table[patient] for patient in part.patients.tolist()} <= {split}
    assert sum(map(len, found.values())) == len(rows)


def test_a_public_split_uses_file_names_not_custom_patient_ids() -> None:
    names = list(release().filenames([1, 2, min(release().official_test)]))
    rows = rows_of(names, patients=[int(name[:8]) + 7_000 for name in names])
    named = rows_of(names)
    for split, part in divide(rows, as_train(rows), OFFICIAL).items():
        assert part.filenames.tolist() == divide(named, as_train(named), OFFICIAL)[split].filenames.tolist()
    one_patient = rows_of(names, patients=[5] * len(names))
    with pytest.raises(ChexError, match="the column patient_id contradicts the file names"):
        divide(one_patient, as_train(one_patient), OFFICIAL)


@pytest.mark.parametrize("choice", [OFFICIAL, CHEXNET])
@pytest.mark.parametrize("name", ["00000001_003.png", "00030806_000.png", "scan7.png"])
def test_images_outside_the_public_lists_get_an_error_naming_the_setting(choice: SplitChoice, name: str) -> None:
    rows = rows_of(["00000001_000.png", name], patients=[1, 2])
    with pytest.raises(UsageError) as error:
        divide(rows, as_train(rows), choice)
    said = str(error.value)
    assert said.startswith(f"split {choice} is a list of NIH ChestX-ray14, and {name} (1 of 2 images)")
    assert "data.split (or --split-rule) shards (as they are), patient or a patient_id,split table" in said


def manifest_of(kind: Literal["radiographs", "synthetic"], dataset: str | None, space: LabelSpace = NIH) -> Manifest:
    return Manifest(
        format=3,
        chexvision="0",
        source=Source(kind),
        split=SplitRule("patient", 0),
        size=64,
        encoding="png",
        splits={},
        shards=(),
        files=(),
        bad=(),
        label_space=space,
        dataset=Dataset(dataset, "frontal", None) if dataset is not None else None,
    )


OTHERS = [
    manifest_of("synthetic", None),
    manifest_of("radiographs", "chexpert"),
    manifest_of("radiographs", "chestmnist"),
    manifest_of("radiographs", "csv"),
    manifest_of("radiographs", None, LabelSpace(findings=("Covid",))),  # of a format that names no set
]


@pytest.mark.parametrize("manifest", OTHERS)
def test_images_outside_the_public_lists_keep_the_split_of_their_shards(manifest: Manifest) -> None:
    assert OFFICIAL.fitting(manifest) == SHARDS
    assert SplitChoice("patient").fitting(manifest) == SplitChoice("patient")


@pytest.mark.parametrize("manifest", [None, manifest_of("radiographs", "nih"), manifest_of("radiographs", None)])
def test_radiographs_of_nih_are_divided_by_its_list(manifest: Manifest | None) -> None:
    assert OFFICIAL.fitting(manifest) == OFFICIAL


def test_images_with_a_split_and_no_known_patients_are_not_divided_by_patient() -> None:
    unknown = Dataset("vindr", "frontal", None, knows_patients=False)
    divided = replace(OTHERS[1], dataset=unknown)
    assert SplitChoice("patient").fitting(divided) == SplitChoice("patient")  # as it was built
    with pytest.raises(UsageError, match=r"does not say which images are of one person.*shards"):
        SplitChoice("patient").fitting(replace(divided, split=SplitRule("official", 0)))


def test_synthetic_images_are_not_in_the_split_of_chexnet() -> None:
    with pytest.raises(UsageError, match="these images are synthetic"):
        CHEXNET.fitting(OTHERS[0])


def test_recipes_default_to_the_official_split_for_any_seed() -> None:
    for model in ("densenet", "scratch"):
        recipe = load_recipe(model, overrides=["training.seed=7"])
        assert SplitChoice.of(recipe.data) == OFFICIAL
    assert (
        SplitChoice.of(load_recipe("densenet", overrides=["data.validation_share=0.2"]).data).validation_share == 0.2
    )
    assert SplitChoice.of(load_recipe("densenet", overrides=["data.split=chexnet"]).data) == CHEXNET


def test_a_validation_share_other_than_the_default_is_shown() -> None:
    shown = [str(SplitChoice("official", share)) for share in (None, 0.05, 0.1, 0.125)]
    assert shown == ["official", "official", "official, validation 10 %", "official, validation 12.5 %"]


def test_a_table_may_name_more_patients_and_must_name_all(tmp_path: Path) -> None:
    table = tmp_path / "mine.csv"
    table.write_text("patient_id,split\n1,train\n2,val\n3,test\n99,train\n")
    rows = rows_of(["00000001_000.png", "00000002_000.png", "00000003_000.png"])
    choice = SplitChoice.parse(str(table))
    record = record_split(choice, divide(rows, as_train(rows), choice))
    assert (record.rule, record.table, str(record), len(record.table_sha256 or "")) == (
        "table", "mine.csv", "mine.csv", 64,
    )  # fmt: skip
    assert {name: (part.images, part.patients) for name, part in record.parts.items()} == {
        "train": (1, 1), "validation": (1, 1), "test": (1, 1),
    }  # fmt: skip
    table.write_text("patient_id,split\n1,train\n2,val\n")
    with pytest.raises(UsageError, match=r"does not name patient 3 \(1 in all are missing\)"):
        divide(rows, as_train(rows), choice)


def test_the_split_of_the_shards_is_refused_if_it_shares_patients() -> None:
    rows = rows_of([f"0000000{patient}_00{visit}.png" for patient in (1, 2) for visit in range(3)])
    own = np.array(["train", "train", "validation", "train", "train", "train"])
    with pytest.raises(ChexError) as error:
        divide(rows, own, SHARDS)
    said = str(error.value)
    assert said.startswith(
        "patient 1 is in both train and validation, one of 1 shared patients, who have 1 of the 1 validation images"
    )
    assert "data.split (or --split-rule) official, chexnet, patient or a table" in said
    assert "\n" not in said


@pytest.mark.parametrize(
    ("text", "message"),
    [("offical", "did you mean 'official'"), ("./official", "no such file"), ("mine.csv", "no such file")],
)
def test_a_split_that_is_neither_a_rule_nor_a_file_is_refused(
    text: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=message):
        SplitChoice.parse(text)
