"""PadChest as shards."""

from __future__ import annotations

import csv
import io
import math
from pathlib import Path

import pytest

from chexvision.errors import UsageError
from chexvision.labels import NIH
from chexvision.shards.build import build_shards
from tests.releases.built import OPTIONS
from tests.releases.conftest import IMAGES, Get, manifest_of


def test_padchest_numbers_patients_and_keeps_other_findings(release: Get) -> None:
    on_disk = release("padchest")
    assert on_disk.build() == 0
    rows, manifest = on_disk.rows(), manifest_of(on_disk)
    assert manifest.label_space.findings == (*NIH.findings, "Fracture", "Other Finding")
    seen = set()
    for cells in csv.DictReader(io.StringIO(on_disk.text("PADCHEST"), newline="")):
        seen |= {cells["Labels"], cells["Projection"], cells["PatientSex_DICOM"]}
        if cells["Projection"] not in ("PA", "AP", "AP_horizontal"):
            assert cells["ImageID"] not in rows
            continue
        row = rows[cells["ImageID"]]
        born = cells["PatientBirth"]
        assert row["age"] == (int(cells["StudyDate_DICOM"][:4]) - int(float(born)) if born else None)
        assert row["sex"] == {"M": "M", "F": "F"}.get(cells["PatientSex_DICOM"])
        assert row["view"] == cells["Projection"].split("_")[0]
        known = manifest.label_space.values(row["labels"], row["uncertain"], row["unknown"])
        values = dict(zip(manifest.label_space.findings, known, strict=True))
        if cells["Labels"] in ("", "nan", "['']", "['unchanged']", "['exclude']"):
            assert all(math.isnan(value) for value in values.values()), cells["Labels"]
        else:
            assert (values["Other Finding"] == 1) == ("scoliosis" in cells["Labels"])
            assert (values["Effusion"] == 1) == ("pleural effusion" in cells["Labels"])
            assert not any(math.isnan(value) for name, value in values.items() if name not in ("Infiltration",))
    assert {"['normal']", "['', 'scoliosis']", "nan", "['']", "UNK", "COSTAL", "EXCLUDE", "O"} <= seen
    assert any("' normal'" in labels for labels in seen) and any("-4_hhi" in name for name in rows)
    assert manifest.split.name == "patient"
    patients = [row["patient_id"] for row in rows.values()]
    assert max(patients) <= IMAGES
    for path in (path for path in (on_disk.root / "out").rglob("*") if path.is_file()):
        assert b"3000000010" not in path.read_bytes()


def test_a_folder_below_home_is_not_replaced(release: Get, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Shells leave the ~ of --out=~/out as it is."""
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.docx").touch()
    with pytest.raises(UsageError, match="not empty and holds no shards"):
        build_shards([release("padchest").images], None, Path("~/out"), OPTIONS(dataset="padchest"))
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["thesis.docx"]
