"""The real `kaggle` client against the fake Kaggle."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.fakes.faults import Fault
from tests.fakes.hub import FakeHub
from tests.fakes.kaggle import FakeKaggle

REF = "chex/chest-run"
WAITING = "import pathlib, time\nprint('up')\nwhile not pathlib.Path('go').exists(): time.sleep(0.01)\n"
Push = Callable[..., Any]


@pytest.fixture
def kaggle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeKaggle]:
    with FakeKaggle(tmp_path / "kaggle", record_bodies=True) as kaggle:
        kaggle.environment(monkeypatch)
        yield kaggle


def login() -> Any:
    from kaggle.api.kaggle_api_extended import KaggleApi

    api = KaggleApi()
    api.authenticate()
    return api


@pytest.fixture
def api(kaggle: FakeKaggle) -> Any:
    return login()


@pytest.fixture
def push(api: Any, tmp_path: Path) -> Push:
    def push(script: str, *, ref: str = REF, timeout: int | None = None, **metadata: object) -> Any:
        folder = tmp_path / "kernel"
        folder.mkdir(exist_ok=True)
        (folder / "main.py").write_text(script)
        title = ref.split("/")[1].replace("-", " ").title()
        plain = {"id": ref, "title": title, "code_file": "main.py", "language": "python"}
        metadata = {**plain, "kernel_type": "script", **metadata}
        (folder / "kernel-metadata.json").write_text(json.dumps(metadata))
        return api.kernels_push(str(folder), timeout)

    return push


def make_dataset(folder: Path, content: str, ref: str = "chex/run-token") -> str:
    folder.mkdir(exist_ok=True)
    (folder / "token.txt").write_text(content)
    metadata = {"id": ref, "title": "Run token", "licenses": [{"name": "CC0-1.0"}]}
    (folder / "dataset-metadata.json").write_text(json.dumps(metadata))
    return str(folder)


def go(kaggle: FakeKaggle, index: int = -1) -> None:
    (kaggle.sessions[index].working / "go").touch()
    kaggle.sessions[index].wait()


def test_access_token_is_introspected(kaggle: FakeKaggle, api: Any) -> None:
    assert api.config_values["username"] == "chex"
    assert any("IntrospectToken" in r.path for r in kaggle.requests)
    assert kaggle.token not in repr(kaggle.requests)
    assert not any(kaggle.token.encode() in body.data for body in kaggle.bodies)


def test_wrong_access_token_alone_ends_the_program(kaggle: FakeKaggle, monkeypatch: pytest.MonkeyPatch) -> None:
    kaggle.environment(monkeypatch, token="KGAT_wrong")
    with pytest.raises(SystemExit):
        login()


def test_legacy_key_authenticates(kaggle: FakeKaggle, monkeypatch: pytest.MonkeyPatch) -> None:
    kaggle.environment(monkeypatch, token="")
    monkeypatch.setenv("KAGGLE_USERNAME", kaggle.user)
    monkeypatch.setenv("KAGGLE_KEY", kaggle.key)
    assert login().quota_view().gpu_quota is not None
    monkeypatch.setenv("KAGGLE_KEY", "wrong")
    with pytest.raises(requests.HTTPError, match="Unauthenticated"):
        login().quota_view()


def test_invalid_access_token_takes_precedence_over_a_valid_legacy_key(
    kaggle: FakeKaggle, monkeypatch: pytest.MonkeyPatch
) -> None:
    kaggle.environment(monkeypatch, token="KGAT_wrong")
    monkeypatch.setenv("KAGGLE_USERNAME", kaggle.user)
    monkeypatch.setenv("KAGGLE_KEY", kaggle.key)
    with pytest.raises(requests.HTTPError, match="Unauthenticated"):
        login().quota_view()


def test_pushed_script_runs_in_a_tree_like_kaggles(
    kaggle: FakeKaggle, push: Push, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path / "nih"
    (data / "images_001" / "images").mkdir(parents=True)
    (data / "images_001" / "images" / "a.png").write_bytes(b"png")
    kaggle.add_dataset("nih-chest-xrays/data", data)
    script = (
        "import json, os, pathlib, sys\n"
        "found = [str(p.relative_to('../input')) for p in pathlib.Path('../input').rglob('*.png')]\n"
        "pathlib.Path('sub').mkdir()\n"
        "report = {'cwd': os.getcwd(), 'env': dict(os.environ), 'found': found, 'file': __file__}\n"
        "pathlib.Path('sub/report.json').write_text(json.dumps(report))\n"
        "print('fine', file=sys.stderr)\n"
    )
    monkeypatch.setenv("LEFT_OUT", "x")
    response = push(script, dataset_sources=["nih-chest-xrays/data"], machine_shape="NvidiaTeslaT4")
    assert (response.error, response.invalid_dataset_sources) == ("", [])
    assert response.version_number == 1
    session = kaggle.sessions[0].wait()
    assert (session.status, session.exit_code, session.gpu) == ("COMPLETE", 0, True)
    assert session.request["machineShape"] == "NvidiaTeslaT4"
    report = json.loads(session.output("sub/report.json")[0])
    assert report["found"] == ["datasets/organizations/nih-chest-xrays/data/images_001/images/a.png"]
    assert report["cwd"].endswith("kaggle/working")
    assert report["file"].endswith("kaggle/src/script.py")
    assert report["env"]["KAGGLE_KERNEL_RUN_TYPE"] == "Batch"
    assert "LEFT_OUT" not in report["env"]
    assert "KAGGLE_API_TOKEN" not in report["env"]
    assert session.text == "fine\n"


@pytest.mark.parametrize(
    ("nested", "mounts"),
    [
        (
            True,
            [
                "datasets/chex/own/a.csv",
                "datasets/organizations/nih-chest-xrays/data/a.csv",
                "notebooks/chex/chest-first/made.txt",
            ],
        ),
        (False, ["chest-first/made.txt", "data/a.csv", "own/a.csv"]),
    ],
)
def test_sources_are_mounted_by_kind_and_owner_or_by_slug(
    kaggle: FakeKaggle, push: Push, tmp_path: Path, nested: bool, mounts: list[str]
) -> None:
    kaggle.nested_inputs = nested
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "a.csv").write_text("1")
    for ref in ("nih-chest-xrays/data", "chex/own"):
        kaggle.add_dataset(ref, tmp_path / "files")
    push("open('made.txt', 'w').write('1')", ref="chex/chest-first")
    kaggle.sessions[0].wait()
    script = (
        "from pathlib import Path\n"
        "for path in sorted(Path('../input').rglob('*.*')): print(path.relative_to('../input'))\n"
    )
    push(script, dataset_sources=["nih-chest-xrays/data", "chex/own"], kernel_sources=["chex/chest-first"])
    assert kaggle.sessions[1].wait().text.splitlines() == mounts


def test_script_can_start_in_its_own_folder(kaggle: FakeKaggle, push: Push) -> None:
    kaggle.starts_in = "src"
    push("import os; print(os.getcwd())")
    assert kaggle.sessions[0].wait().text.endswith("kaggle/src\n")


@pytest.mark.parametrize("verified", [True, False])
def test_account_without_a_verified_phone_gets_neither_gpu_nor_internet(
    kaggle: FakeKaggle, api: Any, push: Push, verified: bool
) -> None:
    kaggle.phone_verified = verified
    script = (
        "import os, shutil, subprocess\n"
        "if shutil.which('nvidia-smi', path=os.environ['PATH'].split(':')[0]):\n"
        "    print(subprocess.check_output(['nvidia-smi', '-L']).count(b'Tesla T4'))\n"
        "print(os.environ.get('HF_ENDPOINT'))\n"
    )
    answer = push(script, machine_shape="NvidiaTeslaT4", enable_internet=True)
    assert answer.error == ""
    assert kaggle.sessions[0].wait().text == ("1\nNone\n" if verified else "http://127.0.0.1:9\n")
    quota = api.quota_view().gpu_quota
    assert quota.total_time_allowed == timedelta(hours=30)
    assert quota.has_ever_run is verified


def test_status_goes_from_queued_to_the_end(kaggle: FakeKaggle, api: Any, push: Push) -> None:
    kaggle.hold()
    push(WAITING)
    assert api.kernels_status(REF).status.name == "QUEUED"
    kaggle.release()
    assert api.kernels_status(REF).status.name == "RUNNING"
    go(kaggle)
    assert api.kernels_status(REF).status.name == "COMPLETE"
    with pytest.raises(ValueError, match="wrong kernel slug"):
        api.kernels_status("chex/nothing")


@pytest.mark.parametrize(
    ("script", "timeout", "number", "message"),
    [
        ("raise SystemExit(3)", None, None, "code 3"),
        (WAITING, None, signal.SIGTERM, "signal 15"),
        (WAITING, 1, None, "execution duration"),
    ],
)
def test_failure_message_holds_the_error(
    kaggle: FakeKaggle, api: Any, push: Push, script: str, timeout: int, number: int, message: str
) -> None:
    push(script, timeout=timeout)
    if number:
        kaggle.sessions[0].wait_for_text("up")
        kaggle.sessions[0].kill(number)
    kaggle.sessions[0].wait()
    answer = api.kernels_status(REF)
    assert answer.status.name == "ERROR"
    assert message in answer.failure_message


def test_log_is_streamed_while_the_script_runs(kaggle: FakeKaggle, api: Any, push: Push) -> None:
    push(WAITING)
    events = api.kernels_logs_stream(REF)
    assert [next(events)["data"], next(events)["data"]] == [None, "up"]
    assert kaggle.sessions[0].status == "RUNNING"
    assert api.kernels_logs(REF) == ""
    threading.Thread(target=go, args=(kaggle,)).start()
    assert list(events) == []
    assert kaggle.sessions[0].wait().status == "COMPLETE"
    for entries in (json.loads(api.kernels_logs(REF)), list(api.kernels_logs_stream(REF))):
        assert [(e["stream_name"], e["data"]) for e in entries] == [("stdout", "up\n")]
        assert entries[0]["time"] >= 0


def test_log_without_a_charset_is_read_as_latin_1(kaggle: FakeKaggle, api: Any, push: Push) -> None:
    push("print('größer')")
    kaggle.sessions[0].wait()
    (event,) = api.kernels_logs_stream(REF)
    assert event["data"] == "grÃ¶Ã\x9fer\n"


def test_only_a_kernel_that_completed_is_a_source(kaggle: FakeKaggle, push: Push) -> None:
    push("open('kept', 'w')")
    kaggle.sessions[0].wait()
    push("import sys; sys.exit(1)", ref="chex/failed")
    kaggle.sessions[1].wait()
    sources = {"kernel_sources": [REF, "chex/failed", "other/kernel"]}
    answer = push("import glob; print(glob.glob('../input/**/kept', recursive=True))", ref="chex/next-run", **sources)
    assert answer.invalid_kernel_sources == ["chex/failed", "other/kernel"]
    assert kaggle.sessions[2].wait().text == "['../input/notebooks/chex/chest-run/kept']\n"


def test_session_is_cancelled_by_the_id_in_its_environment(kaggle: FakeKaggle, api: Any, push: Push) -> None:
    from kagglesdk.kernels.types.kernels_api_service import ApiCancelKernelSessionRequest

    push(f"import os\nprint(os.environ['KAGGLE_CONTAINER_NAME'].split('-')[1], flush=True)\n{WAITING}")
    kaggle.sessions[0].wait_for_text("up")
    request = ApiCancelKernelSessionRequest()
    with api.build_kaggle_client() as client:
        request.kernel_session_id = 1
        with pytest.raises(requests.HTTPError, match=r"kernelSessions\.cancel"):
            client.kernels.kernels_api_client.cancel_kernel_session(request)
        request.kernel_session_id = int(kaggle.sessions[0].text.split()[0])
        assert client.kernels.kernels_api_client.cancel_kernel_session(request).error_message == ""
        assert kaggle.sessions[0].wait().status == "CANCEL_ACKNOWLEDGED"
        assert client.kernels.kernels_api_client.cancel_kernel_session(request).error_message
    assert api.kernels_status(REF).status.name == "CANCEL_ACKNOWLEDGED"


def test_outputs_come_page_by_page(kaggle: FakeKaggle, api: Any, push: Push, tmp_path: Path) -> None:
    push("import os\nos.mkdir('d')\nfor i in range(45): open(f'd/{i:02} x.txt', 'w').write(str(i))")
    kaggle.sessions[0].wait()
    names, _ = api.kernels_output(REF, str(tmp_path / "out"))
    assert len(names) == 46
    assert (tmp_path / "out" / "d" / "44 x.txt").read_text() == "44"
    assert json.loads((tmp_path / "out" / "chest-run.log").read_text()) == []
    assert not any(r.auth for r in kaggle.requests if r.path.startswith("/outputs/"))


def test_interrupted_output_download_is_an_error_and_leaves_an_empty_file(
    kaggle: FakeKaggle, api: Any, push: Push, tmp_path: Path
) -> None:
    push("open('w.bin', 'wb').write(b'w' * 5000)")
    kaggle.sessions[0].wait()
    kaggle.faults.add(r"GET /outputs/1\?name=w\.bin", Fault.disconnect(after_bytes=1000))
    with pytest.raises(requests.RequestException):
        api.kernels_output(REF, str(tmp_path))
    assert (tmp_path / "w.bin").stat().st_size == 0


def test_output_can_have_any_name(kaggle: FakeKaggle, api: Any, push: Push, tmp_path: Path) -> None:
    push("")
    kaggle.sessions[0].wait().extra_files["../escaped.txt"] = b"x"
    api.kernels_output(REF, str(tmp_path / "out"))
    assert (tmp_path / "escaped.txt").read_bytes() == b"x"


def test_too_large_source_is_refused_with_the_reason(kaggle: FakeKaggle, push: Push) -> None:
    with pytest.raises(requests.HTTPError, match="must be less than 1 megabytes in size") as error:
        push("#" * (1024 * 1024 + 1))
    assert error.value.response is not None
    assert error.value.response.status_code == 400
    push("#" * (1024 * 1024))
    assert len(kaggle.sessions) == 1


def test_title_must_resolve_to_the_id(kaggle: FakeKaggle, push: Push) -> None:
    assert push("", title="Another title").error == "Notebook not found"
    assert kaggle.sessions == []


def test_missing_dataset_is_dropped(kaggle: FakeKaggle, push: Push) -> None:
    response = push("", dataset_sources=["chex/nothing-here"])
    assert response.invalid_dataset_sources == ["chex/nothing-here"]
    assert response.error == ""
    assert kaggle.sessions[0].wait().datasets == []


def test_third_gpu_session_is_refused(kaggle: FakeKaggle, push: Push) -> None:
    for ref in ("chex/run-one", "chex/run-two"):
        push(WAITING, ref=ref, enable_gpu=True)
    assert push("", enable_gpu=True).error == "Maximum batch GPU session count of 2 reached."
    assert push("").error == ""
    go(kaggle, 0)
    assert push("", enable_gpu=True).error == ""


def test_lost_response_leaves_the_kernel_running(kaggle: FakeKaggle, api: Any, push: Push) -> None:
    rule = kaggle.faults.add("SaveKernel", Fault.lose_response())
    with pytest.raises(requests.ConnectionError):
        push(WAITING)
    assert rule.fired == 1
    assert api.kernels_status(REF).status.name == "RUNNING"


def test_quota(kaggle: FakeKaggle, api: Any) -> None:
    kaggle.gpu_time_used = timedelta(hours=28, minutes=30)
    kaggle.gpu_time_reserved = timedelta(hours=1)
    answer = api.quota_view()
    quota = answer.gpu_quota
    assert quota.time_used == timedelta(hours=28, minutes=30)
    assert quota.time_reserved == timedelta(hours=1)
    assert quota.total_time_allowed == timedelta(hours=30)
    assert quota.has_ever_run
    assert answer.quota_refresh_time.tzinfo is None  # the client takes the Z off


def test_quota_of_a_new_account_omits_unset_fields(kaggle: FakeKaggle, api: Any) -> None:
    kaggle.gpu_ever_run = False
    quota = api.quota_view().gpu_quota
    assert (quota.time_used, quota.time_reserved, quota.has_ever_run) == (None, None, False)


def test_private_dataset_becomes_ready_and_reaches_the_session(
    kaggle: FakeKaggle, api: Any, push: Push, tmp_path: Path
) -> None:
    folder = make_dataset(tmp_path / "dataset", "hf_secret")
    made = api.dataset_create_new(folder, quiet=True)
    assert (made.status, made.error) == ("ok", "")
    assert kaggle.datasets.known["chex/run-token"].private
    with pytest.raises(requests.HTTPError) as error:
        push("", dataset_sources=["chex/run-token"])
    assert error.value.response is not None
    assert error.value.response.status_code == 409
    assert [api.dataset_status("chex/run-token") for _ in range(2)] == ["blobs_received", "ready"]
    assert "already in use" in api.dataset_create_new(folder, quiet=True).error
    make_dataset(tmp_path / "dataset", "hf_second")
    assert api.dataset_create_version(folder, "second", quiet=True).status == "ok"
    assert json.loads(api.dataset_status("chex/run-token", format="json"))["current_version_number"] == 2
    path = "../input/datasets/chex/run-token/token.txt"
    push(f"print(open('{path}').read())", dataset_sources=["chex/run-token"])
    assert kaggle.sessions[0].wait().text == "hf_second\n"
    assert [b.path.split("/")[1] for b in kaggle.bodies if b"hf_secret" in b.data] == ["blobs"]
    assert api.dataset_delete("chex", "run-token", no_confirm=True)
    with pytest.raises(requests.HTTPError):
        api.dataset_status("chex/run-token")
    refused = api.dataset_create_new(make_dataset(tmp_path / "dataset", "x", "other/run-token"), quiet=True)
    assert "not allowed" in refused.error


@pytest.mark.parametrize("fault", [Fault.lose_response(), Fault.disconnect(10, during="request"), Fault.status(503)])
def test_client_retries_the_upload_of_a_file(kaggle: FakeKaggle, api: Any, tmp_path: Path, fault: Fault) -> None:
    rule = kaggle.faults.add(r"PUT /blobs/", fault)
    assert api.dataset_create_new(make_dataset(tmp_path / "dataset", "t" * 5000), quiet=True).status == "ok"
    assert rule.fired == 1
    folder = kaggle.datasets.known["chex/run-token"].folder
    assert (folder / "token.txt").read_text() == "t" * 5000


def test_secrets_are_returned_by_label(kaggle: FakeKaggle, push: Push) -> None:
    kaggle.session_secrets = {"HF_TOKEN": "hf_right"}
    script = (
        "from kaggle_secrets import BackendError, UserSecretsClient\n"
        "print(UserSecretsClient().get_secret('HF_TOKEN'))\n"
        "try: UserSecretsClient().get_secret('OTHER')\n"
        "except BackendError as error: print(error)\n"
    )
    push(script)
    session = kaggle.sessions[0].wait()
    assert session.text.startswith("hf_right\n")
    assert "No user secrets exist" in session.text
    assert session.status == "COMPLETE"


def test_session_reaches_a_fake_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        FakeHub(tmp_path / "hub", "hf_right") as hub,
        FakeKaggle(tmp_path / "k", session_env=hub.env) as kaggle,
    ):
        script = "from huggingface_hub import HfApi\nprint(HfApi(token='hf_right').create_repo('chex/model'))\n"
        folder = tmp_path / "kernel"
        folder.mkdir()
        (folder / "main.py").write_text(script)
        metadata = {"id": REF, "title": "Chest run", "code_file": "main.py"}
        metadata |= {"language": "python", "kernel_type": "script"}
        (folder / "kernel-metadata.json").write_text(json.dumps(metadata))
        kaggle.environment(monkeypatch)
        login().kernels_push(str(folder))
        assert kaggle.sessions[0].wait().status == "COMPLETE", kaggle.sessions[0].text
        assert hub.branches("chex/model").keys() == {"main"}


def test_another_process_connects_to_the_fake(kaggle: FakeKaggle, push: Push) -> None:
    push("print('done')")
    kaggle.sessions[0].wait()
    code = f"import kaggle; print(kaggle.api.kernels_status('{REF}').status.name)"
    for token, output in ((None, "COMPLETE\n"), ("KGAT_wrong", "")):
        environment = kaggle.subprocess_env(token=token)
        run = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
        )
        assert run.stdout.endswith(output)
        assert (run.returncode == 0) is (token is None), run.stderr
    assert kaggle.site_dir.as_posix() in environment["PYTHONPATH"]


def test_running_sessions_end_with_the_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with FakeKaggle(tmp_path / "k") as kaggle:
        kaggle.environment(monkeypatch)
        folder = tmp_path / "kernel"
        folder.mkdir()
        (folder / "main.py").write_text(WAITING)
        metadata = {"id": REF, "title": "Chest run", "code_file": "main.py"}
        metadata |= {"language": "python", "kernel_type": "script"}
        (folder / "kernel-metadata.json").write_text(json.dumps(metadata))
        login().kernels_push(str(folder))
        assert kaggle.sessions[0].status == "RUNNING"
    assert kaggle.sessions[0].failure_message == "Killed by signal 9"
