"""External labels: each included map reads a table as published; unknown is not negative."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from chexvision.errors import UsageError
from chexvision.evaluation.external import for_other_labels, measure_other, own_labels
from chexvision.evaluation.outcome import Options
from chexvision.label_maps.label_map import INCLUDED, read_label_map
from chexvision.label_maps.other_labels import OtherLabels, read_other_labels
from chexvision.labels import NIH, LabelSpace
from tests.evaluation.conftest import METHOD, random_predictions

NAN = float("nan")


def _read(path: Path, name: str) -> dict[str, dict[str, float]]:
    """The labels of a table, by image and target; unknown ones are left out."""
    found = read_other_labels(path, read_label_map(name))
    return {
        image: {target: value for target, value in zip(found.names, row, strict=True) if not np.isnan(value)}
        for image, row in zip(found.filenames.tolist(), found.targets.tolist(), strict=True)
    }


@pytest.mark.parametrize("name", INCLUDED)
def test_included_maps_are_complete(name: str) -> None:
    label_map = read_label_map(name)
    assert label_map.targets


def test_chexpert(tmp_path: Path) -> None:
    heads = (
        "Path,Sex,Age,Frontal/Lateral,AP/PA,No Finding,Enlarged Cardiomediastinum,Cardiomegaly,Lung Opacity,"
        "Lung Lesion,Edema,Consolidation,Pneumonia,Atelectasis,Pneumothorax,Pleural Effusion,Pleural Other,Fracture,"
        "Support Devices"
    )
    start = "CheXpert-v1.0-small/train/"
    (tmp_path / "train.csv").write_text(
        f"{heads}\n"
        f"{start}patient00001/study1/view1_frontal.jpg,F,68,Frontal,AP,1.0,,,,,,,,,0.0,,,,1.0\n"
        f"{start}patient00002/study2/view1_frontal.jpg,F,87,Frontal,AP,,,-1.0,1.0,,-1.0,-1.0,,-1.0,,1.0,,1.0,\n"
        f"{start}patient00002/study1/view2_lateral.jpg,F,83,Lateral,,,,,1.0,,,-1.0,,,,,,1.0,\n"
        f"{start}patient00003/study1/view1_frontal.jpg,M,41,Frontal,AP,,,,,,1.0,,,,0.0,,,,\n"
    )
    found = _read(tmp_path / "train.csv", "chexpert")
    assert len(found) == 3
    normal, second, third = found.values()
    assert set(normal.values()) == {0.0}
    assert len(normal) == 13
    assert second == {"Effusion": 1.0, "Lung Opacity": 1.0, "Fracture": 1.0, "Abnormal": 1.0}
    assert third == {"Edema": 1.0, "Pneumothorax": 0.0, "Abnormal": 1.0}
    patients = read_other_labels(tmp_path / "train.csv", read_label_map("chexpert")).patients
    assert len(np.unique(patients)) == 3


def test_mimic(tmp_path: Path) -> None:
    (tmp_path / "mimic-cxr-2.0.0-chexpert.csv").write_text(
        "subject_id,study_id,Atelectasis,Cardiomegaly,Consolidation,Edema,Enlarged Cardiomediastinum,Fracture,"
        "Lung Lesion,Lung Opacity,No Finding,Pleural Effusion,Pleural Other,Pneumonia,Pneumothorax,Support Devices\n"
        "10000032,50414267,,,,,,,,,1.0,,,,,\n"
        "10000980,50985099,-1.0,1.0,,,,,,,,0.0,,,,\n"
    )
    with pytest.raises(UsageError, match=r"needs mimic-cxr-2.0.0-metadata.csv next to"):
        _read(tmp_path / "mimic-cxr-2.0.0-chexpert.csv", "mimic")
    metadata = (
        "dicom_id,subject_id,study_id,ViewPosition\n"
        "02aa804e,10000032,50414267,PA\n174413ec,10000032,50414267,LATERAL\n6ad03ed1,10000980,50985099,AP\n"
    )
    (tmp_path / "mimic-cxr-2.0.0-metadata.csv.gz").write_bytes(gzip.compress(metadata.encode()))
    found = _read(tmp_path / "mimic-cxr-2.0.0-chexpert.csv", "mimic")
    assert list(found) == ["p10/p10000032/s50414267/02aa804e.jpg", "p10/p10000980/s50985099/6ad03ed1.jpg"]
    assert found["p10/p10000032/s50414267/02aa804e.jpg"]["Abnormal"] == 0
    assert found["p10/p10000980/s50985099/6ad03ed1.jpg"] == {"Cardiomegaly": 1.0, "Effusion": 0.0, "Abnormal": 1.0}


def test_padchest(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text(
        ",ImageID,PatientID,Projection,Labels\n"
        "0,a.png,8,PA,\"['pleural effusion', 'laminar atelectasis', 'scoliosis']\"\n"
        "1,b.png,9,AP_horizontal,['normal']\n"
        "2,c.png,9,L,['normal']\n"
        "3,d.png,10,PA,\"['unchanged', 'cardiomegaly']\"\n"
        "4,e.png,11,PA,['scoliosis']\n"
    )
    found = _read(tmp_path / "labels.csv", "padchest")
    assert list(found) == ["a.png", "b.png", "d.png", "e.png"]
    assert len(found["a.png"]) == 16
    assert {target for target, value in found["a.png"].items() if value} == {"Atelectasis", "Effusion", "Abnormal"}
    assert set(found["b.png"].values()) == {0.0}
    assert found["d.png"] == {"Cardiomegaly": 1.0}
    assert {target for target, value in found["e.png"].items() if value} == {"Abnormal"}


def test_vindr_takes_the_majority_of_its_readers(tmp_path: Path) -> None:
    targets = [label for target in read_label_map("vindr").targets.values() for label in target.any_of]
    rows = [",".join(["image_id", "rad_id", *targets, "No finding"])]
    for reader, effusion in (("R1", 1), ("R2", 1), ("R3", 0)):
        values = [str(int(label == "Pleural effusion" and effusion)) for label in targets]
        rows.append(",".join(["abc", reader, *values, str(1 - effusion)]))
    (tmp_path / "image_labels_train.csv").write_text("\n".join(rows))
    found = _read(tmp_path / "image_labels_train.csv", "vindr")
    assert list(found) == ["abc.png"]
    assert found["abc.png"]["Effusion"] == 1
    assert found["abc.png"]["Edema"] == 0
    assert found["abc.png"]["Abnormal"] == 1


def test_the_radiologists_labels_of_the_real_release(real_data: Path) -> None:
    found = read_other_labels(real_data / "google2019_nih-chest-xray-labels.csv.gz", read_label_map("google2019"))
    assert len(found.filenames) == 4_376
    assert found.names == ("Pneumothorax", "Nodule or mass", "Airspace opacity")
    assert found.findings[1] == ("Nodule", "Mass")
    assert not np.isnan(found.targets).any()
    assert (found.targets.sum(axis=0) > 50).all()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Path,Frontal/Lateral\na.png,Frontal\n", "has no column"),
        ("", "has no rows"),
    ],
)
def test_tables_of_another_form_are_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(UsageError, match=message):
        _read(tmp_path / "t.csv", "chexpert")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: x\nform: list\nimage: [i]\ntargets: {A: {any_of: [a]}}\n", "form: list needs labels"),
        ("name: x\nform: columns\nimage: [i]\ntargets: {}\n", "targets: .*at least 1 item"),
        ("name: x\nform: columns\nimage: [i]\npositive: [yes]\ntargets: {A: {any_of: [a]}}\n", "need quotes"),
        (
            "name: x\nform: columns\nimage: [i]\nnegative: [1]\ntargets: {A: {any_of: [a]}}\n",
            "'1' is both",
        ),
        ("name: x\nform: columns\nimage: [i]\ntarget: {}\n", "targets: Field required"),
        ("[", "cannot be read"),
    ],
)
def test_bad_label_maps_are_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "map.yaml"
    path.write_text(text)
    with pytest.raises(UsageError, match=message):
        read_label_map(str(path))


def test_targets_that_a_model_does_not_predict_are_left_out() -> None:
    space = LabelSpace(findings=("Edema", "Nodule", "Fracture"))
    label_map = read_label_map("vindr")
    kept, lacking = label_map.for_model(space)
    assert list(kept.targets) == ["Edema"]  # "Nodule or mass" needs both
    assert "Nodule or mass" in lacking and len(lacking) == len(label_map.targets) - 1
    with pytest.raises(UsageError, match=r"none of the targets of .* VinDr-CXR is a finding of the model \(Wires\)"):
        label_map.for_model(LabelSpace(findings=("Wires",)))


def test_an_evaluation_notes_the_targets_that_it_leaves_out() -> None:
    options = Options(external=(Path("t.csv"), Path(), "vindr", read_label_map("vindr")))
    changed, notes = options.for_label_space(LabelSpace(findings=("Edema", "Atelectasis")), NIH)
    assert changed.external is not None and list(changed.external[-1].targets) == ["Atelectasis", "Edema"]
    assert len(notes) == 1 and notes[0].startswith(
        "targets of VinDr-CXR that the model does not predict: Cardiomegaly"
    )
    assert options.for_label_space(NIH, NIH) == (options, [])


def test_unknown_label_maps_are_named() -> None:
    with pytest.raises(UsageError, match="no label map 'chexpart'; included are chexpert"):
        read_label_map("chexpart")


def test_a_target_of_several_findings_takes_the_largest() -> None:
    predictions = random_predictions(50, 20)
    labels = OtherLabels(
        predictions.filenames,
        predictions.patients,
        np.zeros((50, 1)),
        ("Nodule or mass",),
        (("Nodule", "Mass"),),
    )
    both = predictions.probabilities[:, [predictions.column("Nodule"), predictions.column("Mass")]]
    np.testing.assert_array_equal(for_other_labels(predictions, labels).probabilities[:, 0], both.max(axis=1))
    ours = own_labels(predictions, labels).targets[:, 0]
    either = predictions.targets[:, [predictions.column("Nodule"), predictions.column("Mass")]].any(axis=1)
    np.testing.assert_array_equal(ours, either)


def test_the_gap_to_the_original_labels() -> None:
    here, there = (
        random_predictions(600, 200, 0, names=("Mass", "Nodule")),
        random_predictions(500, 200, 1, names=("Mass", "Nodule")),
    )
    rng = np.random.default_rng(0)
    there = there.with_probabilities(rng.random(there.probabilities.shape))
    there.targets[:200, 1] = np.nan
    found = measure_other("elsewhere", "map", there, here, METHOD)
    assert not found.same_images
    assert found.agreement == {}
    gap = found.gaps["Mass"]
    assert gap.here.value is not None
    assert gap.there.value is not None
    assert gap.difference.value == pytest.approx(gap.there.value - gap.here.value)
    assert gap.difference.interval is not None
    assert gap.difference.interval[1] < 0
    assert found.metrics.findings["Nodule"].unknown == 200
    assert found.macro.targets == ("Mass", "Nodule")


def test_the_same_images_under_other_labels_are_paired_and_compared() -> None:
    here = random_predictions(600, 200, names=("Mass",))
    targets = here.targets.copy()
    targets[np.flatnonzero(targets[:, 0] == 1)[:20], 0] = 0
    there = random_predictions(600, 200, names=("Mass",))
    there.targets[:] = targets
    found = measure_other("experts", "map", there, here, METHOD)
    assert found.same_images
    agreed = found.agreement["Mass"]
    assert agreed.sensitivity == 1
    assert agreed.precision == pytest.approx((here.targets.sum() - 20) / here.targets.sum())
    gap, alone = found.gaps["Mass"], found.metrics.findings["Mass"]["auroc"].interval
    assert gap.difference.interval is not None
    assert alone is not None
    assert gap.difference.interval[1] - gap.difference.interval[0] < alone[1] - alone[0]
