"""End to end from radiographs to a published checkpoint, by the command line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
import torch
from huggingface_hub import HfApi

from chexvision.artifact.metrics_file import read_metrics
from chexvision.data.division import check_data
from chexvision.data.source import find_shards
from chexvision.evaluation.overlap import TrainingImages
from chexvision.models.classifier import CheXVision
from chexvision.nih.patients import patient_of
from chexvision.recipes import load_recipe
from chexvision_dispatch.gpu_hours import gpu_hours
from tests.conftest import REAL_DATA
from tests.data.mixtures import write_other_shards
from tests.dispatch.measured import TARGET, published_run
from tests.fakes.fixtures import HUB_TOKEN
from tests.fakes.hub import FakeHub
from tests.fakes.kaggle import FakeKaggle
from tests.fakes.kaggle_session import Session
from tests.shards.published import generated_images, real_images, split_as_published, write_published

KAGGLE_TOKEN = "KGAT_right"
EPOCH = "training.phases=[{epochs: 1, lr: 1e-3, min_lr: 1e-5, warmup_epochs: 0.5, freeze: none}]"
QUICK = ["--set", "data.image_size=32", "--set", "data.max_train_images=40", "--set", EPOCH]
ARTIFACT = {"README.md", "config.json", "history.json", "metrics.json", "model.safetensors", "run.json"}
ARTIFACT |= {"training_images.npz", "probabilities.npz"}


def chexvision(*arguments: object, env: dict[str, str] | None = None, cwd: Path | None = None) -> str:
    """The command's stdout; it must succeed."""
    command = [sys.executable, "-m", "chexvision", *map(str, arguments)]
    done = subprocess.run(command, env=env, cwd=cwd, capture_output=True, text=True, check=False, timeout=900)
    assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    return done.stdout


@pytest.fixture
def kaggle(tmp_path: Path, fake_hub: FakeHub) -> FakeKaggle:
    """A Kaggle whose sessions reach the fake Hub and find its token among Kaggle's secrets."""
    return FakeKaggle(
        tmp_path / "fake-kaggle",
        token=KAGGLE_TOKEN,
        session_env={**fake_hub.env, "OMP_NUM_THREADS": "1"},
        secrets={"HF_TOKEN": HUB_TOKEN},
        starts_in="src",
        record_bodies=True,
    )


@dataclass(frozen=True)
class Published:
    """A run that a session published.

    Args:
        run_id: its id.
        printed: by `dispatch`.
        session: that trained it.
        files: of the commit.
        shards: that it was trained on.
        images: their names.
    """

    run_id: str
    printed: str
    session: Session
    files: Mapping[str, bytes]
    shards: Path
    images: tuple[str, ...]

    def record(self, name: str) -> dict[str, Any]:
        """A JSON file of the commit."""
        read: dict[str, Any] = json.loads(self.files[name])
        return read


def test_a_dispatched_run_appears_on_the_hub_in_one_tagged_commit(
    fake_hub: FakeHub, kaggle: FakeKaggle, tmp_path: Path
) -> None:
    images = real_images(REAL_DATA) if REAL_DATA.is_dir() else generated_images(side=40)
    shards = write_published(tmp_path / "shards", images)
    api = HfApi()
    api.create_repo("chex/published", repo_type="dataset")
    pushed = api.upload_folder(repo_id="chex/published", repo_type="dataset", folder_path=shards)
    before = len(fake_hub.requests)
    with kaggle:
        env = kaggle.subprocess_env(token=KAGGLE_TOKEN, base={**os.environ, **fake_hub.env, "HF_TOKEN": HUB_TOKEN})
        command = ["dispatch", "--model", "densenet", "--preset", "smoke", "--data", "chex/published@main", *QUICK]
        printed = chexvision(*command, "--to", "chex/model", env=env, cwd=tmp_path)
        assert "split  official: train 82,346, validation 4,178, test 25,596 images" in printed
        (session,) = kaggle.sessions
        session.wait(900)
        assert session.status == "COMPLETE", session.text[-3000:]

        # One commit besides the initial one, tagged with the run's id.
        run_id = next(word for word in printed.split() if word.startswith("densenet-"))
        commits = fake_hub.commits("chex/model")
        assert commits[0].title == f"Publish run {run_id}"
        assert len(commits) == 2
        assert fake_hub.tags("chex/model") == {run_id: commits[0].sha}
        assert set(commits[0].files) - {".gitattributes"} >= ARTIFACT

        run = Published(run_id, printed, session, commits[0].files, shards, tuple(images))
        assert run.record("run.json")["dataset"] == f"chex/published@{pushed.oid}"
        check_labels_are_read_before_shards(fake_hub, before)
        check_split(run, tmp_path)
        check_records(run)
        check_pulled(run, tmp_path / "pulled", env)
        check_no_token(run, kaggle, tmp_path)


