"""`chexvision app deploy`: what a Space gets, and what the Hub shows of it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from huggingface_hub import HfApi

from chexvision.app import space_files
from chexvision.cli import main
from chexvision.runtime.export_info import INFO, MODEL
from tests.app.answering_model import write_model
from tests.fakes.fixtures import HUB_TOKEN
from tests.fakes.hub import FakeHub

ROOT = Path(__file__).resolve().parents[2]
SPACE = "chex/xray"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_model(tmp_path / "small")


@pytest.fixture
def published(fake_hub: FakeHub, model: Path) -> str:
    """The commit of a model on the Hub."""
    api = HfApi()
    api.create_repo("chex/small")
    return str(api.upload_folder(repo_id="chex/small", folder_path=model).oid)


def chexvision(*words: object) -> int:
    with pytest.raises(SystemExit) as end:
        main([str(word) for word in words])
    return int(end.value.code or 0)


def front_matter(readme: str) -> dict[str, object]:
    found = yaml.safe_load(readme.split("---\n")[1])
    assert isinstance(found, dict)
    return found


def test_a_static_space_is_one_commit_with_the_pinned_model(
    fake_hub: FakeHub, published: str, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert chexvision("app", "deploy", "chex/small", "--space", SPACE) == 0
    made, initial = fake_hub.commits(SPACE, repo_type="space")
    assert initial.title == "initial commit"
    about = front_matter(made.files["README.md"].decode())
    assert (about["sdk"], about["app_file"], about["models"]) == ("static", "index.html", ["chex/small"])
    assert about["custom_headers"] == space_files._ISOLATED
    assert f"| chex/small | {published} |" in made.files["README.md"].decode()
    (entry,) = json.loads(made.files["models.json"])["models"]
    assert (entry["name"], entry["folder"], entry["revision"]) == ("chex/small", "models/0", published)
    assert made.files[f"models/0/{MODEL}"] == (model / MODEL).read_bytes()
    assert b"<!doctype html>" in made.files["index.html"].lower()
    assert (
        b"connect-src 'self' https://huggingface.co https://*.huggingface.co https://*.hf.co;"
        in made.files["index.html"]
    )
    assert "trained on synthetic images" in made.files["README.md"].decode()
    assert not fake_hub.is_private(SPACE, "space")
    said = capsys.readouterr()
    assert made.sha in said.out and HUB_TOKEN not in said.out + said.err


def test_deploying_again_changes_nothing(
    fake_hub: FakeHub, published: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert chexvision("app", "deploy", "chex/small", "--space", SPACE) == 0
    first = fake_hub.commits(SPACE, repo_type="space")
    capsys.readouterr()
    assert chexvision("app", "deploy", "chex/small", "--space", SPACE) == 0
    assert fake_hub.commits(SPACE, repo_type="space") == first
    assert f"nothing has changed since commit {first[0].sha}" in capsys.readouterr().out


def test_own_files_that_are_gone_are_deleted_and_those_of_others_stay(
    fake_hub: FakeHub, published: str, model: Path
) -> None:
    fake_hub.paid_plan = True
    assert chexvision("app", "deploy", "chex/small", "--space", SPACE, "--gradio") == 0
    HfApi().upload_file(path_or_fileobj=b"mine", path_in_repo="notes.txt", repo_id=SPACE, repo_type="space")
    assert chexvision("app", "deploy", "chex/small", model, "--space", SPACE, "--static") == 0
    made, theirs, _, _ = fake_hub.commits(SPACE, repo_type="space")
    assert "app.py" in theirs.files and "app.py" not in made.files
    assert not [name for name in made.files if name.startswith("chexvision/")]
    assert made.files["notes.txt"] == b"mine"
    assert {f"models/{number}/{INFO}" for number in range(2)} <= set(made.files)


def test_a_gradio_space_needs_a_plan(fake_hub: FakeHub, published: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert chexvision("app", "deploy", "chex/small", "--space", SPACE, "--gradio") == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "for paid plans only (HTTP 402)" in line and line.endswith("which is free: --static")
    assert ("space", SPACE) not in fake_hub.repos


def test_a_private_model_is_not_shown_to_everybody_by_accident(
    fake_hub: FakeHub, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    api = HfApi()
    api.create_repo("chex/hidden", private=True)
    api.upload_folder(repo_id="chex/hidden", folder_path=model)
    assert chexvision("app", "deploy", "chex/hidden", "--space", SPACE) == 2
    assert "add --private, or --public if that is meant" in capsys.readouterr().err
    assert ("space", SPACE) not in fake_hub.repos
    assert chexvision("app", "deploy", "chex/hidden", "--space", SPACE, "--private") == 0
    assert fake_hub.is_private(SPACE, "space")
    assert fake_hub.read(SPACE, f"models/0/{MODEL}", repo_type="space") == (model / MODEL).read_bytes()


@pytest.mark.parametrize("name", ["xray", "./xray", f"{SPACE}@main"])
def test_other_names_than_of_a_space_are_refused(name: str, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert chexvision("app", "deploy", model, "--space", name) == 2
    assert "is not the name of a Space; write USER/NAME" in capsys.readouterr().err


def test_a_dry_run_writes_a_gradio_space_that_starts_without_this_package_and_torch(
    tmp_path: Path, model: Path
) -> None:
    out = tmp_path / "space"
    assert chexvision("app", "deploy", model, "--space", SPACE, "--gradio", "--dry-run", out) == 0
    assert not [path for path in out.rglob("*") if path.suffix == ".safetensors" or path.name == "__pycache__"]
    about = front_matter((out / "README.md").read_text(encoding="utf-8"))
    assert (about["sdk"], about["sdk_version"], about["app_file"]) == ("gradio", space_files.GRADIO, "app.py")
    shutil.rmtree(model)
    code = (
        "import sys\n"
        "for name in ('torch', 'timm', 'scipy', 'sklearn', 'pyarrow', 'kaggle', 'onnx'): sys.modules[name] = None\n"
        "import chexvision.app.gradio_server as server\n"
        "from chexvision.app.space_files import serve_space\n"
        "from pathlib import Path\n"
        "server.launch = lambda predictor, about, *rest: print(server.__file__, about.facts, about.export.test_set)\n"
        "import chexvision.app.gradio_app\n"
        "serve_space(Path('.').resolve())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=out,
        env={**os.environ, "PYTHONPATH": str(out), "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[0].startswith(str(out))
    assert "small@small-20260101-0000-abcd 500 images of the test split" in done.stdout


def test_the_space_pins_what_the_tests_run_with() -> None:
    pins = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line)
    lines = (ROOT / "app/space/requirements.txt").read_text().splitlines()
    required = dict(line.split("==") for line in lines if not line.startswith("#"))
    assert required and required.items() <= pins.items()
    assert pins["gradio"] == space_files.GRADIO
    extras = (ROOT / "pyproject.toml").read_text().partition("\npredict = [")[2].partition("\nexport = [")[0]
    assert {"numpy", "onnxruntime", "pillow", "pyjpegls"} <= required.keys()
    assert all(f'"{name}>=' in extras for name in ("numpy", "onnxruntime", "pillow", "pyjpegls"))
