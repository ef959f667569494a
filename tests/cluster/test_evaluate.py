"""`evaluate --on ray`: the files of one machine, whatever fails."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
import pytest
from accelerate import Accelerator
from huggingface_hub import HfApi

from chexvision.cli import main
from chexvision.cluster import ray_evaluate
from chexvision.cluster.evaluate_tasks import Asked, Node, describe, model_files, pieces_of, probabilities
from chexvision.cluster.ray_evaluate import OnRay, computing_on_ray
from chexvision.cluster.task_pool import TASK_IMAGES, TaskPool
from chexvision.data.rows import Rows, read_rows
from chexvision.data.source import find_labels, find_shards
from chexvision.errors import ChexError
from chexvision.evaluation.computing import BATCH, Compute, OnThisMachine
from chexvision.evaluation.evaluate import evaluate
from chexvision.evaluation.outcome import FurtherData, Options
from chexvision.hub.reference import Reference, RepoRef
from chexvision.metrics.records import IntervalMethod
from chexvision.report.html import write_report
from chexvision.synthetic.synthesize import synthesize
from tests.cluster.conftest import TwoNodes, wait_until
from tests.cluster.gated import at_gate, waiting
from tests.cluster.test_build_ray import in_a_thread
from tests.evaluation.conftest import tiny_model
from tests.fakes.fixtures import hub_here, waits
from tests.fakes.hub import FakeHub
from tests.shards.conftest import tree

__all__ = ["tiny_model", "waits"]

DATA = "chex/first"

T = TypeVar("T")
Model = Callable[[int], Path]
PLAIN = Options(method=IntervalMethod(resamples=100, seed=0))


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two datasets; the test split of the first has three shards, validation has two."""
    folder = tmp_path_factory.mktemp("shards")
    for name, images, seed in (("first", 400, 1), ("second", 150, 2)):
        out = folder / name
        synthesize(
            out, images=images, seed=seed, size=32, encoding="png", shard_bytes=80_000, workers=2, overwrite=False
        )
    return folder / "first", folder / "second"


def here() -> OnThisMachine:
    return OnThisMachine(Accelerator(cpu=True))


def evaluated(models: list[Path], data: Reference, options: Options, compute: Compute, out: Path) -> dict[str, bytes]:
    """The files of an evaluation, with its report but for the maps."""
    outcome = evaluate([of.name for of in models], models, data, options, compute)
    write_report(outcome, out, "2026-01-01T00:00:00Z")
    return tree(out)


class InThisProcess:
    """A `TaskPool` without a cluster: tasks are done in the reverse order, and after `most` of them no more."""

    def __init__(self, most: int = 1000) -> None:
        self.most = most
        self.done = 0

    def computed(
        self,
        function: Callable[..., Any],
        tasks: Iterator[T],
        arguments: Callable[[T], tuple[object, ...]],
        what: Callable[[T], str],
    ) -> Iterator[tuple[T, Any]]:
        for task in reversed([*tasks]):
            if self.done == self.most:
                raise ChexError("the command was cut off")
            found = function(*arguments(task))
            if isinstance(found, ChexError):
                raise found
            self.done += 1
            yield task, found


def on(pool: InThisProcess, kept: Path) -> OnRay:
    node = describe("fp32")
    assert isinstance(node, Node)
    kept.mkdir(exist_ok=True)
    return OnRay(cast("TaskPool", pool), node, "fp32", kept)


