"""Training and prediction prepare a radiograph equally, and images are never larger than those of the shards."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from huggingface_hub import HfApi
from numpy.typing import NDArray

import tests.training.runs  # noqa: F401 - registers the backbone "tiny"
from chexvision.config.data_config import ClaheConfig, DataConfig
from chexvision.data.dataset import open_split
from chexvision.data.decode import decoded_images
from chexvision.data.rows import read_rows
from chexvision.data.source import check_image_size, find_shards, preprocessing_of
from chexvision.errors import ChexError, UsageError
from chexvision.hub.reference import RepoRef
from chexvision.images.preprocessing import Preprocessing
from chexvision.images.radiograph import decode_grey
from chexvision.inference.prepare import prepare
from chexvision.models.classifier import CheXVision
from chexvision.recipes import load_recipe
from chexvision.shards.build import BuildOptions, build_shards
from chexvision.shards.push import push_shards
from chexvision.shards.schema import COLUMNS
from chexvision.shards.split_rule import SHARDS
from tests.fakes.fixtures import hub_here
from tests.present import decoded
from tests.shards.pushed import CountingHub

SHARD_SIZE = 128


def data_config(image_size: int) -> DataConfig:
    return load_recipe("densenet", overrides=[f"data.image_size={image_size}"]).data


@pytest.fixture(scope="module")
def originals(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few real radiographs of 1024², the one in color among them, in the release's layout."""
    folder = tmp_path_factory.mktemp("release") / "images_001" / "images"
    folder.mkdir(parents=True)
    every = sorted((real_data / "nih-sample").rglob("*.png"))
    colored = [path for path in every if decoded(path.read_bytes()).ndim == 3]
    assert colored
    for path in {*every[:9], *colored[:1]}:
        (folder / path.name).symlink_to(path)
    return folder.parents[1]


