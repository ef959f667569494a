"""The page of many runs in a browser: sorted, filtered, without a network, on a phone, in the dark."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from chexvision.artifact.published_run import read_published
from chexvision.report.many_runs.dashboard import write_dashboard
from tests.published_runs import change, write_run
from tests.web.conftest import HANGS_MS
from tests.web.ui.reader import DESKTOP, PHONE


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("dashboard")
    runs = [
        write_run(folder / "alpha", noise=0.1, finished_at="2026-01-02T00:00:00+00:00"),
        write_run(folder / "beta", recipe="swin-t", noise=0.4, seed=1, finished_at="2026-02-02T00:00:00+00:00"),
        write_run(folder / "gamma", noise=0.2, seed=2, finished_at="2026-03-02T00:00:00+00:00"),
    ]
    change(runs[2] / "metrics.json", lambda of: of["systems"][0]["metrics"].update(images_sha256="e" * 64))
    (runs[2] / "history.json").write_text("[]")
    return write_dashboard([read_published(run.name, run) for run in runs], folder / "out", "Runs of chex").as_uri()


@contextmanager
def opened(browser: Browser, url: str, size: tuple[int, int] = DESKTOP, **more: Any) -> Iterator[Page]:
    """The page, which asks for nothing else and leaves no error."""
    context = browser.new_context(viewport={"width": size[0], "height": size[1]}, **more)
    context.set_default_timeout(HANGS_MS)
    asked: list[str] = []
    errors: list[str] = []
    context.on("request", lambda request: asked.append(request.url))
    page = context.new_page()
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    page.goto(url)
    yield page
    context.close()
    assert (asked, errors) == ([url], [])


def names(page: Page) -> list[str]:
    """The runs of the table that are visible, in its order."""
    return page.locator("#runs tbody tr:visible .name").all_inner_texts()


def test_a_heading_sorts_both_ways_with_blanks_at_the_end(browser: Browser, url: str) -> None:
    with opened(browser, url) as page:
        assert names(page) == ["gamma", "beta", "alpha"]
        auroc = page.get_by_role("button", name="macro AUROC", exact=True)
        auroc.click()
        assert names(page) == ["alpha", "gamma", "beta"]
        expect(page.locator("th[aria-sort]")).to_have_attribute("aria-sort", "descending")
        mixed = "sorted by macro AUROC, descending; 2 test sets, which do not compare"
        expect(page.get_by_role("status")).to_have_text(mixed)
        auroc.click()
        assert names(page) == ["beta", "gamma", "alpha"]
        epochs = page.get_by_role("button", name="epochs")
        epochs.focus()
        page.keyboard.press("Enter")
        assert names(page)[-1] == "gamma"
        page.keyboard.press("Enter")
        assert names(page)[-1] == "gamma"
        expect(page.locator("th[aria-sort]")).to_have_count(1)


def test_filters_hide_runs_everywhere_and_are_cleared(browser: Browser, url: str) -> None:
    with opened(browser, url) as page:
        page.get_by_label("Recipe").select_option("swin-t")
        assert names(page) == ["beta"]
        expect(page.get_by_role("status")).to_have_text("1 of 3 runs")
        assert page.locator(".curve:visible").count() == 2
        assert page.locator(".heat tbody tr:visible").count() == 1
        page.get_by_role("button", name="Clear").click()
        expect(page.get_by_role("status")).to_have_text("3 of 3 runs")
        page.get_by_label("Search").fill("2026-01")
        assert names(page) == ["alpha"]
        page.get_by_label("Search").fill("")
        page.get_by_label("Test set").select_option("B")
        expect(page.get_by_role("status")).to_have_text("2 of 3 runs")
        page.get_by_role("button", name="macro AUROC", exact=True).click()
        expect(page.get_by_role("status")).to_have_text("sorted by macro AUROC, descending")
        page.get_by_label("Test set").select_option("A")
        assert names(page) == ["gamma"]


def test_pointing_at_a_run_highlights_its_curves(browser: Browser, url: str) -> None:
    with opened(browser, url) as page:
        page.locator("#runs tbody tr").nth(1).hover()
        expect(page.locator(".curve.active")).to_have_count(2)
        expect(page.locator("#runs tr.active")).to_contain_text("beta")
        page.locator("h1").hover()
        expect(page.locator(".active")).to_have_count(0)


def test_without_scripts_the_page_is_complete_and_shows_no_controls(browser: Browser, url: str) -> None:
    with opened(browser, url, java_script_enabled=False) as page:
        assert page.locator("form").is_hidden()
        assert page.locator("#runs button").count() == 0
        assert len(names(page)) == 3 and page.locator("svg").first.is_visible()


@pytest.mark.parametrize(("size", "scheme"), [(PHONE, "dark"), (DESKTOP, "light")], ids=["phone", "desktop"])
def test_it_fits_the_screen_and_axe_finds_nothing(
    browser: Browser, url: str, axe: Path, size: tuple[int, int], scheme: str
) -> None:
    with opened(browser, url, size, color_scheme=scheme, bypass_csp=True) as page:
        assert page.evaluate("document.documentElement.scrollWidth") <= size[0]
        page.add_script_tag(path=axe)
        found = page.evaluate(
            "axe.run({ runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'] })"
        )
        assert [of["id"] for of in found["violations"]] == []
