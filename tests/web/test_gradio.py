"""The Gradio app as a process of its own, in a browser and through `gradio_client`."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import subprocess
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from playwright.sync_api import Browser, Page, expect

from tests.app.answering_model import SYNTHETIC, write_model
from tests.images.dicoms import windowed
from tests.web.conftest import COMMAND, watched_page
from tests.web.test_serving import get

PATIENT = "DOE-JANE"


class Server:
    """A running app: its address, its folder for uploads, and all that it has written."""

    def __init__(self, model: Path, folder: Path) -> None:
        self.folder = folder
        self.log = folder / "log.txt"
        folder.mkdir()
        # A proxy that is not there: whatever would leave this machine fails, and says so.
        nowhere = "http://127.0.0.1:9"
        away = {"HTTP_PROXY": nowhere, "HTTPS_PROXY": nowhere, "NO_PROXY": "127.0.0.1,localhost"}
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [COMMAND, "app", "--no-browser", "--port", "0", model],
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env={**os.environ, **away, "TMPDIR": str(folder), "HF_HUB_OFFLINE": "1"},
            )
        assert self.process.stdout
        self.url = self.process.stdout.readline().split()[0]

    def kept(self) -> list[Path]:
        """Files with content that the app keeps; images that it has drawn are its answers."""
        files = (path for path in self.folder.rglob("*") if path.is_file() and path != self.log)
        return [path for path in files if path.stat().st_size and path.stem not in ("image", "results")]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("gradio")
    running = Server(write_model(folder / "small"), folder / "temporary")
    yield running
    running.process.send_signal(signal.SIGINT)
    assert running.process.wait(timeout=300) == 0
    assert running.process.stdout and running.process.stdout.read() == ""
    assert not [path for path in running.folder.rglob("*") if path != running.log]  # nothing is left


@pytest.fixture(scope="module")
def client(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Client:
    downloads = tmp_path_factory.mktemp("downloads")
    return Client(server.url, verbose=False, download_files=downloads, analytics_enabled=False)


@pytest.fixture(scope="module")
def dicom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A DICOM file with a patient's name, without an ending as PACS export them."""
    gray = np.random.default_rng(0).integers(0, 255, (300, 280), np.uint8)
    path = tmp_path_factory.mktemp("dicom") / "IM000001"
    path.write_bytes(windowed(gray, inverted=True, PatientName=PATIENT))
    return path


def test_predict_answers_as_the_command_does(server: Server, client: Client, dicom: Path, tmp_path: Path) -> None:
    answer = client.predict(handle_file(dicom), api_name="/predict")
    model = write_model(tmp_path / "small")
    done = subprocess.run([COMMAND, "predict", model, dicom, "--json"], capture_output=True, text=True, check=True)
    (row,) = json.loads(done.stdout)
    assert row.pop("path") == str(dicom)
    assert answer.pop("file") == dicom.name
    assert answer == row
    assert PATIENT not in json.dumps(answer)


def test_explain_names_findings_and_gives_overlays(client: Client, dicom: Path) -> None:
    about, overlays = client.predict(handle_file(dicom), ["effusion", "Mass"], api_name="/explain")
    assert [one["finding"] for one in about["overlays"]] == ["Effusion", "Mass"]
    assert about["scale"] == max(one["largest"] for one in about["overlays"]) > 0
    assert about["model"]["synthetic"]
    assert [one["caption"] for one in overlays] == ["Effusion", "Mass"]
    assert all(Path(one["image"]).read_bytes().startswith(b"\x89PNG") for one in overlays)
    with pytest.raises(AppError, match="did you mean Effusion"):
        client.predict(handle_file(dicom), ["Efusion"], api_name="/explain")


def test_a_batch_has_a_row_for_each_image_and_reasons_for_bad_ones(
    client: Client, dicom: Path, tmp_path: Path
) -> None:
    path = tmp_path / "images.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.write(dicom, "patient/IM000001")
        archive.writestr("=bad.png", b"not an image")
        archive.writestr("notes.txt", b"ignored")
    summary, rows, table = client.predict(handle_file(path), api_name="/predict_batch")
    assert [(row["file"], row["status"]) for row in rows] == [("=bad.png", "failed"), ("patient/IM000001", "ok")]
    assert rows[0]["reason"] == "not a readable PNG, JPEG or DICOM file"
    assert "1 of 2 images have an answer" in summary and SYNTHETIC in summary
    written = list(csv.DictReader(io.StringIO(Path(table).read_text(encoding="utf-8"))))
    assert [row["image"] for row in written] == ["'=bad.png", "IM000001"]
    assert float(written[1]["probability_Effusion"]) == rows[1]["probabilities"]["Effusion"]


