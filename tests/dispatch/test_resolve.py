"""References are resolved before anything is sent, with the real Hub client against a fake Hub on the loopback."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from huggingface_hub import HfApi, constants

from chexvision.errors import ChexError, UsageError
from chexvision.recipes import load_recipe, read_resolved
from chexvision.shards.manifest import read_manifest
from chexvision_dispatch.resolve import (
    check_datasets,
    described_split,
    destination,
    on_datasets,
    pinned_data,
    pinned_datasets,
    reachable_weights,
    recipe_files,
    with_pinned_teacher,
)
from tests.fakes.faults import Fault
from tests.fakes.hub import FakeHub

SHA = "44443e6ee968b3c6094b63f14a27698c40b50680"


@pytest.fixture
def dataset(fake_hub: FakeHub) -> str:
    """The sha of chex/xrays, which has a tag v1."""
    api = HfApi()
    api.create_repo("chex/xrays", repo_type="dataset")
    made = api.upload_file(path_or_fileobj=b"x", path_in_repo="a.txt", repo_id="chex/xrays", repo_type="dataset")
    api.create_tag("chex/xrays", tag="v1", repo_type="dataset")
    assert made.oid is not None
    return made.oid


def test_full_sha_is_kept_after_one_request(fake_hub: FakeHub, dataset: str) -> None:
    fake_hub.requests.clear()
    assert pinned_data(f"chex/xrays@{dataset}", folders=False) == (f"chex/xrays@{dataset}", [])
    assert len(fake_hub.requests) == 1


def test_a_teacher_is_named_at_a_commit_or_as_an_absolute_folder(
    fake_hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    HfApi().create_repo("chex/teacher")
    sha = HfApi().upload_file(path_or_fileobj=b"x", path_in_repo="a.txt", repo_id="chex/teacher").oid

    def teacher(name: str, *, folders: bool) -> str | None:
        recipe = load_recipe("scratch", overrides=[f"loss.teacher={name}"])
        return with_pinned_teacher(recipe, folders=folders)[0].loss.teacher

    for name in ("chex/teacher", f"chex/teacher@{sha}"):
        assert teacher(name, folders=False) == f"chex/teacher@{sha}"
    with pytest.raises(ChexError, match="the Hub has no model chex/other"):
        teacher("chex/other", folders=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    assert teacher("./mine", folders=True) == str(tmp_path / "mine")
    with pytest.raises(UsageError, match=r"loss.teacher ./mine is a folder on this machine, .*publish the model"):
        teacher("./mine", folders=False)
    with pytest.raises(UsageError, match=r"loss.teacher .*/other: no such folder"):
        teacher("./other", folders=True)
    unused = load_recipe("scratch", overrides=["loss.teacher=./other", "loss.teacher_weight=0"])
    assert with_pinned_teacher(unused, folders=False) == (unused, [])


def test_unknown_sha_is_refused(fake_hub: FakeHub, dataset: str) -> None:
    with pytest.raises(ChexError, match=f"chex/xrays has no revision {SHA}"):
        pinned_data(f"chex/xrays@{SHA}", folders=False)
    with pytest.raises(ChexError, match="the Hub has no dataset a/b"):
        pinned_data(f"a/b@{SHA}", folders=False)


@pytest.mark.parametrize(
    ("code", "why"), [(503, "the Hub did not answer (HTTP 503"), (403, "HTTP 403"), (400, "400")]
)
def test_sha_is_left_to_the_session_if_the_hub_fails(fake_hub: FakeHub, dataset: str, code: int, why: str) -> None:
    fake_hub.faults.add("xrays", Fault.status(code), times=99)
    name, [note] = pinned_data(f"chex/xrays@{dataset}", folders=False)
    assert name == f"chex/xrays@{dataset}"
    assert why in note
    assert note.endswith(f"the session checks whether chex/xrays@{dataset} exists")


def test_sha_is_left_to_the_session_offline_without_a_word_of_the_cache(
    fake_hub: FakeHub, dataset: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    name, [note] = pinned_data(f"chex/xrays@{dataset}", folders=False)
    assert name == f"chex/xrays@{dataset}"
    assert note.startswith("looking up the commit of chex/xrays failed, HF_HUB_OFFLINE is set; unset it; the")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "official: train 82,346, validation 4,178, test 25,596 images, if the release is complete"),
        (["data.validation_share=0.1"], "official, validation 10 %: train 78,0"),
        (["data.split=chexnet"], "chexnet: train 78,468, validation 11,219, test 22,433 images"),
        (["data.split=patient"], "patient: 70/10/20 % of the patients"),
        (["data.split=shards"], "shards: as published"),
        (["data.split=./mine.csv"], "mine.csv: train 1, validation 1, test 0 patients"),
    ],
)
def test_split_is_printed_before_anything_is_sent(
    words: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.csv").write_text("patient_id,split\n1,train\n2,val\n")
    assert described_split(load_recipe("densenet", overrides=words).data, None).startswith(said)


def test_synthetic_shards_keep_their_split(tmp_path: Path) -> None:
    manifest = {
        "format": 1, "chexvision": "0", "source": {"kind": "drawn"}, "split": {"name": "patient", "seed": 0},
        "size": 32, "encoding": "png", "splits": {}, "shards": [], "files": [], "bad": [],
    }  # fmt: skip
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    assert described_split(load_recipe("densenet").data, read_manifest(tmp_path)) == "shards: as published"
    with pytest.raises(UsageError, match="these images are synthetic"):
        described_split(load_recipe("densenet", overrides=["data.split=chexnet"]).data, read_manifest(tmp_path))


@pytest.mark.parametrize("name", ["chex/xrays", "chex/xrays@main", "chex/xrays@v1"])
def test_branch_and_tag_are_resolved_to_a_sha(dataset: str, name: str) -> None:
    assert pinned_data(name, folders=False) == (f"chex/xrays@{dataset}", [])


def test_unknown_revision_and_unknown_dataset_are_distinguished(dataset: str) -> None:
    with pytest.raises(ChexError, match="chex/xrays has no revision nope"):
        pinned_data("chex/xrays@nope", folders=False)
    with pytest.raises(ChexError, match=r"no dataset chex/none.*hf auth login"):
        pinned_data("chex/none", folders=False)


def test_failing_hub_is_an_error_with_a_workaround(fake_hub: FakeHub, dataset: str) -> None:
    fake_hub.faults.add("xrays", Fault.status(503), times=99)
    with pytest.raises(ChexError, match=r"HTTP 503.*name the commit: chex/xrays@<40-hex sha>"):
        pinned_data("chex/xrays", folders=False)


def test_dropped_hub_connection_is_an_error_with_a_workaround(fake_hub: FakeHub, dataset: str) -> None:
    fake_hub.faults.add("xrays", Fault.lose_response(), times=99)
    with pytest.raises(ChexError, match=r"name the commit: chex/xrays@<40-hex sha>"):
        pinned_data("chex/xrays", folders=False)


def test_folder_is_made_absolute_for_local_targets_and_refused_for_remote_ones(
    shards: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(shards.parent)
    assert pinned_data("./shards", folders=True) == (str(shards), [])
    with pytest.raises(UsageError, match="--on local"):
        pinned_data("./shards", folders=False)


def test_folder_without_shards_suggests_how_to_build_them(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="chexvision shards build"):
        pinned_data(str(tmp_path), folders=True)
    with pytest.raises(UsageError, match="no such folder"):
        pinned_data(str(tmp_path / "nothing"), folders=True)


def test_default_destination_is_the_users_own_repository(fake_hub: FakeHub) -> None:
    assert destination(None, "densenet", folders=False) == "chex/chexvision-densenet"
    assert destination(None, "my/Own Recipe.yaml", folders=False) == "chex/chexvision-own-recipe"
    assert destination(None, "densenet", folders=True) is None


def test_without_a_token_there_is_no_default_destination() -> None:
    assert destination(None, "densenet", folders=False) is None


def test_refused_token_is_an_error_with_a_workaround(fake_hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    with pytest.raises(ChexError, match=r"does not accept this machine.s token.*--to USER/REPO") as refused:
        destination(None, "densenet", folders=False)
    assert "hf_wrong" not in str(refused.value)


def test_destination_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    assert destination("a/b", "densenet", folders=False) == "a/b"
    assert destination(str(tmp_path), "densenet", folders=True) == str(tmp_path)
    with pytest.raises(UsageError, match="cannot reach"):
        destination("./out", "densenet", folders=False)
    with pytest.raises(UsageError, match="names a revision"):
        destination("a/b@main", "densenet", folders=False)


def test_resolved_recipe_round_trips_as_one_file(tmp_path: Path) -> None:
    own = tmp_path / "mine.yaml"
    own.write_text("extends: densenet\noptim:\n  weight_decay: 3e-5\n")
    recipe = load_recipe(str(own), preset="smoke", overrides=["training.seed=7"])
    files = recipe_files(recipe)
    assert list(files) == ["recipe.json"]
    (tmp_path / "recipe.json").write_bytes(files["recipe.json"])
    own.unlink()
    assert read_resolved(tmp_path / "recipe.json") == recipe


def test_resolved_recipe_without_a_format_is_read(tmp_path: Path) -> None:
    recipe = load_recipe("densenet")
    (tmp_path / "recipe.json").write_text(recipe.model_dump_json(indent=2))
    assert read_resolved(tmp_path / "recipe.json") == recipe
    assert json.loads(recipe_files(recipe)["recipe.json"])["format"] == 2


def test_split_table_is_bundled_next_to_the_recipe(tmp_path: Path) -> None:
    table = tmp_path / "my split.csv.gz"
    table.write_bytes(gzip.compress(b"patient_id,split\n1,train\n"))
    recipe = load_recipe("densenet", overrides=[f"data.split={table}"])
    files = recipe_files(recipe)
    assert files["tables/my split.csv.gz"] == table.read_bytes()
    there = tmp_path / "b: 1"
    for name, content in files.items():
        (there / name).parent.mkdir(parents=True, exist_ok=True)
        (there / name).write_bytes(content)
    assert read_resolved(there / "recipe.json").data.split == str(there / "tables" / "my split.csv.gz")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "cannot be used"),
        ('{"name": "densenet"}', "model: Field required"),
        ('{"optimizer": "adam"}', "recipe"),
        ('{"format": 3, "nets": []}', "has format 3, this version reads 2; update chexvision"),
    ],
)
def test_file_that_is_not_a_resolved_recipe_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "recipe.json").write_text(text)
    with pytest.raises(UsageError, match=message):
        read_resolved(tmp_path / "recipe.json")


def test_split_table_that_is_missing_is_refused() -> None:
    recipe = load_recipe("densenet", overrides=["data.split=/none.csv"])
    with pytest.raises(UsageError, match=r"split /none\.csv: there is no such file"):
        recipe_files(recipe)


def test_invalid_split_table_is_refused(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("patient_id,split\n1,trian\n")
    recipe = load_recipe("densenet", overrides=[f"data.split={tmp_path}/t.csv"])
    with pytest.raises(UsageError, match="line 2: unknown split 'trian'"):
        recipe_files(recipe)


def test_split_tables_of_a_mixture_are_bundled_even_with_one_name(tmp_path: Path) -> None:
    for number, folder in enumerate("ab"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "mine.csv").write_text(f"patient_id,split\n{number},train\n")
    named = ", ".join(f"{{name: u/{of}, split: {tmp_path}/{of}/mine.csv}}" for of in "ab")
    recipe = load_recipe("scratch", overrides=[f"data.datasets=[{named}, {{name: u/c}}]", "data.split=patient"])
    there = tmp_path / "bundle"
    for name, content in recipe_files(recipe).items():
        (there / name).parent.mkdir(parents=True, exist_ok=True)
        (there / name).write_bytes(content)
    data = read_resolved(there / "recipe.json").data
    tables = [Path(str(one.split)).read_text() for one in data.datasets[:2]]
    assert tables == ["patient_id,split\n0,train\n", "patient_id,split\n1,train\n"]
    assert (data.split, data.datasets[2].split, data.dataset) == ("patient", None, None)


def test_every_data_set_of_a_mixture_is_pinned(dataset: str, tmp_path: Path) -> None:
    (tmp_path / "shards").mkdir()
    (tmp_path / "shards" / "a.parquet").write_bytes(b"")
    names = ["chex/xrays", str(tmp_path / "shards")]
    pinned, notes = pinned_datasets(names, folders=True)
    assert (pinned, notes) == ([f"chex/xrays@{dataset}", str(tmp_path / "shards")], [])
    datasets = ", ".join(f"{{name: {name}, weight: {weight}}}" for weight, name in enumerate(names, 1))
    recipe = load_recipe("scratch", overrides=[f"data.datasets=[{datasets}]", "data.split=shards"])
    assert [(one.name, one.weight) for one in on_datasets(recipe, pinned).data.datasets] == [
        (pinned[0], 1),
        (pinned[1], 2),
    ]
    assert check_datasets(recipe, pinned) == f"{pinned[0]}: shards: as published; {pinned[1]}: shards: as published"
    alone = on_datasets(recipe, [pinned[1]]).data
    assert (alone.dataset, alone.datasets) == (pinned[1], ())
    with pytest.raises(UsageError, match=r"shards is a folder on this machine, which the target cannot reach"):
        pinned_datasets(names, folders=False)


def test_weights_on_this_machine_are_for_targets_that_reach_them(tmp_path: Path) -> None:
    path = tmp_path / "mine.safetensors"
    recipe = load_recipe("scratch", overrides=[f"model.weights={path}"])
    with pytest.raises(UsageError, match=r"mine\.safetensors: no such file"):
        reachable_weights(recipe, folders=True)
    path.write_bytes(b"")
    reached, notes = reachable_weights(recipe, folders=True)
    assert (reached.model.weights, notes) == (str(path), [])
    with pytest.raises(UsageError, match=r"the target cannot reach; upload it \(hf upload USER/REPO"):
        reachable_weights(recipe, folders=False)


def test_a_license_that_restricts_weights_is_noted() -> None:
    settings = ["model.backbone=timm/convnextv2_tiny.fcmae_ft_in22k_in1k", "model.weights=imagenet"]
    _, [note] = reachable_weights(load_recipe("scratch", overrides=settings), folders=False)
    assert "cc-by-nc-4.0, which forbids commercial use" in note
