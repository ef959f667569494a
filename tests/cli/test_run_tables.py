"""`chexvision runs compare` and `dashboard`: folders, users and repositories of the Hub, ids of runs; no torch."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from huggingface_hub import HfApi

from chexvision.artifact import find_published
from chexvision.cli import main
from chexvision.hub import published_models
from chexvision_dispatch import run_records as records
from chexvision_dispatch.run_records import RunRecord
from tests.fakes.hub import FakeHub
from tests.published_runs import write_run

CARD = "---\nlibrary_name: chexvision\n---\n"


def run(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        main(["runs", *map(str, words)])
    said = capsys.readouterr()
    return int(ended.value.code or 0), said.out, said.err


def publish(folder: Path, repo: str, card: str = CARD, *, private: bool = False) -> str:
    """The commit of a new repository with the files of a folder."""
    (folder / "README.md").write_text(card)
    HfApi().create_repo(repo, private=private)
    return str(HfApi().upload_folder(repo_id=repo, folder_path=folder).oid)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("folders")
    return write_run(folder / "one"), write_run(folder / "two", recipe="swin-t", noise=0.4, seed=1)


def record(run_id: str, published: str | None) -> RunRecord:
    made = RunRecord(
        run_id=run_id,
        target="local",
        model="densenet",
        preset=None,
        overrides=(),
        data="/data",
        to=None,
        dispatched_at="2026-01-01T00:00:00+00:00",
        bundle_sha256="0" * 64,
        source_revision="0",
        source_dirty=False,
        folder="/runs",
    )
    return replace(made, published=published)


def test_a_page_of_the_models_of_a_user(
    fake_hub: FakeHub, folders: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sha = publish(folders[0], "chex/one")
    publish(folders[1], "chex/secret", private=True)
    publish(folders[1], "chex/foreign", "---\nlibrary_name: timm\n---\n")
    code, said, _ = run(capsys, "dashboard", "chex", "--out", tmp_path / "out")
    assert (code, said) == (0, f"written: {tmp_path}/out/index.html, 1 run\n")
    page = (tmp_path / "out" / "index.html").read_text()
    assert f"href='https://huggingface.co/chex/one/tree/{sha}'" in page
    assert "secret" not in page and "foreign" not in page
    code, said, _ = run(capsys, "dashboard", "--private", "--out", tmp_path / "out", "--space", "chex/runs")
    assert code == 0 and "2 runs" in said
    assert fake_hub.is_private("chex/runs", "space")
    assert fake_hub.read("chex/runs", "index.html", repo_type="space") == (tmp_path / "out/index.html").read_bytes()
    assert b'"sdk": "static"' in fake_hub.read("chex/runs", "README.md", repo_type="space")


def test_the_page_of_a_folder_names_no_path(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_run(tmp_path / "dr-smith" / "models" / "one")
    (write_run(tmp_path / "dr-smith" / "models" / "two") / "history.json").write_text("{")
    code, _, error = run(capsys, "dashboard", tmp_path / "dr-smith" / "models", "--out", tmp_path / "out")
    page = (tmp_path / "out" / "index.html").read_text()
    assert code == 0 and "<title>Runs of models</title>" in page, error
    assert "dr-smith" not in page


def test_a_private_model_is_not_shown_on_a_public_space(
    fake_hub: FakeHub, folders: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    publish(folders[0], "chex/hidden", private=True)
    words = ["dashboard", "chex/hidden", "--out", tmp_path / "out", "--space", "chex/page"]
    code, _, error = run(capsys, *words)
    assert (code, error.count("\n")) == (2, 1) and "hidden is private" in error and "add --private" in error
    assert run(capsys, *words, "--private")[0] == 0
    assert fake_hub.is_private("chex/page", "space")


def test_a_file_that_is_too_large_is_not_fetched(
    fake_hub: FakeHub, folders: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_run(tmp_path / "large")
    (folder / "history.json").write_bytes(b" " * (17 * 2**20))
    publish(folder, "chex/large")
    code, said, _ = run(capsys, "dashboard", "chex/large", "--out", tmp_path / "out")
    assert code == 0 and "of 1 not everything can be shown" in said
    page = (tmp_path / "out" / "index.html").read_text()
    assert "history.json has more than 16 MiB" in page and "densenet" in page
    assert not any("resolve" in str(path) and "history.json" in str(path) for path in fake_hub.requests)


def test_more_models_than_a_page_shows_are_refused_instead_of_cut(
    fake_hub: FakeHub,
    folders: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for module in (published_models, find_published):
        monkeypatch.setattr(module, "MOST_MODELS", 1)
    publish(folders[0], "chex/one")
    assert run(capsys, "dashboard", "chex", "--out", tmp_path / "out")[0] == 0
    publish(folders[0], "chex/two")
    code, _, error = run(capsys, "dashboard", "chex", "--out", tmp_path / "out")
    assert code == 2 and error.count("\n") == 1 and "more than 1 runs are named" in error


def test_a_user_without_models_and_a_repository_that_is_gone_are_pages_too(
    fake_hub: FakeHub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, said, _ = run(capsys, "dashboard", "nobody", "--out", tmp_path / "none")
    assert code == 0 and "0 runs" in said
    code, said, _ = run(capsys, "dashboard", "chex/gone", "--out", tmp_path / "gone")
    assert code == 0 and "the Hub has no model chex/gone" in (tmp_path / "gone" / "index.html").read_text()


def test_runs_are_compared_by_id_folder_and_repository(
    fake_hub: FakeHub, folders: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    sha = publish(folders[0], "chex/one")
    records.save(record("densenet-1", f"chex/one@{sha}"))
    records.save(record("swin-1", None))
    code, said, error = run(capsys, "compare", "densenet", folders[1], "--json")
    assert code == 0, error
    found = json.loads(said)
    assert [of["reference"] for of in found["runs"]] == [f"chex/one@{sha}", str(folders[1])]
    assert found["recipe"]["model.backbone"][0] != found["recipe"]["model.backbone"][1]
    assert found["valid"] and list(found["untested"]) == ["two"]
    code, said, _ = run(capsys, "compare", "densenet", folders[1], "--csv")
    assert code == 0 and said.startswith("run,reference,") and said.count("\n") == 1 + 2 * 16
    code, _, error = run(capsys, "compare", "densenet", "swin")
    assert code == 2 and "swin-1 is not known to be published" in error and error.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["compare", "a"], "name two or more runs"),
        (["compare", "./a", "./b", "--json", "--csv"], "choose one of --json and --csv"),
        (["compare", "./a", "./a"], "a run is named twice"),
        (["compare", "nothing", "./b"], "no run begins with 'nothing'"),
        (["dashboard", "./nowhere", "--out", "out"], "./nowhere is neither a folder here nor USER/REPO[@REVISION]"),
        (["dashboard", "chex", "--out", "out", "--space", "./x"], "is not the name of a Space"),
    ],
)
def test_bad_requests_are_one_line(
    words: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    code, _, error = run(capsys, *words)
    assert code == 2 and message in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_laptop_needs_neither_torch_nor_numpy(folders: tuple[Path, Path], tmp_path: Path) -> None:
    script = (
        "import sys; from chexvision.cli import main\n"
        "for name in ('torch', 'timm', 'numpy', 'onnxruntime', 'sklearn'): sys.modules[name] = None\n"
        "main(sys.argv[1:])\n"
    )
    words = ["runs", "dashboard", *map(str, folders), "--out", str(tmp_path / "out")]
    subprocess.run([sys.executable, "-c", script, *words], check=True)
    done = subprocess.run(
        [sys.executable, "-c", script, "runs", "compare", *map(str, folders)],
        check=True,
        capture_output=True,
        text=True,
    )
    assert "Recipes differ in" in done.stdout and "no paired test of two: it needs numpy" in done.stdout
