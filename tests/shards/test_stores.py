"""The Hub on loopback as an object store, and what the packages of others raise."""

from __future__ import annotations

from pathlib import Path

import pytest
from huggingface_hub import HfApi
from typer.testing import CliRunner

from chexvision.cli.data.shards import app
from chexvision.errors import UsageError
from chexvision.files.object_stores import RemoteError, one_line
from chexvision.files.remote_folder import RemoteFolder, remote_folder
from chexvision.images.remote_images import RemoteImages
from chexvision.shards.build import build_shards
from tests.fakes.fixtures import FAULTS
from tests.fakes.hub import FakeHub
from tests.shards.conftest import Release, options, tree
from tests.shards.test_remote_build import download

ODD = ("a b.png", "50%.png", "per%20cent.png", "x#1.png", "why?.png", "at@home.png", "bücher.png")
SECRET = "Eby8vdM02xNOcqFlqUwJPLlmEtl"


@pytest.fixture
def repository(hub: FakeHub) -> str:
    """The URL of an empty private dataset."""
    HfApi().create_repo("chex/films", repo_type="dataset", private=True)
    return "hf://datasets/chex/films"


def test_built_from_a_commit_and_into_a_dataset_of_the_hub(
    release: Release, repository: str, hub: FakeHub, tmp_path: Path
) -> None:
    for name in release.names[12:]:
        release.path(name).unlink()
    sent = HfApi().upload_folder(repo_id="chex/films", repo_type="dataset", folder_path=release.root)
    RemoteFolder(repository).write("images_001/later.png", "not in the commit")
    hub.page_size = 5
    images = RemoteImages(RemoteFolder(f"{repository}@{sent.oid}"))
    HfApi().create_repo("chex/out", repo_type="dataset", private=True)
    out, chosen = RemoteFolder("hf://datasets/chex/out"), options(shard_bytes=50_000)
    build_shards([], release.metadata, out, chosen, remote=(images,))
    build_shards([release.root], release.metadata, tmp_path / "local", chosen)
    held = download(out.url)
    del held[".gitattributes"]
    assert held == tree(tmp_path / "local")
    with pytest.raises(UsageError, match="already holds shards; add --overwrite"):
        build_shards([], release.metadata, out, chosen, remote=(images,))


def test_names_are_kept(repository: str) -> None:
    folder = RemoteFolder(f"{repository}/a b#c")
    for name in ODD:
        folder.write(name, name)
    assert {path: folder.read(path).decode() for path in folder.listed()} == {name: name for name in ODD}


@pytest.mark.parametrize("fault", ["429", "503", "disconnect in the request", "disconnect in the response"])
def test_a_busy_hub_is_tried_again(repository: str, hub: FakeHub, waits: list[float], fault: str) -> None:
    folder = RemoteFolder(repository)
    folder.write("a.png", "pixels")
    for match in ("/revision/|GET /api/datasets/chex/films$", "/tree/", "/resolve/", "/commit/"):
        hub.faults.add(match, FAULTS[fault])
    assert folder.listed()["a.png"].size == 6
    assert folder.read("a.png") == b"pixels"
    folder.write("b.png", "pixels")
    assert folder.read_small("b.png") == b"pixels"
    assert folder.read_small("c.png") is None


def test_what_the_hub_does_not_show_is_one_line(repository: str, hub: FakeHub, tmp_path: Path) -> None:
    file = tmp_path / "x"
    file.write_text("x")
    gone = r"is in no repository or revision that the credentials of this machine show"
    folder = RemoteFolder(f"{repository}@{'0' * 40}")
    for act in (folder.listed, lambda: folder.put(file, "x"), lambda: folder.write("x", "x")):
        with pytest.raises(RemoteError, match=gone):
            act()
    with pytest.MonkeyPatch.context() as patch:
        hub.environment(patch, "hf_wrongwrongwrong")
        with pytest.raises(RemoteError, match=r"access denied \(.*\); check .* such as HF_TOKEN$") as raised:
            RemoteFolder(repository).listed()
    assert "hf_wrong" not in str(raised.value) and "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "url", ["hf://datasets/USER", "hf://USER/NAME", "hf://spaces/USER/NAME", "hf://datasets/a/@x"]
)
def test_places_of_the_hub_without_shards(url: str) -> None:
    with pytest.raises(UsageError, match="is neither hf://datasets/USER/NAME nor hf://buckets/USER/NAME"):
        remote_folder("--out", url)


@pytest.mark.parametrize("command", ["verify", "info"])
def test_shards_in_an_object_store_are_copied_first(command: str) -> None:
    ended = CliRunner().invoke(app, [command, f"s3://key:{SECRET}@films/out"])
    assert isinstance(ended.exception, UsageError)
    assert str(ended.exception).startswith("shards cannot be read from s3:// by this command: copy the folder")
    assert SECRET not in str(ended.exception)


class HttpResponseError(Exception):
    """As azure-core's: it has the status."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status_code = status


class ClientAuthenticationError(HttpResponseError):
    """As azure-core's."""


class HttpError(Exception):
    """As that of gcsfs: it has the status as its code."""

    code = 401


@pytest.mark.parametrize(
    ("url", "error", "credentials"),
    [
        ("az://films/in", HttpResponseError(403, "Server failed to authenticate"), "AZURE_STORAGE_ACCOUNT_NAME"),
        ("az://films/in", ClientAuthenticationError(400, "no token"), "AZURE_STORAGE_ACCOUNT_NAME"),
        ("abfs://films/in", ValueError("unable to connect to account for x"), "AZURE_STORAGE_CONNECTION_STRING"),
        ("gs://films/in", OSError("Forbidden: b/films\ndetails"), "GOOGLE_APPLICATION_CREDENTIALS"),
        ("gs://films/in", HttpError("Invalid Credentials, 401"), "GOOGLE_APPLICATION_CREDENTIALS"),
        ("s3://films/in", PermissionError("Forbidden"), "AWS_ACCESS_KEY_ID"),
    ],
)
def test_denied_access_names_what_to_set(url: str, error: Exception, credentials: str) -> None:
    with pytest.raises(RemoteError, match=f"^{url}: access denied .*{credentials}") as raised, one_line(url):
        raise error
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "text",
    [
        f"DefaultEndpointsProtocol=https;AccountName=a;AccountKey={SECRET};EndpointSuffix=core.windows.net",
        f"BlobEndpoint=https://a/;SharedAccessSignature=sv=1&sig={SECRET}",
        f"GET https://a.blob.core.windows.net/films/x.png?sv=1&sig={SECRET} failed",
        f"no bucket s3://key:a/{SECRET}@films/in",
        f"refused hf_{SECRET}",
        f"Authorization: Bearer {SECRET}",
        f"the first line\nstring to sign: {SECRET}",
    ],
)
def test_no_secret_of_a_package_is_shown(text: str) -> None:
    with pytest.raises(RemoteError) as raised, one_line("az://films/in"):
        raise RuntimeError(text)
    assert str(raised.value).startswith("az://films/in cannot be reached: RuntimeError (")
    assert SECRET not in str(raised.value) and "\n" not in str(raised.value)
