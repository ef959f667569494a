"""The real page in a real browser: served by `chexvision app`, driven by Playwright in the system's Chromium."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn, TypeAlias
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.web.echo_model import write_echo_model

COMMAND = Path(sys.executable).with_name("chexvision")
_BROWSERS = ("chromium", "chromium-browser", "google-chrome")
_LOCAL = ("127.0.0.1", "localhost")
# Only a page that hangs takes so long; Playwright's own 5 and 30 s are passed on a busy machine.
HANGS_MS = 300_000
expect.set_options(timeout=HANGS_MS)

ServeApp: TypeAlias = Callable[..., str]


def lacking(reason: str) -> NoReturn:
    """Skip the test, or fail it where everything has to be there."""
    if os.environ.get("CHEXVISION_NEEDS_BROWSER"):
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """The system's Chromium. Tests are skipped without one, unless ``CHEXVISION_NEEDS_BROWSER`` is set."""
    found = next(filter(None, map(shutil.which, _BROWSERS)), None)
    if found is None:
        lacking(f"no browser ({', '.join(_BROWSERS)}); install it with: apt-get install chromium")
    root = hasattr(os, "geteuid") and os.geteuid() == 0
    with sync_playwright() as playwright:
        # Chromium's sandbox cannot be used by root, as which containers run.
        launched = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"] if root else [])
        yield launched
        launched.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A new page, of which no request may leave this machine and no error may stay uncaught."""
    with watched_page(browser) as opened:
        yield opened


@contextmanager
def watched_page(browser: Browser) -> Iterator[Page]:
    """See `page`."""
    context = browser.new_context()
    context.set_default_timeout(HANGS_MS)
    asked: list[str] = []
    errors: list[str] = []
    context.on("request", lambda request: asked.append(request.url))
    opened = context.new_page()
    opened.on("pageerror", lambda error: errors.append(str(error)))
    yield opened
    context.close()
    assert not errors
    assert not [
        url for url in map(urlsplit, asked) if url.scheme not in ("blob", "data") and url.hostname not in _LOCAL
    ]


@pytest.fixture(scope="session")
def serve_app() -> Iterator[ServeApp]:
    """A function that serves models (folders) with the real command, and gives the address of the page."""
    started: list[subprocess.Popen[str]] = []

    def serve(*models: Path) -> str:
        process = subprocess.Popen(
            [COMMAND, "app", "--static", "--no-browser", "--port", "0", *models], stdout=subprocess.PIPE, text=True
        )
        started.append(process)
        assert process.stdout
        return process.stdout.readline().split()[0]

    yield serve
    for process in started:
        process.send_signal(signal.SIGINT)
    assert [process.wait(timeout=300) for process in started] == [0] * len(started)


@pytest.fixture(scope="session")
def echo_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """See `write_echo_model`. Read only."""
    return write_echo_model(tmp_path_factory.mktemp("models") / "echo")


@pytest.fixture(scope="session")
def site(echo_model: Path, serve_app: ServeApp) -> str:
    """The address of the page with one model."""
    return serve_app(echo_model)


@pytest.fixture(scope="session")
def site_of_two(echo_model: Path, tmp_path_factory: pytest.TempPathFactory, serve_app: ServeApp) -> str:
    """The address of the page with two models, the second trained on synthetic images."""
    return serve_app(echo_model, write_echo_model(tmp_path_factory.mktemp("models") / "second", synthetic=True))


@pytest.fixture(scope="session")
def echo_page(browser: Browser, site: str) -> Iterator[Page]:
    """A page with `echo_model`, open for all tests that use nothing but its code."""
    with watched_page(browser) as opened:
        opened.goto(site)
        yield opened
