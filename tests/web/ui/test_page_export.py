"""What a reader takes away: JSON and a printed report."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, expect

from chexvision.images.reading import read_radiograph
from chexvision.runtime.export_info import INFO, MODEL
from tests.web.image_files import PATIENT, dicom
from tests.web.ui.finding_model import THRESHOLDS, compute
from tests.web.ui.reader import Reader, reader_of, some_image

FILE = dicom(some_image(), 8)
NAME = "Doe_Jane_4711.dcm"


@pytest.fixture(scope="module")
def answered(browser: Browser, url: str) -> Iterator[Reader]:
    with reader_of(browser, url) as reader:
        reader.drop((NAME, FILE))
        reader.wait_for_answer(NAME)
        yield reader


def saved(reader: Reader) -> dict[str, Any]:
    with reader.page.expect_download() as download:
        reader.page.get_by_role("button", name="as JSON").click()
    assert download.value.suggested_filename == "chexvision.json"
    content: dict[str, Any] = json.loads(Path(download.value.path()).read_text(encoding="utf-8"))
    return content


def test_the_json_has_what_python_computes_and_no_patient(answered: Reader, model: Path) -> None:
    content = saved(answered)
    radiograph = read_radiograph(FILE)
    expected = compute(model, radiograph.pixels).probabilities
    info = json.loads((model / INFO).read_text())
    [row] = content["answers"]
    assert row["status"] == "ok"
    assert row["probabilities"] == pytest.approx(expected, abs=1e-5)
    assert row["thresholds"] == THRESHOLDS
    assert row["calls"] == {name: expected[name] >= limit for name, limit in THRESHOLDS.items()}
    assert row["notes"] == list(radiograph.notes)
    assert row["sha256"] == hashlib.sha256(FILE).hexdigest()
    assert row["model"] == {
        "model": "small",
        "revision": None,
        "run_id": info["run_id"],
        "synthetic": True,
        "calibrated": True,
        "rule": info["rule"],
        "sha256": info["files"][MODEL]["sha256"],
    }
    assert "research" in content["notice"]
    text = json.dumps(content)
    assert not [value for value in (*PATIENT.values(), NAME) if value in text]


def test_the_json_names_files_when_the_reader_wants_it(answered: Reader) -> None:
    answered.page.get_by_label("Include file names").check()
    assert [row["image"] for row in saved(answered)["answers"]] == [NAME]
    answered.page.get_by_label("Include file names").uncheck()
    assert [row["image"] for row in saved(answered)["answers"]] == [None]


def test_a_report_is_printed_instead_of_the_page(answered: Reader) -> None:
    page = answered.page
    page.locator("[data-finding=Effusion]").click()
    page.emulate_media(media="print")
    report = page.locator(".report")
    expect(report).to_be_visible()
    for part in (".top", ".left", ".right", ".details", ".more", ".chooser", "footer"):
        expect(page.locator(part).first).to_be_hidden()
    expect(report).to_contain_text("not a medical device")
    expect(report).to_contain_text("trained on synthetic images")
    expect(report).not_to_contain_text(NAME)
    expect(report.locator("tbody tr")).to_have_count(7)
    expect(report.locator("tbody tr").first).to_contain_text("Abnormal")
    expect(report.locator("figcaption").last).to_contain_text("Effusion: strongest at")
    covered = report.locator(".overlay").evaluate(
        "c => c.getContext('2d').getImageData(0, 0, c.width, c.height).data.some(Boolean)"
    )
    assert covered
    assert page.pdf(format="A4").count(b"/Type /Page\n") == 1
    page.emulate_media(media="screen")
    expect(report).to_be_hidden()
