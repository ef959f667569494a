from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from chexvision.cli import main
from chexvision.errors import ChexError
from chexvision.labels import NIH
from chexvision.report.dataset_charts import write_plots
from chexvision.shards.columns import folder_place
from chexvision.shards.info import describe

NAMES = {"prevalence", "co-occurrence", "age", "sex", "view", "labels-per-image", "images-per-patient"}


def _texts(path: Path) -> list[str]:
    return [element.text or "" for element in ET.parse(path).iter() if element.tag.endswith("}text")]


def _shards(folder: Path, labels: list[str], **columns: list[object]) -> Path:
    folder.mkdir()
    names = [f"{i:08d}_000.png" for i in range(len(labels))]
    images = pa.array([b""] * len(labels), pa.binary())
    names_of = pa.array(names, pa.string())
    table = pa.table({"image": images, "filename": names_of, "labels": pa.array(labels, pa.string()), **columns})
    pq.write_table(table, folder / "test-00000-of-00001.parquet")
    return folder


def test_the_plots_show_what_info_counts(synthetic_shards: Path, tmp_path: Path) -> None:
    place = folder_place(synthetic_shards)
    paths = write_plots(place, tmp_path)
    assert {path.stem for path in paths} == NAMES
    counted = describe(place).splits
    shown = _texts(tmp_path / "prevalence.svg")
    for finding in NIH.findings:
        at = shown.index(finding)
        shares = [f"{100 * split.findings[finding] / split.images:.1f} %" for split in counted.values()]
        assert [text if text != "0" else "0.0 %" for text in shown[at + 1 : at + 4]] == shares
    views = _texts(tmp_path / "view.svg")
    at = views.index("PA")
    assert views[at + 1 : at + 4] == [f"{100 * s.views['PA'] / s.images:.1f} %" for s in counted.values()]


def test_co_occurrence_is_a_share_of_the_rows_finding(tmp_path: Path) -> None:
    folder = _shards(tmp_path / "shards", ["Mass|Nodule", "Mass", "Mass", "Mass", "No Finding"])
    write_plots(folder_place(folder), tmp_path)
    titles = re.findall(r"<title>(.*?)</title>", (tmp_path / "co-occurrence.svg").read_text())
    assert titles == ["Nodule in 25.0% of Mass (1 images)", "Mass in 100.0% of Nodule (1 images)"]


def test_shards_without_metadata_are_shown_as_unknown(tmp_path: Path) -> None:
    folder = _shards(tmp_path / "shards", ["Mass", "No Finding"])
    write_plots(folder_place(folder), tmp_path)
    for name in ("age", "sex", "view"):
        texts = _texts(tmp_path / f"{name}.svg")
        assert texts[texts.index("unknown") + 1] == "100.0 %"


def test_images_per_patient_counts_patients(tmp_path: Path) -> None:
    folder = _shards(tmp_path / "shards", ["Mass"] * 5, patient_id=[1, 1, 1, 2, 3])
    write_plots(folder_place(folder), tmp_path)
    texts = _texts(tmp_path / "images-per-patient.svg")
    shares = {row: texts[texts.index(row) + 1] for row in ("1", "2", "3–5", "6–10", "21+")}
    assert shares == {"1": "66.7 %", "2": "0", "3–5": "33.3 %", "6–10": "0", "21+": "0"}


def test_equal_shards_give_equal_files_that_follow_the_color_scheme(synthetic_shards: Path, tmp_path: Path) -> None:
    first, second = (write_plots(folder_place(synthetic_shards), tmp_path / name) for name in "ab")
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
    assert all("prefers-color-scheme:dark" in path.read_text() for path in first)
    assert all(not re.search(r"(href|url\(|<script)", path.read_text()) for path in first)


def test_empty_shards_and_unknown_labels_are_reported(tmp_path: Path) -> None:
    empty = _shards(tmp_path / "empty", [])
    with pytest.raises(ChexError, match="has no rows"):
        write_plots(folder_place(empty), tmp_path / "out")
    wrong = _shards(tmp_path / "wrong", ["Mas"])
    with pytest.raises(ChexError, match="unknown finding 'Mas'"):
        write_plots(folder_place(wrong), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_info_writes_plots_and_still_prints_its_table(
    synthetic_shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["shards", "info", str(synthetic_shards), "--plots", str(tmp_path / "plots")])
    assert exit_.value.code == 0
    printed = capsys.readouterr().out
    assert "patients" in printed and str(tmp_path / "plots" / "age.svg") in printed
    assert Counter(path.suffix for path in (tmp_path / "plots").iterdir()) == {".svg": len(NAMES)}
