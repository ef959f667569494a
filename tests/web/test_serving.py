"""`chexvision app --static`: what it serves, and how it ends."""

from __future__ import annotations

import http.client
import json
import shutil
import signal
import socket
import subprocess
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from huggingface_hub import HfApi

from chexvision.app.page_files import find_model, page_files
from chexvision.app.page_server import TYPES, PageServer
from chexvision.errors import ChexError, UsageError
from chexvision.runtime.export_info import INFO, MODEL
from tests.fakes.hub import FakeHub
from tests.web.conftest import COMMAND


def get(url: str, path: str, method: str = "GET", **headers: str) -> http.client.HTTPResponse:
    """One request with exactly this path, which clients would tidy up."""
    address = urlsplit(url)
    assert address.hostname
    connection = http.client.HTTPConnection(address.hostname, address.port, timeout=300)
    connection.request(method, path, headers=headers)
    return connection.getresponse()


def test_the_page_its_models_and_nothing_else_is_served(site: str, echo_model: Path) -> None:
    assert b"<!doctype html>" in get(site, "/").read().lower()
    assert get(site, "/models/0/onnx/model.json").read() == (echo_model / INFO).read_bytes()
    assert get(site, "/models/0/onnx/model.onnx?again").read() == (echo_model / MODEL).read_bytes()
    config = json.loads(get(site, "/models.json").read())
    assert config == {"models": [{"name": "echo", "folder": "models/0", "url": None, "revision": None}]}


@pytest.mark.parametrize(
    "path",
    [
        "/models/0/config.json",
        "/models/0/",
        "/models/1/onnx/model.onnx",
        "/assets/",
        "/assets",
        "/../index.html",
        "/assets/../../package.json",
        "/assets/%2e%2e/%2e%2e/package.json",
        "/..%2f..%2f..%2f..%2fetc/passwd",
        "//etc/passwd",
        "/index.html%00.js",
        "http://127.0.0.1/%2e%2e/package.json",
    ],
)
def test_other_paths_are_not_found(path: str, site: str) -> None:
    assert get(site, path).status == 404


def test_headers_isolate_the_page_and_name_the_types(site: str) -> None:
    answer = get(site, "/")
    assert answer.headers["Cross-Origin-Opener-Policy"] == "same-origin"
    assert answer.headers["Cross-Origin-Embedder-Policy"] == "require-corp"
    assert "default-src 'self'" in answer.headers["Content-Security-Policy"]
    assert answer.headers["Server"] == "chexvision"
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    assert get(site, "/chexvision.js").headers["Content-Type"] == "text/javascript; charset=utf-8"


def test_a_file_that_the_browser_has_is_not_sent_again(site: str) -> None:
    tag = get(site, "/models/0/onnx/model.onnx").headers["ETag"]
    answer = get(site, "/models/0/onnx/model.onnx", **{"If-None-Match": tag})
    assert answer.status == 304
    assert answer.read() == b""


def test_head_gives_the_size_alone(site: str, echo_model: Path) -> None:
    answer = get(site, "/models/0/onnx/model.onnx", "HEAD")
    assert answer.headers["Content-Length"] == str((echo_model / MODEL).stat().st_size)
    assert answer.read() == b""


def test_another_sites_name_for_this_machine_is_refused(site: str) -> None:
    assert get(site, "/models.json", Host="example.org").status == 403


def test_every_file_of_the_built_page_has_a_type(echo_model: Path) -> None:
    names = page_files([find_model(str(echo_model))])
    assert {Path(name).suffix for name in names} - {".onnx"} <= TYPES.keys()


def test_a_model_on_the_hub_is_served_at_the_commit_that_it_has_now(fake_hub: FakeHub, echo_model: Path) -> None:
    api = HfApi()
    api.create_repo("chex/echo")
    commit = api.upload_folder(repo_id="chex/echo", folder_path=echo_model)
    model = find_model("chex/echo")
    assert (model.name, model.revision) == ("chex/echo", commit.oid)
    assert model.url == f"{api.endpoint}/chex/echo/tree/{commit.oid}"
    assert model.model.read_bytes() == (echo_model / MODEL).read_bytes()


def test_a_model_without_an_export_is_named_with_the_command(tmp_path: Path, echo_model: Path) -> None:
    shutil.copytree(echo_model, tmp_path / "model")
    (tmp_path / "model" / INFO).unlink()
    with pytest.raises(ChexError, match=r"has no onnx/model\.json; write it: chexvision export "):
        find_model(str(tmp_path / "model"))


def test_an_export_of_other_bytes_is_refused(tmp_path: Path, echo_model: Path) -> None:
    shutil.copytree(echo_model, tmp_path / "model")
    with (tmp_path / "model" / MODEL).open("ab") as file:
        file.write(b"more")
    with pytest.raises(ChexError, match="is not what"):
        find_model(str(tmp_path / "model"))


def test_a_damaged_description_is_one_line(tmp_path: Path, echo_model: Path) -> None:
    shutil.copytree(echo_model, tmp_path / "model")
    (tmp_path / "model" / INFO).write_text('{"format": 7}', encoding="utf-8")
    with pytest.raises(ChexError, match="is damaged or newer"):
        find_model(str(tmp_path / "model"))


def test_a_port_in_use_and_a_foreign_host_are_usage_errors() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UsageError, match=f"port {port} is in use; choose another with --port"):
            PageServer({}, "127.0.0.1", port)
    with pytest.raises(UsageError, match="not an address of this machine"):
        PageServer({}, "192.0.2.7", 0)
    with pytest.raises(UsageError, match="port 70000"):
        PageServer({}, "127.0.0.1", 70_000)


def test_a_missing_folder_is_exit_code_2_without_a_traceback() -> None:
    done = subprocess.run([COMMAND, "app", "./nowhere", "--static"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert len(done.stderr.splitlines()) == 1


def test_ctrl_c_ends_it_with_exit_code_0(echo_model: Path) -> None:
    command = [str(COMMAND), "app", "--static", "--no-browser", "--port", "0", str(echo_model)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout and process.stderr
        assert get(process.stdout.readline().split()[0], "/").status == 200
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=300) == 0
        assert process.stderr.read() == ""