def _hostile(folder: Path) -> list[tuple[Path, str]]:
    bomb, empty = folder / "bomb.zip", folder / "empty.zip"
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(300):
            archive.writestr(f"{number}.png", b"")
    with zipfile.ZipFile(empty, "w"):
        pass
    texts = {
        "text.zip": b"PK not an archive",
        "cut.png": b"\x89PNG\r\n\x1a\n" + b"\0" * 50,
        "side.dcm": windowed(np.zeros((80, 80), np.uint8), ViewPosition="LL", PatientName=PATIENT),
    }
    for name, content in texts.items():
        (folder / name).write_bytes(content)
    return [
        (folder / "cut.png", "Damaged"),
        (folder / "side.dcm", "; with 'Any view' it is read anyway."),
        (bomb, "contains 300 images; send at most 200"),
        (empty, "is empty"),
        (folder / "text.zip", "Not a readable ZIP archive"),
    ]


def test_hostile_files_end_in_a_sentence_and_nothing_is_logged(
    server: Server, client: Client, tmp_path: Path
) -> None:
    for path, sentence in _hostile(tmp_path):
        with pytest.raises(AppError) as failed:
            client.predict(handle_file(path), api_name="/predict_batch" if path.suffix == ".zip" else "/predict")
        assert sentence in str(failed.value) and "Traceback" not in str(failed.value)
    assert server.log.read_text() == ""
    assert server.kept() == []


def test_files_of_the_server_cannot_be_named(server: Server, client: Client) -> None:
    with pytest.raises(AppError):
        client.predict({"path": "/etc/hostname", "meta": {"_type": "gradio.FileData"}}, api_name="/predict")


def test_the_api_and_its_tools_have_stable_names(server: Server, client: Client) -> None:
    endpoints: dict[str, Any] = client.view_api(return_format="dict", print_info=False)["named_endpoints"]
    assert {name: [one["parameter_name"] for one in of["parameters"]] for name, of in endpoints.items()} == {
        "/predict": ["image", "any_view"],
        "/explain": ["image", "findings", "top", "any_view"],
        "/predict_batch": ["archive", "any_view"],
    }
    tools = json.loads(get(server.url, "/gradio_api/mcp/schema").read())
    assert sorted(tool["name"] for tool in tools) == ["explain", "predict", "predict_batch"]


def test_another_sites_name_for_this_machine_is_refused(server: Server) -> None:
    assert get(server.url, "/config", Host="example.org").status == 400


@pytest.mark.parametrize("size", [(360, 740), (1280, 900)], ids=["phone", "desktop"])
def test_a_reader_gets_an_answer_with_a_map(
    size: tuple[int, int], server: Server, browser: Browser, dicom: Path
) -> None:
    with watched_page(browser) as page:
        page.set_viewport_size({"width": size[0], "height": size[1]})
        _open(page, server)
        page.set_input_files("input[type=file] >> nth=0", dicom)
        expect(page.get_by_text("Without a threshold")).to_be_visible()
        expect(page.get_by_text("sensitivity 0.80, specificity 0.90")).to_be_visible()
        expect(page.get_by_text(SYNTHETIC).first).to_be_visible()
        expect(page.get_by_text("logit units")).to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth") <= size[0]
        page.get_by_label("Finding on the map").click()
        page.get_by_role("option", name="Hernia").click()
        expect(page.get_by_text("Hernia, by up to").or_(page.get_by_text("raises Hernia")).first).to_be_visible()
    assert PATIENT not in server.log.read_text()
    assert server.kept() == []


def test_a_reader_is_told_what_is_wrong_with_a_file(server: Server, browser: Browser, tmp_path: Path) -> None:
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"<script>alert(1)</script>")
    with watched_page(browser) as page:
        _open(page, server)
        page.set_input_files("input[type=file] >> nth=0", bad)
        expect(page.get_by_text("Not a readable PNG, JPEG or DICOM file.")).to_be_visible()


def test_a_batch_is_read_once(server: Server, browser: Browser, dicom: Path, tmp_path: Path) -> None:
    path = tmp_path / "batch.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.write(dicom, "IM000001")
    with watched_page(browser) as page:
        _open(page, server)
        page.get_by_role("tab", name="Many images").click()
        page.set_input_files("input[type=file] >> nth=1", path)
        expect(page.get_by_role("cell", name=path.name)).to_be_visible()
        page.get_by_role("button", name="Predict").click()
        expect(page.get_by_text("1 of 1 images have an answer.")).to_be_visible()
        expect(page.get_by_role("cell", name="results.csv")).to_be_visible()
        page.get_by_role("button", name="Predict").click()
        expect(page.get_by_text("it was read before; send it again.")).to_be_visible()
    assert server.log.read_text() == ""


def test_a_file_above_the_limit_is_not_taken(server: Server, client: Client, tmp_path: Path) -> None:
    path = tmp_path / "large.png"
    with path.open("wb") as file:
        file.truncate(256 * 1024 * 1024 + 1)
    with pytest.raises(Exception, match=r"413|size"):
        client.predict(handle_file(path), api_name="/predict")
    assert server.kept() == []


def _open(page: Page, server: Server) -> None:
    page.goto(server.url)
    page.get_by_text("Choose an image.").wait_for()


def test_several_models_are_for_the_static_page(tmp_path: Path) -> None:
    done = subprocess.run([COMMAND, "app", tmp_path, tmp_path], capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "--static shows several side by side" in done.stderr