def check_labels_are_read_before_shards(hub: FakeHub, before: int) -> None:
    """The session reads the labels and makes the split before it creates the run's branch and downloads a shard."""
    asked = [(record.method, unquote(record.path), record.status) for record in hub.requests[before:]]
    first_of = {
        "labels": min(i for i, (_, path, status) in enumerate(asked) if status == 206 and "/cdn/" in path),
        "branch": min(i for i, (method, path, _) in enumerate(asked) if method == "POST" and "/branch/" in path),
        "shard": min(i for i, (_, path, status) in enumerate(asked) if status == 200 and "/cdn/" in path),
    }
    assert sorted(first_of, key=first_of.__getitem__) == ["labels", "branch", "shard"], first_of


def check_split(run: Published, folder: Path) -> None:
    """Validation patients are not in training, unlike in the split of the shards; all records agree."""
    metrics = run.record("metrics.json")
    expected = check_data(run.shards, load_recipe("densenet").data)
    split = json.loads(expected.record.model_dump_json())
    assert run.record("run.json")["split"] == metrics["division"] == split
    assert (split["rule"], split["validation_share"]) == ("official", 0.05)
    patients = {name: set(rows.patients.tolist()) for name, rows in expected.rows.items()}
    assert not patients["train"] & patients["validation"] | patients["train"] & patients["test"]
    lying: dict[str, set[int]] = {}
    for name in run.images:
        lying.setdefault(split_as_published(name), set()).add(patient_of(name))
    assert lying["train"] & lying["validation"]
    assert metrics["systems"][0]["metrics"]["images_sha256"] == split["parts"]["test"]["images_sha256"]
    card = run.files["README.md"].decode()
    assert "Split: the release's official test list" in card and " 5 % of the other patients." in card
    assert f"| validation | {len(expected.rows['validation'])} | {len(patients['validation'])} |" in card
    (folder / "training_images.npz").write_bytes(run.files["training_images.npz"])
    seen = TrainingImages.read(folder / "training_images.npz")
    source = find_shards(run.shards)
    of = {name: seen.overlap("model", name, rows, source) for name, rows in expected.rows.items()}
    assert 0 < (of["train"].trained_images or 0) <= 40
    assert [of[name].trained_patients for name in ("validation", "test")] == [0, 0]


def check_records(run: Published) -> None:
    """The origin of the run, its card, and the duration that the next dispatch of the recipe uses."""
    provenance = run.record("run.json")["provenance"]
    assert provenance["run_id"] == run.run_id
    assert provenance["target"] == "kaggle"
    assert len(provenance["bundle_sha256"]) == 64
    assert len(json.loads(run.files["history.json"])) == 1
    card = run.files["README.md"].decode()
    assert f"chexvision predict chex/model@{run.run_id} chest.png" in card
    assert "USER" not in card
    published_run(run.session.working / "artifact")
    recipe = load_recipe("densenet", preset="smoke", overrides=QUICK[1::2])
    assert gpu_hours(recipe, TARGET).measured


def check_pulled(run: Published, out: Path, env: dict[str, str]) -> None:
    """The pulled model equals the trained one bit for bit."""
    trained = CheXVision.from_pretrained(run.session.working / "artifact")
    pulled = CheXVision.from_pretrained("chex/model", revision=run.run_id)
    batch = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        for head, output in trained(batch).items():
            assert torch.equal(output, pulled(batch)[head])
    chexvision("pull", f"chex/model@{run.run_id}", "--out", out, env=env)
    assert {path.name for path in out.iterdir()} >= ARTIFACT