@pytest.fixture(scope="module")
def shards(originals: Path, real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("built") / "shards"
    options = BuildOptions(
        split="patient", size=SHARD_SIZE, encoding="png", shard_bytes=10**8, workers=2, seed=0, max_bad=0.0,
        overwrite=False,
    )  # fmt: skip
    build_shards([originals], real_data / "Data_Entry_2017_v2020.csv.gz", folder, options)
    return folder


def rgb_copy(shards: Path, out: Path) -> Path:
    """The same images as other tools publish them: RGB PNGs, no manifest."""
    for path in sorted((shards / "data").glob("*.parquet")):
        table = pq.read_table(path)
        images = [
            {"bytes": cv2.imencode(".png", decoded(row["bytes"], cv2.IMREAD_COLOR))[1]
                      .tobytes(), "path": row["path"]}
            for row in table.column("image").to_pylist()
        ]  # fmt: skip
        index = table.schema.get_field_index("image")
        table = table.set_column(index, "image", pa.array(images, table.schema.field("image").type))
        (out / "data").mkdir(parents=True, exist_ok=True)
        pq.write_table(table.select(["image", "labels", "filename"]), out / "data" / path.name)
    return out


def seen_in_training(shards: Path, image_size: int) -> dict[str, NDArray[np.uint8]]:
    source, config = find_shards(shards), data_config(image_size)
    rows = read_rows(source.shards, SHARDS)
    splits = [open_split(source, rows, name, config, quiet=True) for name in rows if len(rows[name])]
    return {
        name: np.asarray(split.images[i]) for split in splits for i, name in enumerate(split.rows.filenames.tolist())
    }


@pytest.mark.parametrize("form", ["grey", "RGB"])
@pytest.mark.parametrize("image_size", [SHARD_SIZE, 96, 64])
def test_prediction_prepares_an_original_as_training_does(
    shards: Path, originals: Path, tmp_path: Path, image_size: int, form: str
) -> None:
    if form == "RGB":
        shards = rgb_copy(shards, tmp_path / "rgb")
    trained = seen_in_training(shards, image_size)
    preprocessing = preprocessing_of(find_shards(shards), data_config(image_size))
    CheXVision(backbone="tiny", hidden_features=0, preprocessing=preprocessing).save_pretrained(tmp_path / "model")
    model = CheXVision.from_pretrained(tmp_path / "model")
    files = sorted(originals.rglob("*.png"))
    assert sorted(trained) == [path.name for path in files]
    for path in files:
        assert np.array_equal(prepare(model, path), trained[path.name]), path.name


def test_resizing_in_one_step_would_give_a_sharper_image(originals: Path) -> None:
    grey = decode_grey(min(originals.rglob("*.png")).read_bytes())
    clahe = ClaheConfig(enabled=False, clip_limit=2.0, tiles=8)
    two, one = (
        cv2.Laplacian(Preprocessing(shard_size=size, image_size=96, clahe=clahe).apply(grey), cv2.CV_64F).var()
        for size in (SHARD_SIZE, None)
    )
    assert two < 0.9 * one


def test_images_above_the_shards_size_are_refused_before_anything_is_decoded(shards: Path) -> None:
    source = find_shards(shards)
    with pytest.raises(UsageError, match=r"data\.image_size 129 is above the 128 pixels.*data\.image_size=128"):
        open_split(source, read_rows(source.shards, SHARDS), "train", data_config(129), quiet=True)
    with pytest.raises(UsageError, match="above the 128 pixels"):
        check_image_size(shards, data_config(129))
    check_image_size(shards, data_config(128))


def test_shards_smaller_than_the_models_images_are_not_enlarged(shards: Path) -> None:
    source = find_shards(shards)
    rows = read_rows(source.shards, SHARDS)["train"]
    with pytest.raises(ChexError, match="128x128 pixels, fewer than the model's 160x160"):
        decoded_images(source, rows, Preprocessing(shard_size=320, image_size=160))
    # Models saved before the sizes were recorded keep their behavior.
    assert decoded_images(source, rows, Preprocessing(image_size=160)).shape[1:] == (160, 160)


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[CountingHub]:
    with hub_here(tmp_path / "hub", CountingHub) as hub:
        yield hub


def test_on_the_hub_only_the_manifest_is_read(shards: Path, hub: CountingHub) -> None:
    pushed = push_shards(shards, "chex/nih", private=False)
    asked = len(hub.requests)
    with pytest.raises(UsageError, match="above the 128 pixels of the images of chex/nih@"):
        check_image_size(pushed, data_config(160))
    assert not any(".parquet" in request.path for request in hub.requests[asked:])


def test_without_a_manifest_only_one_image_is_read(shards: Path, tmp_path: Path, hub: CountingHub) -> None:
    folder = rgb_copy(shards, tmp_path / "rgb")
    first = min((folder / "data").glob("train*"))
    table = pq.read_table(first)
    many = io.BytesIO()
    pq.write_table(pa.concat_tables([table] * 40), many, row_group_size=len(table), compression="none")
    api = HfApi()
    api.create_repo("chex/rgb", repo_type="dataset")
    sha = api.upload_file(
        path_or_fileobj=many.getvalue(), path_in_repo=f"data/{first.name}", repo_id="chex/rgb", repo_type="dataset"
    ).oid
    assert sha is not None
    reference = RepoRef("chex/rgb", sha)
    with pytest.raises(UsageError, match="above the 128 pixels"):
        check_image_size(reference, data_config(129))
    check_image_size(reference, data_config(128))
    assert hub.sent < len(many.getvalue()) / 4


def test_a_shard_without_an_image_is_a_one_line_error(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    path = tmp_path / "data" / "train-00000-of-00001.parquet"
    none = pa.table({name: pa.array([], kind) for name, kind in COLUMNS[:3]})
    for content, message in (
        (pa.table({"labels": ["Mass"]}), "has no column 'image'"),
        (none, "has no rows"),
    ):
        pq.write_table(content, path)
        with pytest.raises(ChexError, match=message):
            check_image_size(tmp_path, data_config(64))
    path.write_bytes(b"PAR1 not really")
    with pytest.raises(ChexError, match="is not a readable Parquet file"):
        check_image_size(tmp_path, data_config(64))


def test_shards_that_are_too_large_for_any_model_are_refused(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    side = 4100
    png = cv2.imencode(".png", np.zeros((side, side), np.uint8))[1].tobytes()
    table = pa.table({"image": [png], "filename": ["a.png"], "labels": ["Mass"], "patient_id": [1]})
    pq.write_table(table, tmp_path / "data" / "train-00000-of-00001.parquet")
    with pytest.raises(UsageError, match=f"{side} pixels per side, more than 4096"):
        check_image_size(tmp_path, data_config(64))
