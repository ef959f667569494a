"""Training on a Ray cluster: the same loop in one worker per GPU, and a worker that is lost is replaced.

The process that starts it shows what the first worker prints, passes a request to stop on, and starts the workers
again from the saved state when one of them is lost.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chexvision.cluster.connect import connected
from chexvision.cluster.desk import Desk
from chexvision.cluster.train_worker import MARK, RunJob, Task, train_worker
from chexvision.cluster.waiting import Room, alive_nodes
from chexvision.errors import ChexError, UsageError
from chexvision.files.object_stores import STORES, one_line, opened
from chexvision.files.remote_folder import check_without_secrets, remote_folder
from chexvision.training.training_session import STATE_FILE

if TYPE_CHECKING:
    from chexvision.training.run import TrainingOutcome
    from chexvision.training.training_session import TrainingJob

_TRIES = 3  # in a row that may fail before a state is saved: more is no lost machine, but a fault
_POLL_SECONDS = 0.2
_CHECKPOINTS = "checkpoints"  # the folder in the storage
_NOT_STORED = ".ray"  # a folder that Ray wants, also where the state is not stored by it
_GROUP_TIMEOUT_SECONDS = 3600  # as that of processes which torchrun starts
# Ray's own directory, copies of what is printed, and processes that watch are of no use here.
_ENVIRONMENT = {
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_TRAIN_ENABLE_PRINT_PATCH": "0",
    "RAY_TRAIN_ENABLE_WORKER_STRUCTURED_LOGGING": "0",
    "RAY_TRAIN_METRICS_ENABLED": "0",
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
}


def train_on_ray(run: RunJob, job: TrainingJob, workers: int, address: str, storage: str = "") -> TrainingOutcome:
    """Train on a cluster, and leave state and artifact in the folder of `job`.

    Args:
        run: trains in a process that is one of several; importable on all nodes.
        job: what to train.
        workers: processes; each gets a GPU where the cluster has any.
        address: of the cluster, see `connected`.
        storage: the URL of a folder for this run's checkpoints; empty where all nodes share the folder of `job`.

    Raises:
        UsageError: what was asked for cannot be trained.
        ChexError: data, destination or too many workers failed.
    """
    if storage:
        check_without_secrets("--storage", storage)
        if storage.partition("://")[0] in STORES:
            remote_folder("--storage", storage)  # its package is there
        _check_continues(job.work.resolve(), storage)
    with connected(address):
        return train_connected(run, job, workers, storage)


def train_connected(run: RunJob, job: TrainingJob, workers: int, storage: str = "") -> TrainingOutcome:
    """Train on the cluster that this process is connected to; see `train_on_ray`."""
    job = replace(job, work=job.work.resolve())
    job.work.mkdir(parents=True, exist_ok=True)
    with _environment(), _one_line():
        gpus = sum(int(node.get("GPU", 0)) for node in alive_nodes())
        if 0 < gpus < workers:
            raise UsageError(f"--workers {workers}: the cluster has {gpus} GPUs, and each worker takes one")
        each: dict[str, float] = {"GPU": 1, "CPU": 1} if gpus else {"CPU": _cores(workers)}
        desk = Desk.start()
        terminal = shutil.get_terminal_size().columns if sys.stderr.isatty() else None
        task = Task(run, job, desk, Path.cwd(), bool(storage), job.provenance.run_id, terminal)
        (job.work / MARK).write_text(job.provenance.run_id)
        try:
            result = _until_done(task, workers, each, storage)
        finally:
            (job.work / MARK).unlink(missing_ok=True)
            shutil.rmtree(job.work / _NOT_STORED, ignore_errors=True)
        outcome: TrainingOutcome = result.return_value
        if storage and result.checkpoint is not None:
            result.checkpoint.to_directory(job.work)
            if outcome.artifact is not None:
                outcome = replace(outcome, artifact=job.work / outcome.artifact.name)
    return outcome


def _check_continues(work: Path, storage: str) -> None:
    """Refuse to start again where a run that has a state is given a storage without one."""
    if not (work / STATE_FILE).is_file():
        return
    with one_line(storage):
        filesystem, path = _opened(storage)
        stored = filesystem.exists(f"{path}/{_CHECKPOINTS}/checkpoint_manager_snapshot.json")
    if not stored:
        raise UsageError(
            f"--work {work} has a state to continue from, and --storage {storage} has none; leave out --storage if "
            "all nodes share the folder of --work, or name another --work to start again"
        )


def _opened(storage: str) -> tuple[Any, str]:
    """The file system of a storage, and the path in it."""
    if storage.partition("://")[0] in STORES:
        return opened(storage)
    import fsspec

    system, path = fsspec.core.url_to_fs(storage)
    return system, path


def _until_done(task: Task, workers: int, each: dict[str, float], storage: str) -> Any:
    """Start workers, with what `each` has of a node, until they have ended by themselves."""
    import ray
    from ray.train import TrainingFailedError

    ends = None if task.job.max_hours is None else time.monotonic() + task.job.max_hours * 3600
    room = Room("a worker" if workers == 1 else "workers", each, workers)
    failed, saved = 0, 0
    while True:
        if ends is not None:  # what is left of the time
            left = max(1e-9, (ends - time.monotonic()) / 3600)
            task = replace(task, job=replace(task.job, max_hours=left))
        try:
            return _attended(lambda: _fit(task, workers, each, storage), task.desk, room.look)  # noqa: B023 - called here
        except TrainingFailedError as error:
            failures = getattr(error, "worker_failures", {})
            known = next((one for _, one in sorted(failures.items()) if isinstance(one, ChexError)), None)
            if known is not None:
                raise known from None
            why = _in_words(error, failures)
            saves = ray.get(task.desk.saves.remote())
            failed, saved = (1 if saves > saved else failed + 1), saves
            if failed >= _TRIES:
                raise ChexError(
                    f"the workers failed {failed} times in a row without saving a state, at last because {why}; "
                    "Ray's logs of the workers have the details"
                ) from None
            print(f"{why}; continuing from the saved state", file=sys.stderr, flush=True)


def _fit(task: Task, workers: int, each: dict[str, float], storage: str) -> Any:
    """Train once with `workers` workers, waiting until the cluster has room for them."""
    import pyarrow.fs
    from ray.train.torch import TorchConfig, TorchTrainer
    from ray.train.v2.api.config import CheckpointConfig, LoggingConfig, RunConfig, ScalingConfig

    filesystem, path = None, str(task.job.work / _NOT_STORED)
    if storage:
        with one_line(storage):
            system, path = _opened(storage)
        filesystem = pyarrow.fs.PyFileSystem(pyarrow.fs.FSSpecHandler(system))
    make_trainer: Any = TorchTrainer  # whose declared types are those of an earlier version
    trainer = make_trainer(
        train_worker,
        train_loop_config={"task": task},
        torch_config=TorchConfig(timeout_s=_GROUP_TIMEOUT_SECONDS),
        scaling_config=ScalingConfig(num_workers=workers, use_gpu="GPU" in each, resources_per_worker=each),
        run_config=RunConfig(
            name=_CHECKPOINTS,
            storage_path=path,
            storage_filesystem=filesystem,
            checkpoint_config=CheckpointConfig(num_to_keep=1),
            logging_config=LoggingConfig(log_level="CRITICAL"),
        ),
    )
    return trainer.fit()


def _cores(workers: int) -> int:
    """The most cores that each of `workers` on CPUs can have now; they keep them, which sums depend on."""
    nodes = [int(node.get("CPU", 0)) for node in alive_nodes()]
    fitting = (cores for cores in range(max(nodes, default=1), 1, -1) if sum(n // cores for n in nodes) >= workers)
    return next(fitting, 1)


def _attended(fit: Callable[[], Any], desk: Any, look: Callable[[], object] = bool) -> Any:
    """Call `fit` in a thread; meanwhile show what workers print, and pass a request to stop on to them.

    Args:
        fit: trains.
        desk: of the command.
        look: called often meanwhile.

    Raises:
        KeyboardInterrupt: it was requested a second time.
    """
    import ray

    ended: list[Any] = []

    def call() -> None:
        try:
            ended.append(fit())
        except BaseException as error:  # noqa: BLE001 - raised in the thread that waits
            ended.append(error)

    thread = threading.Thread(target=call, name="chexvision-ray", daemon=True)
    with _signals() as received:
        passed = False
        thread.start()
        while True:
            running = thread.is_alive()
            look()
            for stream, text in ray.get(desk.taken.remote()):
                target = sys.stdout if stream == "stdout" else sys.stderr
                target.write(text)
                target.flush()
            if received and not passed:
                passed = True
                print("ending at the next step, with the state saved; once more ends at once", file=sys.stderr)
                desk.request_stop.remote(f"it received {signal.Signals(received[0]).name}")
            if len(received) > 1:
                raise KeyboardInterrupt
            if not running:
                break
            thread.join(_POLL_SECONDS)
    if isinstance(ended[0], BaseException):
        raise ended[0]
    return ended[0]


@contextmanager
def _signals() -> Iterator[list[int]]:
    """SIGINT and SIGTERM, as they are received."""
    received: list[int] = []
    handlers = {
        number: signal.signal(number, lambda number, frame: received.append(number))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield received
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


@contextmanager
def _one_line() -> Iterator[None]:
    """Have what Ray itself fails with be one line."""
    from ray.exceptions import RayError

    try:
        yield
    except RayError as error:
        why = " ".join(str(getattr(error, "cause", None) or error).split())[:300]
        raise ChexError(f"the Ray cluster failed: {why}; the same command continues from the saved state") from None


@contextmanager
def _environment() -> Iterator[None]:
    before = {name: os.environ.get(name) for name in _ENVIRONMENT}
    os.environ.update(_ENVIRONMENT)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _in_words(error: Exception, failures: dict[int, Exception]) -> str:
    from ray.exceptions import RayError
    from ray.train.v2._internal.exceptions import WorkerHealthCheckFailedError, WorkerHealthCheckTimeoutError

    if any(isinstance(one, RayError | WorkerHealthCheckFailedError) for one in failures.values()):
        return "a worker was lost"
    if any(isinstance(one, WorkerHealthCheckTimeoutError) for one in failures.values()):
        return "a worker hangs: it did not answer"
    found = next(iter(failures.values()), error)
    return f"a worker failed ({type(found).__name__}: {' '.join(str(found).split())[:200]})"