def check_no_token(run: Published, kaggle: FakeKaggle, folder: Path) -> None:
    """No token was sent in clear, printed or left behind."""
    session = run.session
    for secret in (HUB_TOKEN.encode(), KAGGLE_TOKEN.encode()):
        assert not any(secret in body.data for body in kaggle.bodies)
        assert secret not in run.printed.encode() + session.text.encode()
        for path in [*folder.rglob("*.json"), *session.folder.rglob("*")]:
            if path.is_file() and not path.is_relative_to(session.folder / "site"):
                assert secret not in path.read_bytes(), path
    assert not any(record.leaked for record in kaggle.requests)


def test_a_dispatched_mixture_is_trained_on_both_datasets_at_their_commits(
    fake_hub: FakeHub, kaggle: FakeKaggle, synthetic_shards: Path, tmp_path: Path
) -> None:
    folders = {"chex/synthetic": synthetic_shards, "chex/other": write_other_shards(tmp_path / "other")}
    pinned = []
    for name, folder in folders.items():
        HfApi().create_repo(name, repo_type="dataset")
        pinned.append(f"{name}@{HfApi().upload_folder(repo_id=name, repo_type='dataset', folder_path=folder).oid}")
    datasets = json.dumps([{"name": f"{name}@main"} for name in folders])
    settings = (f"data.datasets={datasets}", "data.split=shards", "model.backbone=se_resnet18_slim")
    recipe = [*QUICK, *(word for of in settings for word in ("--set", of))]
    with kaggle:
        env = kaggle.subprocess_env(token=KAGGLE_TOKEN, base={**os.environ, **fake_hub.env, "HF_TOKEN": HUB_TOKEN})
        command = ["dispatch", "--model", "scratch", "--preset", "smoke", *recipe, "--to", "chex/mixed"]
        chexvision(*command, env=env, cwd=tmp_path)
        (session,) = kaggle.sessions
        session.wait()
        assert session.status == "COMPLETE", session.text[-3000:]
    files = fake_hub.commits("chex/mixed")[0].files
    run, metrics = json.loads(files["run.json"]), json.loads(files["metrics.json"])
    assert [of["dataset"] for of in run["datasets"]] == pinned
    assert [of["name"] for of in run["recipe"]["data"]["datasets"]] == pinned
    assert [of["dataset_identity"] for of in run["datasets"]] == [find_shards(of).identity for of in folders.values()]
    assert [of["dataset"] for of in metrics["mixture"]] == pinned
    assert {"Fracture", "Hernia"} <= set(json.loads(files["config.json"])["label_space"]["findings"])
    card = files["README.md"].decode()
    assert f"Trained on a mixture of `{pinned[0]}`, `{pinned[1]}`" in card
    assert card.startswith("---\ndatasets:\n- chex/synthetic\n- chex/other\n")


@pytest.fixture(scope="module")
def real_shards(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The real radiographs as shards."""
    shards = tmp_path_factory.mktemp("real") / "shards"
    metadata = real_data / "Data_Entry_2017_v2020.csv.gz"
    sample = real_data / "nih-sample"
    chexvision("shards", "build", "--images", sample, "--metadata", metadata, "--out", shards, "--size", 128)
    return shards


def test_real_radiographs_are_trained_on_and_predicted(real_data: Path, real_shards: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    env = {**os.environ, "HF_TOKEN": ""}
    command = ["dispatch", "--model", "scratch", "--on", "local", "--data", real_shards, "--preset", "smoke"]
    settings = ("training.phases.0.epochs=2", "data.image_size=32", "data.max_train_images=40")
    quick = [word for setting in settings for word in ("--set", setting)]
    chexvision(*command, *quick, "--run-dir", run, env=env, cwd=tmp_path)
    artifact = run / "working" / "artifact"
    history = json.loads((artifact / "history.json").read_text())
    assert [entry["epoch"] for entry in history] == [1, 2]
    assert set(read_metrics(artifact / "metrics.json").splits) == {"validation", "test"}
    image = min((real_data / "nih-sample").rglob("*.png"))
    (prediction,) = json.loads(chexvision("predict", artifact, image, "--json"))
    assert len(prediction["probabilities"]) == 15
    assert all(0 <= value <= 1 for value in prediction["probabilities"].values())