def test_files_are_those_of_one_machine_though_a_node_is_killed(
    two_nodes: TwoNodes,
    shards: tuple[Path, Path],
    tiny_model: Model,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gate = tmp_path / "gate"
    gate.mkdir()
    monkeypatch.setattr(ray_evaluate, "probabilities", at_gate(probabilities, gate))
    models, out = [tiny_model(0)], tmp_path / "cluster"
    with computing_on_ray(out, two_nodes.address, None, "fp32") as compute:
        end = in_a_thread(lambda: evaluated(models, shards[0], PLAIN, compute, out))
        try:
            wait_until(lambda: len(waiting(gate)) == 2)  # each node has begun a task
            two_nodes.kill()
            two_nodes.join()
            wait_until(lambda: len(waiting(gate)) == 3)  # the new node has begun one too
        finally:
            (gate / "go").touch()
        end()
    assert tree(out) == evaluated(models, shards[0], PLAIN, here(), tmp_path / "here")
    assert not (tmp_path / "cluster.tasks").exists()


def test_an_evaluation_that_was_cut_off_is_continued(
    shards: tuple[Path, Path], tiny_model: Model, tmp_path: Path
) -> None:
    models = [tiny_model(0), tiny_model(1)]
    options = replace(PLAIN, tta="flip", weights="validation", further=(FurtherData(shards[1]),))
    first, second = InThisProcess(most=7), InThisProcess()
    with pytest.raises(ChexError, match="cut off"):
        evaluated(models, shards[0], options, on(first, tmp_path / "kept"), tmp_path / "cluster")
    found = evaluated(models, shards[0], options, on(second, tmp_path / "kept"), tmp_path / "cluster")
    assert first.done == 7 and len([*(tmp_path / "kept").iterdir()]) == first.done + second.done
    assert "datasets/2/predictions.parquet" in found
    assert found == evaluated(models, shards[0], options, here(), tmp_path / "here")


def test_of_shards_on_the_hub_only_those_that_are_measured_are_fetched(
    shards: tuple[Path, Path], tiny_model: Model, tmp_path: Path, waits: list[float]
) -> None:
    options = replace(PLAIN, choose_on=None)
    with hub_here(tmp_path / "hub", FakeHub):
        HfApi().create_repo(DATA, repo_type="dataset")
        sha = HfApi().upload_folder(repo_id=DATA, folder_path=shards[0], repo_type="dataset").oid
        found = evaluated([tiny_model(0)], RepoRef(DATA, sha), options, on(InThisProcess(), tmp_path), tmp_path / "a")
        paths = [path for paths in find_labels(RepoRef(DATA, sha)).shards.values() for path in paths]
    expected = evaluated([tiny_model(0)], shards[0], options, here(), tmp_path / "b")
    assert found["predictions.parquet"] == expected["predictions.parquet"]
    assert [path for path in paths if path.is_file()] == [path for path in paths if path.name.startswith("test-")]


def test_pieces_are_whole_batches_of_one_shard() -> None:
    rows = Rows(
        *(np.array([f"{i}.png" for i in range(1300)]), np.zeros((1300, 14), np.float32), np.arange(1300)),
        *(np.repeat([3, 5], [1200, 100]).astype(np.int32), np.arange(1300)),
    )
    pieces = [*pieces_of(rows, whole=False)]
    assert [len(of.rows) for of in pieces] == [TASK_IMAGES, TASK_IMAGES, 1200 - 2 * TASK_IMAGES, 100]
    assert [of.begin for of in pieces] == [0, TASK_IMAGES, 2 * TASK_IMAGES, 1200]
    assert TASK_IMAGES % BATCH == 0
    assert [(of.begin, of.end) for of in pieces_of(rows, whole=True)] == [(0, 1200), (1200, 1300)]


def test_a_node_that_would_answer_otherwise_is_refused(
    shards: tuple[Path, Path], tiny_model: Model, tmp_path: Path
) -> None:
    node, source = describe("fp32"), find_shards(shards[0])
    assert isinstance(node, Node)
    piece = next(pieces_of(read_rows(source.shards)["test"], whole=True))
    model = tiny_model(0)
    asked = Asked(str(model), model_files(model), source.name, source.identity, "none", "fp32", node)
    found = probabilities(asked, piece.rows, None)
    assert not isinstance(found, ChexError) and found.shape == (len(piece.rows), 15)
    refused = {
        "computes on cpu in no, or has other versions": replace(asked, node=replace(node, versions=("torch 1",))),
        "model0 has other files on node": replace(asked, model_files="0"),
        "first has other files on node": replace(asked, identity="0"),
        "gone is not there on node": replace(asked, data=str(tmp_path / "gone")),
    }
    for message, other in refused.items():
        answer = probabilities(other, piece.rows, None)
        assert isinstance(answer, ChexError) and message in str(answer) and "\n" not in str(answer)
        assert piece.key(other) != piece.key(asked)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--workers", "2"], "--workers is for --on ray"),
        (["--address", "node0:6379"], "--address node0:6379 is for --on ray; add it"),
        (["--on", "ray", "--external", "labels.csv"], "--external is for --on here"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(
    capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["evaluate", "model", "--data", "shards", "--out", "out", *options])
    error = capsys.readouterr().err
    assert (ended.value.code, error.count("\n")) == (2, 1) and message in error
