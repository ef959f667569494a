from __future__ import annotations

from pathlib import Path

import pytest

from chexvision.hub.run_progress import PROGRESS_FILE, read_progress
from chexvision.training.report import ConsoleReporter
from chexvision.training.session import TrainingSession
from tests.training.runs import tiny_training


def test_an_epoch_that_a_killed_session_had_no_time_to_tell_of_is_told_by_the_next(
    drawn_shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    killed = tiny_training(drawn_shards, tmp_path)
    killed.run()
    session = TrainingSession(tmp_path, "run-1")
    session.epoch_begins(3)
    for record in killed.history[:-1]:
        session.epoch_done(record)

    resumed = tiny_training(drawn_shards, tmp_path)
    resumed.reporter = ConsoleReporter()
    resumed.run()
    assert capsys.readouterr().out == "going on after epoch 3\n"
    session.resumed(resumed.history)
    told = read_progress(tmp_path, "run-1")
    assert told is not None, (tmp_path / PROGRESS_FILE).read_text()
    assert (told.epoch, [point.epoch for point in told.points]) == (3, [1, 2, 3])
    best = max(killed.history, key=lambda record: (record.macro_auroc or 0, -record.epoch))
    assert (told.best_epoch, told.best_macro_auroc) == (best.epoch, best.macro_auroc)
