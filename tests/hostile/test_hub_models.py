"""Models on the Hub: an incomplete one is an error, and a hostile one writes no files."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from huggingface_hub import HfApi, constants, hf_hub_download

import tests.training.runs  # noqa: F401 - registers the backbone "tiny"
from chexvision.artifact.load import load_model
from chexvision.artifact.store import HubStore
from chexvision.cli import main
from chexvision.errors import ChexError
from chexvision.hub.reference import RepoRef
from chexvision.hub.repo_files import at_commit
from chexvision.images.preprocessing import Preprocessing
from chexvision.labels import NIH
from chexvision.metrics.calibration import Calibration, Curve
from chexvision.metrics.thresholds import ChosenOn
from chexvision.models.classifier import CheXVision
from chexvision.predict.operating_files import load_operating_points
from chexvision.predict.published import read_published
from tests.fakes.fixtures import hub_here
from tests.fakes.hub import FakeHub

REPO = "chex/model"
NAMES = NIH.outputs


def artifact(folder: Path, *, intercept: float | None) -> Path:
    """A model as published; without calibration for None."""
    torch.manual_seed(0)
    CheXVision(backbone="tiny", hidden_features=0, preprocessing=Preprocessing(image_size=32)).save_pretrained(folder)
    for name in ("history.json", "metrics.json", "run.json"):
        (folder / name).write_text("{}\n")
    (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n")
    if intercept is not None:
        where = ChosenOn(dataset="d", split="validation", images=3, images_sha256="0" * 64)
        curves: dict[str, Curve | None] = {name: Curve(slope=1.0, intercept=intercept) for name in NAMES}
        made = Calibration(method="platt", chosen_on=where, curves=curves)
        (folder / "calibration.json").write_text(made.model_dump_json())
    return folder


@pytest.fixture
def hub(tmp_path: Path, waits: list[float]) -> Iterator[FakeHub]:
    with hub_here(tmp_path / "hub", FakeHub) as hub:
        yield hub


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "chest.png"
    cv2.imwrite(str(path), np.random.default_rng(0).integers(0, 255, (40, 40), dtype=np.uint8))
    return path


def run(capfd: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    capfd.readouterr()
    with pytest.raises(SystemExit) as ended:
        main([str(word) for word in words])
    said = capfd.readouterr()
    return int(ended.value.code or 0), said.out, said.err


def abnormal(said: str) -> float:
    return float(json.loads(said)[0]["probabilities"]["Abnormal"])


def unreachable(hub: FakeHub) -> None:
    """The Hub does not answer any more, and open connections of the client are closed."""
    hub.close()


@pytest.mark.parametrize("named", ["tag", "sha", "main"])
@pytest.mark.parametrize("why", ["unreachable", "offline"])
def test_an_uncached_calibration_is_an_error_and_not_ignored(
    hub: FakeHub, image: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
    named: str, why: str,
) -> None:  # fmt: skip
    sha = HubStore(REPO).publish(artifact(tmp_path / "artifact", intercept=-3.0), "v1").revision
    reference = {"tag": f"{REPO}@v1", "sha": f"{REPO}@{sha}", "main": REPO}[named]
    revision = {"tag": "v1", "sha": sha, "main": None}[named]
    for name in ("config.json", "model.safetensors"):
        hf_hub_download(REPO, name, revision=revision)
    if why == "offline":
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    else:
        unreachable(hub)
    code, out, error = run(capfd, "predict", reference, image)
    assert (code, out) == (1, "")
    message = error.splitlines()[-1]
    assert message.startswith("error: model chex/model@") and "(fetching calibration.json)" in message
    assert ("HF_HUB_OFFLINE is set" if why == "offline" else "the Hub did not answer") in message
    assert "chexvision pull" in message
    assert "Traceback" not in error


def test_a_completely_cached_model_predicts_the_same_offline(
    hub: FakeHub, image: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    HubStore(REPO).publish(artifact(tmp_path / "artifact", intercept=-3.0), "v1")
    online = run(capfd, "predict", f"{REPO}@v1", image, "--json")
    unreachable(hub)
    offline = run(capfd, "predict", f"{REPO}@v1", image, "--json")
    assert online[0] == offline[0] == 0
    assert online[1] == offline[1]
    raw = run(capfd, "predict", artifact(tmp_path / "raw", intercept=None), image, "--json")
    assert abnormal(raw[1]) > 2 * abnormal(online[1])


def test_a_model_without_calibration_predicts_offline_after_one_online_load(
    hub: FakeHub, image: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    HubStore(REPO).publish(artifact(tmp_path / "artifact", intercept=None), "v1")
    online = run(capfd, "predict", f"{REPO}@v1", image, "--json")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert run(capfd, "predict", f"{REPO}@v1", image, "--json")[:2] == online[:2]
    assert online[0] == 0


def test_weights_and_calibration_are_from_one_commit(hub: FakeHub, tmp_path: Path) -> None:
    HubStore(REPO).publish(artifact(tmp_path / "first", intercept=-1.0), "first")
    reference = at_commit(RepoRef(REPO))
    HubStore(REPO).publish(artifact(tmp_path / "second", intercept=-2.0), "second")
    load_model(reference)
    points = load_operating_points(reference)
    assert points.calibration is not None
    first = points.calibration.curves["Mass"]
    newest = read_published(RepoRef(REPO)).points.calibration
    assert newest is not None
    second = newest.curves["Mass"]
    assert first is not None and second is not None
    assert (first.intercept, second.intercept) == (-1.0, -2.0)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("chex/none", "has no model chex/none"),
        (f"{REPO}@none", "has no revision none"),
        ("chex/empty", "has no config.json"),
    ],
)
def test_missing_hub_models_are_one_line_errors(
    hub: FakeHub, image: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], name: str, message: str
) -> None:
    HubStore(REPO).publish(artifact(tmp_path / "artifact", intercept=None), "v1")
    HfApi().create_repo("chex/empty")
    code, out, error = run(capfd, "predict", name, image)
    assert (code, out) == (1, "")
    assert message in error and error.count("\n") == 1


HOSTILE_PATHS = {
    "traversal": "../../../../../../../../STRAY",
    "traversal out of a folder": "figures/../../../../STRAY",
    "absolute": "/ABSOLUTE/STRAY",
    "the folder above": "..",
    "Windows": "a\\..\\..\\STRAY",
    "terminal escapes": "x\x1b[2J.txt",
    "too long": "n" * 400,
}


@pytest.mark.parametrize("path", HOSTILE_PATHS.values(), ids=HOSTILE_PATHS.keys())
def test_pulling_a_repository_with_hostile_file_names_writes_nothing_outside(
    hub: FakeHub, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    HubStore(REPO).publish(artifact(tmp_path / "artifact", intercept=None), "v1")
    outside = tmp_path / "outside"
    outside.mkdir()
    stray = f"stray-{tmp_path.name}.txt"  # a name unique to this test: others leave files next to its folder
    path = path.replace("/ABSOLUTE", str(outside)).replace("STRAY", stray)
    repo = hub.repos["model", REPO]
    head = repo.history("main")[0]
    # No client can commit such a path; an untrusted server can serve it.
    evil = repo.regular(path, b"evil")
    repo.branches["main"] = repo.commit(head.sha, "evil", "", {**head.entries, path: evil}).sha
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    cache = Path(constants.HF_HUB_CACHE)
    code, _, error = run(capfd, "pull", REPO, "--out", "model")
    strays = [
        found
        for found in tmp_path.parent.rglob(f"*{stray}*")
        if not found.is_relative_to(cache) and not found.is_relative_to(work / "model")
    ]
    assert strays == []
    assert list(outside.iterdir()) == []
    assert {child.name for child in work.iterdir()} <= {"model"}
    if code == 0:
        assert all(found.resolve().is_relative_to(work) for found in (work / "model").rglob("*"))
    else:
        assert code == 1
        assert error.splitlines()[-1].startswith("error: ") and error.splitlines()[-1].isprintable()
        assert "Traceback" not in error
        assert not (work / "model").exists()


def test_a_revision_of_a_local_folder_is_refused_by_the_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    artifact(tmp_path / "chex" / "model", intercept=None)
    for name in (REPO, f"./{REPO}", tmp_path / REPO):
        with pytest.raises(ChexError, match="is a folder here, which has no revision 'v1'"):
            CheXVision.from_pretrained(name, revision="v1")
    CheXVision.from_pretrained(REPO)
