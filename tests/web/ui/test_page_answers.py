"""What a reader sees of an image: findings, numbers, maps, warnings, files that cannot be read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Browser, expect

from chexvision.explain.overlay import CONTOURS, blend, outlined
from chexvision.images.reading import read_radiograph
from tests.web.image_files import PATIENT, dicom, jpeg, png
from tests.web.ui.finding_model import BRIGHT, OUTPUTS, THRESHOLDS, WITHOUT_MAP, compute
from tests.web.ui.reader import DESKTOP, PHONE, Reader, Row, reader_of, some_image


@pytest.fixture(scope="module")
def answered(browser: Browser, url: str) -> Iterator[Reader]:
    """A page with the answer about one image, for tests that change only what is selected."""
    with reader_of(browser, url) as reader:
        reader.drop(("one.png", png(some_image())))
        reader.wait_for_answer("one.png")
        yield reader


@pytest.fixture(scope="module")
def used(browser: Browser, url: str) -> Iterator[Reader]:
    """A page on which tests read files of their own, one after the other."""
    with reader_of(browser, url) as reader:
        yield reader


def select(reader: Reader, finding: str) -> None:
    reader.page.locator(f"[data-finding={finding}]").click()
    expect(reader.page.locator(".detail h2")).to_contain_text(finding.replace("_", " "))


def test_dropped_images_are_answered_with_the_numbers_of_python(browser: Browser, url: str, model: Path) -> None:
    with reader_of(browser, url, PHONE) as reader:
        for name, data in {"one.png": png(some_image()), "two.jpg": jpeg(some_image(1))}.items():
            reader.drop((name, data))
            reader.wait_for_answer(name)
            check_rows(reader.rows(), compute(model, read_radiograph(data).pixels).probabilities)
        for width, height in (PHONE, DESKTOP):
            reader.page.set_viewport_size({"width": width, "height": height})
            assert reader.page.evaluate("document.documentElement.scrollWidth") <= width


def check_rows(rows: dict[str, Row], expected: dict[str, float]) -> None:
    assert {name: row.group for name, row in rows.items()} == {
        "Abnormal": "above",
        "Atelectasis": "above",
        "Cardiomegaly": "above",
        "Effusion": "near",
        "Nodule": "below",
        "Mass": "below",
        "Pleural_Thickening": "unknown",
    }
    assert list(rows) == [  # Abnormal, then groups, then probabilities
        *("Abnormal", "Atelectasis", "Cardiomegaly", "Effusion", "Nodule", "Mass", "Pleural_Thickening")
    ]
    for name in OUTPUTS:
        shown = float(rows[name].probability.removesuffix(" %")) / 100
        assert shown == pytest.approx(expected[name], abs=0.0006)
        limit = THRESHOLDS.get(name)
        assert rows[name].threshold == ("no threshold" if limit is None else f"≥ {100 * limit:.1f} %")


def test_the_same_image_as_dicom_is_answered_with_the_same_numbers(used: Reader) -> None:
    pixels = some_image()
    used.choose(("one.png", png(pixels)))
    used.wait_for_answer("one.png")
    expected = used.rows()
    used.choose(("two.dcm", dicom(pixels, 8)))
    used.wait_for_answer("two.dcm")
    assert used.rows() == expected
    shown = used.page.content()
    assert not [value for value in PATIENT.values() if value in shown]


def test_the_model_is_fetched_only_when_an_image_was_chosen(browser: Browser, url: str) -> None:
    with reader_of(browser, url) as reader:
        assert not [one for one in reader.requests if one.endswith(".onnx")]
        reader.drop(("one.png", png(some_image())))
        reader.wait_for_answer("one.png")
        reader.drop(("two.png", png(some_image(1))))
        reader.wait_for_answer("two.png")
        assert len([one for one in reader.requests if one.endswith(".onnx")]) == 1


def test_a_file_that_is_no_image_ends_in_a_sentence_and_the_others_are_answered(browser: Browser, url: str) -> None:
    cut, name = png(some_image())[:60], f"{'cut' * 50}.png"
    with reader_of(browser, url, PHONE) as reader:
        reader.drop((name, cut), ("text.txt", b"<script>alert(1)</script>"), ("one.png", png(some_image())))
        expect(reader.page.locator(".refused h2")).to_have_text(f"{name} could not be used")
        assert reader.page.evaluate("document.documentElement.scrollWidth") <= PHONE[0]
        expect(reader.page.locator(".refused p").first).to_contain_text(".")
        states = reader.page.locator(".images .state")
        expect(states.nth(1)).to_have_text("could not be used")
        expect(states.nth(2)).to_contain_text("above")
        reader.page.locator(".images .open").nth(2).click()
        reader.wait_for_answer("one.png")
        reader.page.get_by_role("button", name=f"Remove {name}").click()
        expect(reader.page.locator(".images li")).to_have_count(2)


def test_a_lateral_view_is_refused_until_the_reader_wants_it(used: Reader) -> None:
    lateral = dicom(some_image(), 8, ViewPosition="LL")
    used.drop(("side.dcm", lateral))
    expect(used.page.locator(".refused")).to_contain_text("lateral")
    used.page.get_by_role("button", name="Read it anyway").click()
    used.wait_for_answer("side.dcm")
    expect(used.page.get_by_role("note")).to_contain_text("lateral")


def test_a_pasted_image_is_answered(used: Reader) -> None:
    used.paste("pasted.png", png(some_image()))
    used.wait_for_answer("pasted.png")
    expect(used.page.locator(".refused")).to_have_count(0)


def test_a_model_that_cannot_be_fetched_is_a_sentence_and_can_be_tried_again(browser: Browser, url: str) -> None:
    with reader_of(browser, url) as reader:
        reader.page.route("**/*.onnx", lambda route: route.fulfill(status=503))
        reader.drop(("one.png", png(some_image())))
        expect(reader.page.locator(".status")).to_contain_text("503")
        reader.errors.clear()  # the browser's own line about the answer 503
        reader.page.unroute("**/*.onnx")
        reader.page.get_by_role("button", name="Try again").click()
        reader.wait_for_answer("one.png")


def test_more_files_than_the_page_takes_are_left_out_and_counted(browser: Browser, url: str) -> None:
    with reader_of(browser, url) as reader:
        reader.drop(*[(f"{i}.png", b"") for i in range(23)])
        expect(reader.page.get_by_role("alert")).to_contain_text("At most 20 images")
        expect(reader.page.get_by_role("alert")).to_contain_text("3 were left out")
        expect(reader.page.locator(".images li")).to_have_count(20)


def test_a_file_name_is_shown_as_text(used: Reader) -> None:
    name = "<img src=x onerror=document.title='changed'>.png"
    used.drop((name, png(some_image())))
    used.wait_for_answer(name)
    assert used.page.title() == "CheXVision"
    expect(used.page.locator(".active .file-name")).to_have_text(name)


def test_an_image_unlike_the_training_images_is_warned_of(used: Reader) -> None:
    used.drop(("bright.png", png(np.full((50, 50), 250, np.uint8))))
    used.wait_for_answer("bright.png")
    expect(used.page.get_by_role("note")).to_contain_text(BRIGHT)
    expect(used.page.get_by_role("status")).to_contain_text(BRIGHT)
    used.drop(("dark.png", png(some_image())))
    used.wait_for_answer("dark.png")
    expect(used.page.get_by_role("note")).to_have_count(0)


def test_synthetic_training_images_and_research_use_are_always_said(answered: Reader) -> None:
    expect(answered.page.locator(".notice.synthetic")).to_be_visible()
    expect(answered.page.locator(".notice.research")).to_contain_text("not a medical device")
    expect(answered.page.locator(".notice.research")).to_contain_text("Nothing is uploaded")


def test_the_map_is_where_python_computes_it(answered: Reader, model: Path) -> None:
    maps = compute(model, some_image()).maps
    for name in ("Atelectasis", "Cardiomegaly", "Abnormal"):
        select(answered, name)
        [(covered, x, y)] = answered.overlays()
        row, column = np.unravel_index(np.argmax(maps[name]), maps[name].shape)
        assert covered > 0
        assert (x, y) == pytest.approx(((column + 0.5) / 8, (row + 0.5) / 8), abs=0.06)


def test_maps_have_the_colors_of_python(answered: Reader, model: Path) -> None:
    maps = compute(model, some_image()).maps
    scale = max(float(one.max()) for one in maps.values())
    for name in ("Atelectasis", "Abnormal"):
        select(answered, name)
        shown = answered.overlay_over(90)
        expected = blend(np.full(shown.shape[:2], 90, np.uint8), maps[name], scale)
        # Browsers keep colors multiplied by their opacity, in 8 bits.
        np.testing.assert_allclose(shown.astype(int), expected, atol=3)


def test_contours_have_the_colors_of_python(answered: Reader, model: Path) -> None:
    maps = compute(model, some_image()).maps
    scale = max(float(one.max()) for one in maps.values())
    select(answered, "Abnormal")
    answered.page.get_by_text("Contours", exact=True).click()
    answered.page.get_by_role("slider").fill("100")
    shown = answered.overlay_over(90)
    answered.page.get_by_role("slider").fill("60")
    answered.page.get_by_text("Color", exact=True).click()
    expected = outlined(np.full(shown.shape[:2], 90, np.uint8), maps["Abnormal"], scale)
    # Both leave most of the image as it is and draw the same colors, up to the smoothing of edges.
    assert np.mean(np.abs(shown.astype(int) - expected).max(axis=2) > 60) < 0.01
    for level in CONTOURS:
        color = blend(np.zeros((1, 1), np.uint8), np.full((1, 1), level, np.float32), 1.0)
        line = color[0, 0] / (0.6 * level)
        assert np.abs(shown - line).max(axis=2).min() <= 4


def test_maps_share_one_scale_which_is_printed(answered: Reader, model: Path) -> None:
    largest = max(float(one.max()) for one in compute(model, some_image()).maps.values())
    for name in ("Atelectasis", "Abnormal"):
        select(answered, name)
        numbers = answered.page.locator(".legend .numbers span").all_inner_texts()
        assert numbers[0] == "0"
        assert float(numbers[-1]) == pytest.approx(largest, rel=0.05)


def test_a_map_of_zeros_is_said_to_be_empty(answered: Reader) -> None:
    select(answered, WITHOUT_MAP)
    expect(answered.page.locator(".empty-map")).to_have_text(f"Nothing in this image raises {WITHOUT_MAP}.")
    assert answered.overlays()[0][0] == 0
    select(answered, "Atelectasis")
    expect(answered.page.locator(".empty-map")).to_have_text("")


def test_opacity_and_style_change_the_overlay(answered: Reader) -> None:
    select(answered, "Atelectasis")
    overlay = answered.page.locator(".frame .overlay")
    answered.page.get_by_role("slider").fill("20")
    expect(overlay).to_have_css("opacity", "0.2")
    answered.page.get_by_role("slider").fill("60")
    color = answered.overlays()
    answered.page.get_by_text("Contours", exact=True).click()
    contours = answered.overlays()
    answered.page.get_by_text("Off", exact=True).click()
    assert answered.overlays()[0][0] == 0
    answered.page.get_by_text("Color", exact=True).click()
    assert answered.overlays() == color != contours


def test_a_threshold_is_explained_by_its_results_on_test_images(answered: Reader) -> None:
    detail = answered.page.locator(".detail")
    select(answered, "Cardiomegaly")
    expect(detail).to_contain_text("highest F1 on validation")
    expect(detail).to_contain_text("80.0 % of 80 images with Cardiomegaly are at or above it")
    expect(detail).to_contain_text("90.0 % of 1,500 images without are below it")
    select(answered, "Mass")
    expect(detail).to_contain_text("was not measured, or there were too few images")
    select(answered, "Pleural_Thickening")
    expect(detail).to_contain_text("published without a threshold")


def test_the_image_and_its_map_are_described_in_words(answered: Reader) -> None:
    select(answered, "Atelectasis")
    image = answered.page.locator(".frame canvas.radiograph")
    label = image.get_attribute("aria-label") or ""
    assert label.startswith("Radiograph one.png, 100 × 120 pixels. Map of Atelectasis: strongest at the upper left")
