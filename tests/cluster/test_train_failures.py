"""What the command makes of workers that fail; no cluster is started."""

from __future__ import annotations

import errno
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from chexvision import __version__
from chexvision.cluster import ray_train
from chexvision.cluster.train_worker import MARK, Task, _check_shared, _report, train_worker
from chexvision.data.loader import Rank
from chexvision.errors import ChexError, UsageError
from chexvision.provenance import Provenance
from chexvision.recipes import load_recipe
from chexvision.training import processes
from chexvision.training.checkpoint import load_state
from chexvision.training.training_session import TrainingJob
from tests.cluster.tiny_job import run_tiny_job


class Workers:
    """Stands for the workers and their desk: what each try ends with, and how many states were saved by then."""

    def __init__(self, *tries: tuple[Any, int]) -> None:
        self.tries = list(tries)
        self.saved = 0
        self.saves = SimpleNamespace(remote=lambda: self.saved)

    def __call__(self, fit: Callable[[], Any], desk: Any, look: Callable[[], None]) -> Any:
        outcome, self.saved = self.tries.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


def failed(*errors: Exception) -> Exception:
    from ray.train import WorkerGroupError

    return WorkerGroupError("", dict(enumerate(errors)))


@pytest.fixture
def until_done(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[Workers], Any]:
    monkeypatch.setattr("ray.get", lambda value: value)
    job = TrainingJob(load_recipe("scratch"), tmp_path, tmp_path, Provenance.here("tiny"))

    def run(workers: Workers) -> Any:
        monkeypatch.setattr(ray_train, "_attended", workers)
        task = Task(run_tiny_job, job, workers, tmp_path, stored=False, run_name="tiny", terminal=None)
        return ray_train._until_done(task, 2, {"CPU": 1}, storage="")

    return run


def test_workers_start_again_for_as_long_as_states_are_saved(
    until_done: Callable[[Workers], Any], capsys: pytest.CaptureFixture[str]
) -> None:
    lost = [(failed(RuntimeError("Connection closed\nby peer")), saved) for saved in (0, 1, 1, 2, 2)]
    assert until_done(Workers(*lost, ("trained", 3))) == "trained"
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 5
    why = "a worker failed (RuntimeError: Connection closed by peer)"
    assert lines[0] == f"{why}; continuing from the saved state"


def test_a_worker_that_hangs_is_replaced(
    until_done: Callable[[Workers], Any], capsys: pytest.CaptureFixture[str]
) -> None:
    from ray.train.v2._internal.exceptions import WorkerHealthCheckTimeoutError

    hangs = WorkerHealthCheckTimeoutError("A worker health check has been hanging for 600.1 seconds.")  # type: ignore[no-untyped-call]
    assert until_done(Workers((failed(hangs), 0), ("trained", 1))) == "trained"
    assert capsys.readouterr().err == "a worker hangs: it did not answer; continuing from the saved state\n"


def test_workers_that_fail_without_saving_a_state_end_the_run(until_done: Callable[[Workers], Any]) -> None:
    faulty = [(failed(ValueError("a fault")), 1)] * 3
    workers = Workers((failed(ValueError("a fault")), 1), *faulty)
    with pytest.raises(ChexError, match=r"failed 3 times in a row without saving a state, .*ValueError: a fault"):
        until_done(workers)
    assert len(workers.tries) == 1


@pytest.mark.parametrize("kind", [UsageError, ChexError])
def test_what_is_known_to_be_wrong_ends_the_run_as_on_one_machine(
    until_done: Callable[[Workers], Any], kind: type[ChexError]
) -> None:
    workers = Workers((failed(RuntimeError("Connection closed by peer"), kind("no such shards")), 0))
    with pytest.raises(kind, match=r"^no such shards$"):
        until_done(workers)


def test_a_folder_that_the_nodes_do_not_share_is_refused(tmp_path: Path) -> None:
    job = TrainingJob(load_recipe("scratch"), tmp_path, tmp_path / "work", Provenance.here("tiny"))
    with pytest.raises(UsageError, match=r"--work .*work is not the same folder on all nodes; .*--storage URL"):
        _check_shared(job)
    job.work.mkdir()
    (job.work / MARK).write_text(job.provenance.run_id)
    _check_shared(job)


def test_processes_of_different_versions_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    rank, others = Rank(torch.device("cpu"), 0, 2), list[str]()
    monkeypatch.setattr(processes, "gather_object", lambda mine: mine + others)
    others[:] = [f"chexvision {__version__} and torch {torch.__version__}"]
    processes.check_same_versions(rank)
    others[:] = [f"chexvision {__version__} and torch 1.0"]
    with pytest.raises(UsageError, match=r"process 1 has chexvision .* and torch 1.0, the first process .*same ones"):
        processes.check_same_versions(rank)


