"""Run records are written completely or not at all."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chexvision.errors import ChexError, UsageError
from chexvision_dispatch import run_records as records
from chexvision_dispatch.run_records import RunRecord, Session
from tests.dispatch.standin import RECORD

text = st.text(st.characters(codec="utf-8"))
sessions = st.lists(st.builds(Session, text, text, st.none() | text, st.none() | st.integers(0, 255))).map(tuple)
some = st.builds(
    RunRecord,
    run_id=st.just("densenet-20260101-1432-3f9c"),
    target=text,
    model=text,
    preset=st.none() | text,
    overrides=st.lists(text).map(tuple),
    data=text,
    to=st.none() | text,
    dispatched_at=text,
    bundle_sha256=text,
    source_revision=text,
    source_dirty=st.booleans(),
    folder=text,
    sessions=sessions,
)


@given(record=some)
def test_a_record_round_trips(record: RunRecord, tmp_path_factory: pytest.TempPathFactory) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CHEXVISION_STATE", str(tmp_path_factory.getbasetemp() / "records"))
        path = records.save(record)
        assert records.load(record.run_id) == record
        assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_unknown_run_is_an_error_that_names_the_records_folder(tmp_path: Path) -> None:
    with pytest.raises(ChexError, match=f"no run densenet-1 in {tmp_path}/state/runs"):
        records.load("densenet-1")


@pytest.mark.parametrize(("content", "what"), [("{", "Invalid JSON"), ('{"run_id": 3}', "run_id")])
def test_damaged_record_is_named_with_the_reason(content: str, what: str) -> None:
    path = records.runs_dir() / "r-1.json"
    path.parent.mkdir(parents=True)
    path.write_text(content)
    with pytest.raises(ChexError, match=rf"r-1\.json is damaged: {what}"):
        records.load("r-1")


def test_forgetting_a_run_is_idempotent() -> None:
    path = records.save(RECORD)
    records.forget(RECORD.run_id)
    records.forget(RECORD.run_id)
    assert not path.exists()


def test_concurrent_updates_of_a_record_are_all_kept() -> None:
    records.save(RECORD)

    def add(number: int) -> None:
        session = Session("2026-01-01T00:00:00+00:00", str(number))
        records.update(RECORD.run_id, lambda known: replace(known, sessions=(*known.sessions, session)))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(add, range(40)))
    assert {int(one.handle) for one in records.load(RECORD.run_id).sessions} == set(range(40))


def test_run_is_found_by_an_unambiguous_prefix_and_the_last_one_by_default() -> None:
    with pytest.raises(UsageError, match="there is no run yet"):
        records.find(None)
    for number, name in enumerate(["densenet-20260101-1432-3f9c", "densenet-20260102-0900-3f9c", "scratch-1"]):
        records.save(replace(RECORD, run_id=name, dispatched_at=f"2026-01-0{3 - number}T00:00:00+00:00"))
    assert records.find("s").run_id == "scratch-1"
    assert records.find("densenet-20260102").run_id == "densenet-20260102-0900-3f9c"
    assert records.find(None).run_id == "densenet-20260101-1432-3f9c"
    with pytest.raises(UsageError, match=r"2 runs begin with 'dens': .*; type more"):
        records.find("dens")
    with pytest.raises(UsageError, match="no run begins with 'x'"):
        records.find("x")


def test_a_record_of_another_version_is_a_one_line_error() -> None:
    from chexvision_dispatch.targets.registry import open_target

    with pytest.raises(ChexError, match=r"the options recorded for local are another version's .*dispatch again"):
        open_target("local", {})


def test_options_of_a_job_recorded_by_an_earlier_version_are_read() -> None:
    from chexvision_dispatch.targets.registry import open_target

    target = open_target("hf-jobs", {"flavor": "t4-small", "timeout_hours": 12.0, "image": "a/b:1"})
    assert target.options.model_dump() == {"timeout_hours": 12.0, "flavor": "t4-small", "docker_image": "a/b:1"}
    assert target.max_hours == pytest.approx(12 - 1 / 3)
