"""Use by keyboard, by people who listen, in the dark, on small screens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, FilePayload, expect

from tests.web.image_files import png
from tests.web.ui.reader import DESKTOP, PHONE, Reader, reader_of, some_image


def violations(reader: Reader) -> list[str]:
    """What axe-core finds to be serious."""
    found: dict[str, Any] = reader.page.evaluate(
        "axe.run({ runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'] })"
    )
    return [
        f"{one['id']}: {node['html'][:150]} {node['failureSummary'][:300]}"
        for one in found["violations"]
        if one["impact"] in ("serious", "critical")
        for node in one["nodes"]
    ]


@pytest.mark.parametrize(("size", "scheme"), [(PHONE, "dark"), (DESKTOP, "light")], ids=["phone", "desktop"])
def test_axe_finds_nothing_serious(
    browser: Browser, url_of_two: str, axe: Path, size: tuple[int, int], scheme: str
) -> None:
    # The test's own script is no part of the page, whose policy forbids it.
    with reader_of(browser, url_of_two, size, color_scheme=scheme, bypass_csp=True) as reader:
        reader.page.add_script_tag(path=axe)
        assert violations(reader) == []
        reader.drop(("bright.png", png(some_image() // 8 + 220)), ("cut.png", b"\x89PNG"))
        reader.wait_for_answer("bright.png")
        assert violations(reader) == []
        reader.page.get_by_label("Compare with").select_option("other")
        reader.page.locator(".pair[data-finding]").first.wait_for()
        assert violations(reader) == []
        reader.page.locator(".images .open").nth(1).click()
        expect(reader.page.locator(".refused")).to_be_visible()
        assert violations(reader) == []


def test_everything_works_with_the_keyboard_alone(browser: Browser, url: str) -> None:
    with reader_of(browser, url) as reader:
        reader.page.bring_to_front()  # other tests' pages are open; dialogs belong to the one in front
        press = reader.page.keyboard.press
        # The browser is told to report its dialog instead of showing it, which takes effect some time later: a key
        # pressed right after that finds a dialog that headless browsers cancel.
        with reader.page.expect_file_chooser() as chooser:
            press("Tab")  # theme
            assert reader.has_visible_focus()
            press("Tab")
            assert reader.focus() == "Choose files"
            assert reader.has_visible_focus()
            press("Enter")
        chooser.value.set_files(FilePayload(name="one.png", mimeType="image/png", buffer=png(some_image())))
        reader.wait_for_answer("one.png")
        reached = []
        for _ in range(20):
            press("Tab")
            reached.append(reader.focus())
            assert reader.has_visible_focus(), reached[-1]
            if "threshold" in reached[-1]:
                break
        assert reached[-1].startswith("Cardiomegaly: 3")
        press("ArrowUp")
        assert reader.focus().startswith("Atelectasis: 6")
        expect(reader.page.locator(".detail h2")).to_have_text("Atelectasis")
        press("End")
        expect(reader.page.locator(".detail h2")).to_have_text("Pleural Thickening")
        press("Home")
        expect(reader.page.locator(".detail h2")).to_have_text("Abnormal (any finding)")


def test_keys_enlarge_and_move_the_image_and_escape_undoes_it(browser: Browser, url: str) -> None:
    with reader_of(browser, url) as reader:
        reader.drop(("one.png", png(some_image())))
        reader.wait_for_answer("one.png")
        stage, value = reader.page.locator(".stage"), reader.page.get_by_role("button", name="show the whole image")
        reader.page.locator(".frame").focus()
        reader.page.keyboard.press("+")
        expect(value).to_have_text("150 %")
        before = stage.evaluate("e => e.style.transform")
        reader.page.keyboard.press("ArrowRight")
        expect(stage).not_to_have_attribute("style", f"transform: {before};")
        reader.page.keyboard.press("Escape")
        expect(value).to_have_text("100 %")
        assert reader.overlays()[0][0] > 0
        reader.page.keyboard.press("Escape")
        expect(reader.page.get_by_role("radio", name="Off")).to_be_checked()
        assert reader.overlays()[0][0] == 0
        reader.page.keyboard.press("Escape")
        expect(reader.page.get_by_role("radio", name="Color")).to_be_checked()


def test_the_theme_is_the_systems_until_the_reader_chooses(browser: Browser, url: str) -> None:
    ground = "getComputedStyle(document.body.parentElement).backgroundColor"
    with reader_of(browser, url, color_scheme="dark") as reader:
        dark = reader.page.evaluate(ground)
        reader.page.get_by_role("button", name="Use light colors").click()
        light = reader.page.evaluate(ground)
        assert sum(map(int, light[4:-1].split(", "))) > 600 > 150 > sum(map(int, dark[4:-1].split(", ")))
        reader.page.reload()
        reader.page.locator(".facts").first.wait_for()
        assert reader.page.evaluate(ground) == light


@pytest.mark.parametrize("size", [PHONE, DESKTOP], ids=["phone", "desktop"])
def test_nothing_moves_on_its_own_and_events_are_announced(browser: Browser, url: str, size: tuple[int, int]) -> None:
    with reader_of(browser, url, size, reduced_motion="reduce") as reader:
        status = reader.page.get_by_role("status")
        reader.drop(("one.png", png(some_image())))
        expect(status).to_contain_text("one.png is ready")
        assert reader.shifted() < 0.02
        assert reader.page.locator(".fill").first.evaluate("e => getComputedStyle(e).transitionDuration") == "0s"
        reader.drop(("cut.png", b"\x89PNG"))
        expect(status).to_contain_text("cut.png could not be used")
