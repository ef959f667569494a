"""Images in an object store are predicted as those of a disk are."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from tests.predict.conftest import Run
from tests.runtime.small_export import publish
from tests.shards.test_remote_build import bucket, endpoint, upload

__all__ = ["bucket", "endpoint"]


def test_rows_of_a_bucket_are_those_of_a_folder(tmp_path: Path, images: Path, bucket: str, run: Run) -> None:
    model = publish(tmp_path / "model")
    upload(images, f"{bucket}/in")
    words = ["predict", model, "--engine", "onnx", "--out"]
    assert run(*words, tmp_path / "local.csv", images)[0] == 1
    code, _, error = run(*words, tmp_path / "remote.csv", f"{bucket}/in")
    assert code == 1
    assert f"{bucket}/in/1/07.png: not a readable PNG, JPEG or DICOM file" in error
    local, remote = (list(csv.DictReader((tmp_path / name).open())) for name in ("local.csv", "remote.csv"))
    assert [row["path"] for row in remote] == [row["path"].replace(str(images), f"{bucket}/in") for row in local]
    assert [row | {"path": ""} for row in remote] == [row | {"path": ""} for row in local]


@pytest.mark.parametrize(
    ("url", "code", "message"),
    [
        ("s3://key:secret@bucket/in", 2, "INPUT s3://bucket/in: leave out user, password and query"),
        ("ftp://host/in", 2, "INPUT ftp://host/in is none of s3://"),
        ("{bucket}/nothing", 2, "/nothing contains no PNG, JPEG or DICOM file"),
    ],
)
def test_url_that_cannot_be_is_refused_in_one_line(
    tmp_path: Path, bucket: str, run: Run, url: str, code: int, message: str
) -> None:
    ended, said, error = run("predict", tmp_path, url.format(bucket=bucket))
    assert (ended, said, error.count("\n")) == (code, "", 1)
    assert message in error
    assert "secret" not in error
