"""Every recipe under the smoke preset on real radiographs, through the kernel's entry.

Sessions run in this process: one of its own would spend most of its time importing torch.
"""

from __future__ import annotations

import base64
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from unittest.mock import patch

import pytest
import torch
from safetensors.torch import load_file

from chexvision.artifact.load import load_ensemble
from chexvision.cli import main
from chexvision.explain.image_maps import explain_images
from chexvision.hub.repo_files import WEIGHTS
from chexvision.inference.load_predictor import load_predictor
from chexvision.models.untrained import build_model
from chexvision.provenance import Provenance
from chexvision.recipes import dump_resolved, load_recipe, recipe_names
from chexvision.runs.run_progress import read_progress
from chexvision.runs.session import Session
from chexvision.training.history import History, read_history
from chexvision_dispatch.bundle import Bundle, pack
from tests.dispatch.conftest import entry
from tests.training.runs import figures, true_from

__all__ = ["entry"]

# Side of the images where a network does not take 64.
SIZES = {"gatech-inceptionv3": 96, "rad-dino-frozen": 56}
# Two steps an epoch, of two micro-batches each.
QUICK = [
    "data.split=patient",  # the radiographs are all of one part of the public lists
    "data.max_train_images=8",
    "data.max_validation_images=4",
    "optim.batch_size=4",
    "optim.micro_batch_size=2",
]


def quick(name: str) -> list[str]:
    """What makes the smoke preset of a recipe quicker: smaller images, fewer of them, one epoch of each phase."""
    phases = range(len(load_recipe(name, preset="smoke").training.phases))
    epochs = [f"training.phases.{number}.{value}" for number in phases for value in ("epochs=1", "warmup_epochs=0")]
    return [f"data.image_size={SIZES.get(name, 64)}", *QUICK, *epochs]


