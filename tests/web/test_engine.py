"""Exported models in the browser: answers, several at a time, with and without threads, and what may go wrong."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
from playwright.sync_api import Page

from chexvision.app.page_files import find_model, page_files
from chexvision.app.page_server import PageServer
from chexvision.runtime.export_info import INFO, MODEL
from tests.web.echo_model import BRIGHT
from tests.web.image_files import png
from tests.web.in_browser import answer_in

GRAY = np.random.default_rng(3).integers(0, 256, (30, 40)).astype(np.uint8)


@contextmanager
def running(server: ThreadingHTTPServer) -> Iterator[str]:
    """Serve in a thread; gives the address."""
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/"
    finally:
        server.shutdown()
        server.server_close()


def serving(files: Mapping[str, Path | bytes]) -> PageServer:
    """The real server with these files."""
    return PageServer(files, "127.0.0.1", 0)


@pytest.fixture
def files(echo_model: Path) -> dict[str, Path | bytes]:
    """The files of a page with one model."""
    return page_files([find_model(str(echo_model))])


def failure(page: Page, url: str) -> str:
    """What the page says when it loads the first model."""
    page.goto(url)
    said: str = page.evaluate(
        """async () => {
          const { loadEngine, loadInfo } = await import('./chexvision.js')
          try { await loadEngine('models/0', await loadInfo('models/0')) } catch (error) { return `${error}` }
          return ''
        }"""
    )
    return said


def test_an_answer_has_probabilities_maps_and_warnings(echo_page: Page) -> None:
    answer = answer_in(echo_page, png(GRAY))
    mean = float(GRAY.mean()) / 255
    assert answer["probabilities"] == pytest.approx([mean, 1 - mean, mean], abs=1e-6)
    assert answer["maps"]["shape"] == [30, 40]
    assert np.array_equal(np.reshape(answer["maps"]["values"], (3, 30, 40))[1], GRAY)
    assert answer["warnings"] == []
    assert answer_in(echo_page, png(np.full((9, 9), 250, np.uint8)))["warnings"] == [BRIGHT]


def test_two_models_answer_side_by_side(page: Page, site_of_two: str) -> None:
    page.goto(site_of_two)
    answers = [answer_in(page, png(GRAY), folder) for folder in ("models/0", "models/1")]
    assert answers[0]["probabilities"] == answers[1]["probabilities"]


def test_the_served_page_computes_in_threads(page: Page, site: str) -> None:
    page.goto(site)
    assert page.evaluate("crossOriginIsolated")
    assert answer_in(page, png(GRAY))["maps"]["shape"] == [30, 40]


def test_any_server_of_files_will_do_below_any_path(
    page: Page, files: Mapping[str, Path | bytes], tmp_path: Path
) -> None:
    """A static Space, or a folder: no headers, so no threads."""
    for name, content in files.items():
        copy = tmp_path / "below" / "a path" / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, bytes):
            copy.write_bytes(content)
        else:
            shutil.copyfile(content, copy)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(tmp_path)))
    with running(server) as url:
        page.goto(f"{url}below/a path/")
        assert not page.evaluate("crossOriginIsolated")
        assert answer_in(page, png(GRAY))["maps"]["shape"] == [30, 40]


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


def test_a_model_is_fetched_once(page: Page, files: Mapping[str, Path | bytes]) -> None:
    fetched: list[str] = []
    page.on("request", lambda request: fetched.append(request.url))
    with running(serving(files)) as url:
        for _ in range(2):
            page.goto(url)
            answer_in(page, png(GRAY))
    assert fetched.count(f"{url}models/0/{MODEL}") == 1


def test_a_model_of_other_bytes_is_refused(page: Page, files: dict[str, Path | bytes], echo_model: Path) -> None:
    content = bytearray((echo_model / MODEL).read_bytes())
    content[-5] ^= 1
    for changed in (bytes(content), bytes(content[:-1]), bytes(content) + b"more"):
        with running(serving({**files, f"models/0/{MODEL}": changed})) as url:
            assert failure(page, url).startswith(f"PageError: {MODEL} is not the file that {INFO} describes.")


def test_a_model_that_onnxruntime_cannot_read_ends_in_a_sentence(
    page: Page, files: dict[str, Path | bytes], echo_model: Path
) -> None:
    content = b"not a graph"
    info = (echo_model / INFO).read_text(encoding="utf-8")
    model = (echo_model / MODEL).read_bytes()
    info = info.replace(hashlib.sha256(model).hexdigest(), hashlib.sha256(content).hexdigest())
    info = info.replace(f'"bytes": {len(model)}', f'"bytes": {len(content)}')
    changed = {**files, f"models/0/{MODEL}": content, f"models/0/{INFO}": info.encode()}
    with running(serving(changed)) as url:
        assert failure(page, url).startswith("PageError: The model could not be started in this browser")


def test_missing_newer_or_damaged_information_ends_in_a_sentence(page: Page, files: dict[str, Path | bytes]) -> None:
    name = f"models/0/{INFO}"
    without = {path: content for path, content in files.items() if path != name}
    with running(serving(without)) as url:
        assert failure(page, url).endswith("cannot be fetched: the server answers 404.")
    with running(serving({**files, name: b'{"format": 2}'})) as url:
        assert "has format 2; this page reads format 1" in failure(page, url)
    with running(serving({**files, name: b'{"format": 1}'})) as url:
        assert "is not complete" in failure(page, url)
    with running(serving({**files, name: b"{"})) as url:
        assert "is damaged" in failure(page, url)


def test_a_closed_model_answers_no_more(page: Page, site: str) -> None:
    page.goto(site)
    said = page.evaluate(
        """async () => {
          const { loadEngine, loadInfo } = await import('./chexvision.js')
          const engine = await loadEngine('models/0', await loadInfo('models/0'))
          const image = { pixels: new Uint8Array(100), width: 10, height: 10, notes: [], warnings: [] }
          const waiting = engine.answer(image).catch((error) => `${error}`)
          engine.close()
          return [await waiting, await engine.answer(image).catch((error) => `${error}`)]
        }"""
    )
    assert said == ["PageError: This model was closed."] * 2
