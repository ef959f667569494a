"""`chexvision train` refuses invalid arguments before it loads or writes anything."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from chexvision.cli import main
from chexvision.provenance import Provenance
from chexvision.recipes import dump_resolved, load_recipe
from chexvision.runs.run_progress import read_progress


@pytest.mark.parametrize(
    ("data", "message"),
    [("chex/xrays@main", "is not pinned: name its 40-digit commit sha"), ("./nowhere", "nowhere")],
)
def test_a_data_option_without_shards_writes_nothing(
    data: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "chexvision.training.training_session", None)  # must not be imported
    with pytest.raises(SystemExit) as ended:
        main(["train", "--model", "densenet", "--data", data])
    assert ended.value.code == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("dispatched", [True, False])
def test_data_that_does_not_fit_the_recipe_is_reported_by_a_dispatched_run(
    synthetic_shards: Path,
    dispatched: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """`runs status` relies on the report: the next session would fail too. A run by hand writes nothing."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "chexvision.training.run", None)  # must not be imported
    made = tmp_path / "provenance.json"
    made.write_text(Provenance.here("densenet").model_dump_json())
    words = ["--provenance", str(made)] if dispatched else []
    with pytest.raises(SystemExit) as ended:
        main(["train", "--model", "densenet", "--data", str(synthetic_shards), "--work", "work", *words])
    assert ended.value.code == 2
    assert "image_size" in capsys.readouterr().err
    progress = read_progress(Path("work"))
    if dispatched:
        assert progress is not None
        assert (progress.status, progress.stop_reason, progress.state) == ("failed", "error", ())
        assert "image_size" in progress.note
    else:
        assert not Path("work").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "name what to train: --model densenet"),
        (["--recipe", "recipe.json", "--model", "densenet"], "--recipe is resolved: leave out --model"),
        (["--recipe", "recipe.json", "--set", "training.seed=1"], "--recipe is resolved: leave out --model"),
        (["--recipe", "none.json"], "none.json"),
        (["--recipe", "recipe.json", "--data", "{shards}", "--work", "work"], "data.image_size 320 is above"),
    ],
)
def test_a_resolved_recipe_file_replaces_the_model_option(
    synthetic_shards: Path,
    words: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("recipe.json").write_bytes(dump_resolved(load_recipe("densenet")))
    with pytest.raises(SystemExit) as ended:
        main(["train", *(word.format(shards=synthetic_shards) for word in words)])
    assert ended.value.code == 2
    assert message in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["recipe.json"]
