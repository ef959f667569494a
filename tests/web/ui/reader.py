"""A reader in front of the page: what they do, and what they see."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import cv2
import numpy as np
from numpy.typing import NDArray
from playwright.sync_api import Browser, ConsoleMessage, FilePayload, Page, Request

from tests.web.conftest import HANGS_MS

PHONE, DESKTOP = (360, 740), (1280, 800)


def some_image(seed: int = 0, height: int = 120, width: int = 100) -> NDArray[np.uint8]:
    """Smooth noise."""
    noise = np.random.default_rng(seed).integers(0, 256, (8, 8), np.uint8)
    return np.asarray(cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC), np.uint8)


_DROP = """([files, kinds]) => {
  const transfer = new DataTransfer()
  for (const [name, type, content] of files) {
    const bytes = Uint8Array.from(atob(content), letter => letter.charCodeAt(0))
    transfer.items.add(new File([bytes], name, { type }))
  }
  const at = document.querySelector('main')
  const given = { dataTransfer: transfer, clipboardData: transfer, bubbles: true, cancelable: true }
  for (const kind of kinds) {
    at.dispatchEvent(kind === 'paste' ? new ClipboardEvent(kind, given) : new DragEvent(kind, given))
  }
}"""

_SUMS = """canvases => canvases.map(canvas => {
  const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height)
  let covered = 0, x = 0, y = 0
  for (let i = 0; i < data.length; i += 4) {
    const weight = data[i + 3] ** 2
    covered += weight
    x += weight * ((i / 4) % canvas.width)
    y += weight * Math.floor(i / 4 / canvas.width)
  }
  return [covered, x / covered / canvas.width, y / covered / canvas.height]
})"""


_DRAWN = """(overlay, gray) => {
  const drawn = document.createElement('canvas')
  drawn.width = overlay.width
  drawn.height = overlay.height
  const context = drawn.getContext('2d')
  context.fillStyle = `rgb(${gray} ${gray} ${gray})`
  context.fillRect(0, 0, drawn.width, drawn.height)
  context.globalAlpha = Number(getComputedStyle(overlay).opacity)
  context.drawImage(overlay, 0, 0)
  return drawn.toDataURL('image/png').split(',')[1]
}"""


@dataclass(frozen=True)
class Row:
    """One finding in the list."""

    group: str
    probability: str
    threshold: str


@dataclass(frozen=True)
class Reader:
    """Someone who uses a page.

    Args:
        page: it.
        requests: addresses that it asked for.
        errors: what its console reports, and uncaught errors.
    """

    page: Page
    requests: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def drop(self, *files: tuple[str, bytes]) -> None:
        """Drop files on the page."""
        self._give(files, ["dragover", "drop"])

    def paste(self, name: str, content: bytes) -> None:
        """Paste an image."""
        self._give([(name, content)], ["paste"])

    def _give(self, files: Sequence[tuple[str, bytes]], events: list[str]) -> None:
        encoded = [[name, "", base64.b64encode(content).decode()] for name, content in files]
        self.page.evaluate(_DROP, [encoded, events])

    def choose(self, *files: tuple[str, bytes]) -> None:
        """Choose files in the browser's dialog."""
        self.page.set_input_files(
            "label.file input",
            [FilePayload(name=name, mimeType="application/octet-stream", buffer=content) for name, content in files],
        )

    def wait_for_answer(self, name: str) -> None:
        """Wait until the answer about this file is on the screen."""
        item = self.page.locator(".images li.active", has_text=name)
        item.locator(".state", has_text="above").wait_for()
        self.page.locator("[data-finding]").first.wait_for()

    def rows(self) -> dict[str, Row]:
        """The findings, in their order on the screen."""
        found = self.page.locator(".row[data-finding]").evaluate_all(
            """rows => rows.map(row => [
              row.dataset.finding, row.closest('fieldset').className.replace('group ', ''),
              row.querySelector('.probability').textContent, row.querySelector('.threshold').textContent])"""
        )
        return {
            name: Row(group, probability.replace("\u00a0", " "), limit.replace("\u00a0", " "))
            for name, group, probability, limit in found
        }

    def overlays(self) -> list[tuple[float, float, float]]:
        """Of each map on the screen: how much it covers, and the center of that, as parts of the width and height."""
        return [tuple(one) for one in self.page.locator(".frame .overlay").evaluate_all(_SUMS)]

    def overlay_over(self, gray: int) -> NDArray[np.uint8]:
        """uint8[H, W, 3], RGB: the map on the screen as it looks over an image of this gray."""
        drawn = base64.b64decode(self.page.locator(".frame .overlay").evaluate(_DRAWN, gray))
        decoded = cv2.imdecode(np.frombuffer(drawn, np.uint8), cv2.IMREAD_COLOR_RGB)
        return np.asarray(decoded, np.uint8)

    def focus(self) -> str:
        """What has the focus, as people who listen to the page are told."""
        return str(
            self.page.evaluate(
                "(e => e.getAttribute('aria-label') ?? (e.labels?.[0] ?? e).textContent)(document.activeElement)"
            )
        )

    def has_visible_focus(self) -> bool:
        """Whether what has the focus, or its label, is outlined."""
        outlined = "e => e !== null && getComputedStyle(e).outlineStyle !== 'none'"
        return bool(
            self.page.evaluate(
                f"(e => [e, e.labels?.[0] ?? null, e.nextElementSibling].some({outlined}))(document.activeElement)"
            )
        )

    def shifted(self) -> float:
        """How far contents moved on their own since the page was opened (cumulative layout shift)."""
        return float(
            self.page.evaluate(
                """new Promise(resolve => new PerformanceObserver(list => resolve(
                  list.getEntries().filter(e => !e.hadRecentInput).reduce((sum, e) => sum + e.value, 0)))
                .observe({ type: 'layout-shift', buffered: true }) ?? setTimeout(() => resolve(0), 500))"""
            )
        )


@contextmanager
def reader_of(browser: Browser, url: str, size: Sequence[int] = DESKTOP, **options: Any) -> Iterator[Reader]:
    """Open the page; fails after the test where it asked another machine or reported an error."""
    context = browser.new_context(viewport={"width": size[0], "height": size[1]}, **options)
    context.set_default_timeout(HANGS_MS)
    reader = Reader(context.new_page())

    def asked(request: Request) -> None:
        reader.requests.append(request.url)

    def logged(message: ConsoleMessage) -> None:
        if message.type == "error":
            reader.errors.append(message.text)

    context.on("request", asked)
    reader.page.on("console", logged)
    reader.page.on("pageerror", lambda error: reader.errors.append(str(error)))
    reader.page.goto(url)
    reader.page.locator(".facts").first.wait_for()
    yield reader
    context.close()
    assert not reader.errors
    here = urlsplit(url).netloc
    elsewhere = [
        one
        for one in reader.requests
        if urlsplit(one).scheme not in ("blob", "data") and urlsplit(one).netloc != here
    ]
    assert not elsewhere