@pytest.fixture(scope="module")
def shards(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """76 real radiographs of as many patients at 96²."""
    folder = tmp_path_factory.mktemp("real") / "shards"
    metadata = real_data / "Data_Entry_2017_v2020.csv.gz"
    words = [
        "--images",
        real_data / "nih-sample" / "images_001",
        "--metadata",
        metadata,
        "--out",
        folder,
        "--size",
        96,
    ]
    with pytest.raises(SystemExit) as ended:
        main(["shards", "build", *map(str, words)])
    assert ended.value.code == 0
    return folder


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    """The source, and every recipe resolved."""
    recipes = {name: load_recipe(name, preset="smoke", overrides=quick(name)) for name in recipe_names()}
    return pack({f"recipes/{name}.json": dump_resolved(recipe) for name, recipe in recipes.items()})


@pytest.fixture
def home() -> Iterator[Path]:
    """A folder that is removed at once: the states of all networks together are gigabytes."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        yield Path(folder)


class Kernel:
    """Sessions of the kernel's entry, in this process."""

    def __init__(self, entry: ModuleType, bundle: Bundle, shards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._entry, self._bundle, self._shards, self._monkeypatch = entry, bundle, shards, monkeypatch
        self._payload = base64.b85encode(bundle.archive).decode()
        self._provenance = Provenance.here("zoo")
        monkeypatch.setattr(entry, "launch", self._launch)
        self._unpack, self._source = entry.unpack, Path()
        monkeypatch.setattr(entry, "unpack", self._unpack_once)
        monkeypatch.setattr(sys, "path", [*sys.path])  # the entry adds the unpacked source
        monkeypatch.setenv("HF_TOKEN", "")

    def session(self, name: str, folder: Path, to: Path) -> str:
        """Run a session of recipe `name` in `folder`, which publishes to `to`; returns the run's status."""
        (folder / "working").mkdir(parents=True, exist_ok=True)
        self._monkeypatch.chdir(folder / "working")
        run_id = f"{name}-20260101-0000-0001"
        run = {
            "run_id": run_id,
            "bundle_sha256": self._bundle.sha256,
            "arguments": ["train", "--recipe", f"{{bundle}}/recipes/{name}.json", "--data", str(self._shards)],
            "max_hours": None,
            "requested": [],
            "to": str(to),
            "repo_type": "model",
            "process_per_gpu": False,
            "requirements": [],
            "provenance": self._provenance.model_copy(update={"run_id": run_id}).model_dump(),
        }
        assert self._entry.main(run, self._payload) == 0
        progress = read_progress(folder / "working", run_id)
        assert progress is not None
        return progress.status

    def _unpack_once(self, payload: str, sha256: str, scratch: Path) -> Path:
        scratch.mkdir(parents=True, exist_ok=True)
        if not self._source.name:
            self._source = self._unpack(payload, sha256, scratch)
        return self._source

    def _launch(self, command: list[str], environment: Mapping[str, str], secret: str | None) -> tuple[int, bool]:
        words = command[command.index("chexvision") + 1 :]
        with patch.dict(os.environ, environment), pytest.raises(SystemExit) as ended:
            main(words)
        return int(ended.value.code or 0), False


def history_of(artifact: Path) -> History:
    return read_history((artifact / "history.json").read_bytes())


@pytest.mark.parametrize("name", recipe_names())
def test_a_recipe_trains_resumes_exactly_publishes_reloads_predicts_and_is_explained(
    name: str,
    entry: ModuleType,
    bundle: Bundle,
    shards: Path,
    real_data: Path,
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kernel = Kernel(entry, bundle, shards, monkeypatch)
    assert kernel.session(name, home / "uncut", home / "uncut" / "published") == "complete"
    artifact = home / "uncut" / "working" / "artifact"
    history = history_of(artifact)
    phases = load_recipe(name, preset="smoke").training.phases
    assert [epoch.phase for epoch in history] == list(range(1, len(phases) + 1))
    assert all(epoch.grad_norm > 0 for epoch in history)

    # Cut in the middle of the last epoch, and resumed: the same bits.
    published = home / "cut" / "published"
    with monkeypatch.context() as cutting:
        steps = 4 if load_recipe(name, preset="smoke").data.mirror else 2
        stops = true_from(len(phases) * (steps - 1))  # asked between the steps of an epoch
        cutting.setattr(Session, "should_stop", lambda session: stops())
        assert kernel.session(name, home / "cut", published) == "paused"
    assert kernel.session(name, home / "cut", published) == "complete"
    assert figures(history_of(published)) == figures(history)
    assert (published / WEIGHTS).read_bytes() == (artifact / WEIGHTS).read_bytes()

    # What was published is what was trained, and works.
    loaded = load_ensemble(published)
    trained = load_file(artifact / WEIGHTS)
    weights = loaded.members[0].state_dict()
    assert weights.keys() == trained.keys()
    assert all(torch.equal(value, trained[key]) for key, value in weights.items())
    image = min((real_data / "nih-sample").rglob("*.png"))
    predictor = load_predictor(published, "torch")
    answer = predictor.predict(image)
    assert len(answer.probabilities) == 15
    assert all(0 <= value <= 1 for value in answer.probabilities.values())
    (explained,) = explain_images(predictor, [image], home / "overlays", ["Effusion"])
    assert (home / "overlays" / explained.overlays[0].overlay).stat().st_size > 0


@pytest.mark.parametrize("name", recipe_names())
def test_a_network_takes_the_images_of_the_smoke_preset(name: str) -> None:
    recipe = load_recipe(name, preset="smoke")
    with torch.device("meta"):
        model = build_model(recipe).eval()
        logits = model(torch.empty(1, 3, recipe.data.image_size, recipe.data.image_size))
    assert logits["multilabel_logits"].shape == (1, 14)


def test_a_recipe_of_the_zoo_is_dispatched_to_a_process_of_its_own(shards: Path, tmp_path: Path) -> None:
    changes = [word for text in quick("vit-spt") for word in ("--set", text)]
    command = [sys.executable, "-m", "chexvision", "dispatch", "--model", "vit-spt", "--preset", "smoke", *changes]
    command += [
        "--on",
        "local",
        "--data",
        str(shards),
        "--run-dir",
        str(tmp_path / "run"),
        "--to",
        str(tmp_path / "to"),
    ]
    environment = {**os.environ, "HF_TOKEN": "", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    assert len(history_of(tmp_path / "to")) == 1
