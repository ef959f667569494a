"""Two models side by side."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from tests.web.image_files import png
from tests.web.ui.finding_model import OUTPUTS, compute
from tests.web.ui.reader import PHONE, Reader, reader_of, some_image


@pytest.fixture(scope="module")
def compared(browser: Browser, url_of_two: str) -> Iterator[Reader]:
    with reader_of(browser, url_of_two) as reader:
        reader.drop(("one.png", png(some_image())))
        reader.wait_for_answer("one.png")
        reader.page.get_by_label("Compare with").select_option("other")
        reader.page.locator(".pair[data-finding]").first.wait_for()
        yield reader


def test_rows_give_both_probabilities_and_their_difference(compared: Reader, model: Path, other_model: Path) -> None:
    first, second = (compute(folder, some_image()).probabilities for folder in (model, other_model))
    for name in OUTPUTS:
        row = compared.page.locator(f".pair[data-finding={name}]")
        numbers = [
            float(row.locator(f":scope > .{part}").inner_text().replace("−", "-").split("\u00a0")[0])
            for part in ("first", "second", "change")
        ]
        expected = [100 * first[name], 100 * second[name], 100 * (second[name] - first[name])]
        assert numbers == pytest.approx(expected, abs=0.06)


def test_findings_whose_calls_differ_come_first(compared: Reader) -> None:
    groups = compared.page.locator(".comparison fieldset").evaluate_all(
        """all => all.map(group => [group.dataset.group,
          [...group.querySelectorAll('[data-finding]')].map(row => row.dataset.finding)])"""
    )
    assert {group: set(names) for group, names in groups} == {
        "differ": {"Effusion", "Cardiomegaly"},
        "both": {"Abnormal", "Atelectasis"},
        "neither": {"Mass", "Nodule"},
        "other": {"Pleural_Thickening"},
    }
    assert groups[0][0] == "differ"


def test_the_difference_of_maps_is_zero_where_both_are(compared: Reader) -> None:
    compared.page.locator("[data-finding=Nodule]").click()
    assert [covered for covered, _, _ in compared.overlays()] == [0, 0, 0]
    compared.page.locator("[data-finding=Abnormal]").click()
    assert all(covered > 0 for covered, _, _ in compared.overlays())


def test_zoom_and_opacity_hold_for_all_images(compared: Reader) -> None:
    compared.page.get_by_role("slider").fill("30")
    compared.page.get_by_role("button", name="Zoom in").click()
    overlays = compared.page.locator(".frame .overlay")
    for i in range(3):
        expect(overlays.nth(i)).to_have_css("opacity", "0.3")
    expect(compared.page.get_by_role("button", name="show the whole image")).to_have_text("150 %")
    stages = compared.page.locator(".stage")
    assert len({stages.nth(i).evaluate("e => e.style.transform") for i in range(3)}) == 1
    compared.page.get_by_role("button", name="show the whole image").click()


def test_a_synthetic_model_is_named(compared: Reader) -> None:
    expect(compared.page.locator(".notice.synthetic")).to_contain_text("small and other")


def test_the_comparison_ends_and_the_other_model_answers_alone(browser: Browser, url_of_two: str) -> None:
    with reader_of(browser, url_of_two, PHONE) as reader:
        reader.drop(("one.png", png(some_image())))
        reader.page.get_by_label("Compare with").select_option("other")
        reader.page.locator(".pair[data-finding]").first.wait_for()
        assert reader.page.evaluate("document.documentElement.scrollWidth") <= PHONE[0]
        reader.page.get_by_label("Compare with").select_option("nothing")
        reader.wait_for_answer("one.png")
        assert reader.rows()["Effusion"].group == "near"
        reader.page.locator(".choice select").first.select_option("other")
        expect(reader.page.locator(".above [data-finding=Effusion]")).to_be_visible()