class FakeDesk:
    """A desk that gets a line from a worker whenever it is looked at."""

    def __init__(self) -> None:
        self.stopped = threading.Event()
        self.note = ""
        self.taken = SimpleNamespace(remote=lambda: [("stdout", "a step\n"), ("stderr", "a warning\n")])
        self.request_stop = SimpleNamespace(remote=self._stop)

    def _stop(self, note: str) -> None:
        self.note = note
        self.stopped.set()


def test_ctrl_c_asks_the_workers_to_end_and_the_second_one_ends_at_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("ray.get", lambda value: value)
    desk, before = FakeDesk(), signal.getsignal(signal.SIGINT)

    def fit() -> str:
        os.kill(os.getpid(), signal.SIGINT)
        assert desk.stopped.wait(300)
        return "paused"

    assert ray_train._attended(fit, desk) == "paused"
    assert desk.note == "it received SIGINT"
    printed = capsys.readouterr()
    assert "a step" in printed.out and "a warning" in printed.err
    assert printed.err.count("ending at the next step, with the state saved; once more ends at once") == 1

    again = FakeDesk()

    def hang() -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        again.stopped.wait(300)
        os.kill(os.getpid(), signal.SIGTERM)
        threading.Event().wait(300)

    with pytest.raises(KeyboardInterrupt):
        ray_train._attended(hang, again)
    assert signal.getsignal(signal.SIGINT) is before


def test_a_state_on_another_machine_than_the_first_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(processes, "gather_object", lambda mine: [False, *mine])
    (tmp_path / "state.pt").touch()
    with pytest.raises(UsageError, match=r"state.pt is on the machine of process 1 and not on that of the first"):
        load_state(tmp_path / "state.pt", rank=Rank(torch.device("cpu"), 1, 2))


def test_a_storage_without_the_state_that_the_folder_has_is_refused(tmp_path: Path) -> None:
    work, storage = tmp_path / "work", str(tmp_path / "storage")
    job = TrainingJob(load_recipe("scratch"), tmp_path, work, Provenance.here("tiny"))
    work.mkdir()
    (work / "state.pt").touch()
    with pytest.raises(UsageError, match=r"--work .*work has a state to continue from, and --storage .*has none"):
        ray_train.train_on_ray(run_tiny_job, job, 2, "", storage)
    with pytest.raises(ChexError, match=r"strange://x cannot be reached"):
        ray_train.train_on_ray(run_tiny_job, job, 2, "", "strange://x")
    snapshot = tmp_path / "storage" / "checkpoints" / "checkpoint_manager_snapshot.json"
    snapshot.parent.mkdir(parents=True)
    snapshot.touch()
    ray_train._check_continues(work, storage)


def test_a_full_storage_ends_the_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def fill(code: int) -> Callable[..., None]:
        def report(metrics: object, checkpoint: object) -> None:
            raise OSError(code, "Error writing bytes to file")

        return report

    monkeypatch.setattr("ray.train.report", fill(errno.ENOSPC))
    with pytest.raises(ChexError, match=r"written to --storage \(No space left on device\); free some"):
        _report(tmp_path)
    monkeypatch.setattr("ray.train.report", fill(errno.ECONNRESET))  # may be over when it is tried again
    with pytest.raises(OSError, match=r"Error writing bytes"):
        _report(tmp_path)


@pytest.mark.parametrize("url", ["s3://me:hunter22@bucket/run", "s3://bucket/run?signature=hunter22"])
def test_a_storage_with_credentials_is_refused_and_not_shown(tmp_path: Path, url: str) -> None:
    job = TrainingJob(load_recipe("scratch"), tmp_path, tmp_path / "work", Provenance.here("tiny"))
    with pytest.raises(UsageError, match=r"^--storage s3://bucket/run: leave out user, password and query") as raised:
        ray_train.train_on_ray(run_tiny_job, job, 2, "", url)
    assert "hunter22" not in str(raised.value)


def test_a_worker_does_not_find_what_the_first_one_of_an_earlier_try_left_on_its_node(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("CHEXVISION_CACHE", str(tmp_path))
    monkeypatch.setattr("ray.train.get_checkpoint", lambda: None)
    monkeypatch.setattr("ray.train.report", lambda metrics, checkpoint: None)
    folders = list[Path]()

    def run(job: TrainingJob, *_: object) -> Any:
        folders.append(job.work)
        if not folders[1:]:
            (job.work / "state.pt").touch()
            raise RuntimeError("the node was lost")

    job = TrainingJob(load_recipe("scratch"), tmp_path, tmp_path / "work", Provenance.here("tiny"))
    task = Task(run, job, None, tmp_path, stored=True, run_name="tiny", terminal=None)
    for rank in (0, 1):
        monkeypatch.setattr("ray.train.get_context", lambda rank=rank: SimpleNamespace(get_world_rank=lambda: rank))
        if rank == 0:
            with pytest.raises(RuntimeError):
                train_worker({"task": task})
        else:
            train_worker({"task": task})
    assert (folders[0] / "state.pt").is_file()
    assert not (folders[1] / "state.pt").exists()
