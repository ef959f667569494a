"""Images, tables and shards in an object store; what is wrong there is one line without a secret."""

from __future__ import annotations

import pickle
import socket
import threading
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import fsspec
import pytest
from moto.server import ThreadedMotoServer
from typer.testing import CliRunner

from chexvision.cli.data.shards import app
from chexvision.cluster.ray_build import make_shard
from chexvision.errors import ChexError, UsageError
from chexvision.files.object_stores import RemoteError, opened
from chexvision.files.remote_folder import RemoteFolder, remote_folder
from chexvision.images.remote_images import RemoteImages
from chexvision.shards.build import build_shards
from chexvision.shards.planned.ledger import FINISHED, Built
from chexvision.shards.planned.make import Work, make_shards
from chexvision.shards.planned.outputs import RemoteOutput
from tests.shards.conftest import Release, options, png, tree

KEY, SECRET = "AKIAEXAMPLE", "wJalrXUtnFEMI-secret"


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(endpoint: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The URL of an empty bucket."""
    at_endpoint(monkeypatch, endpoint)
    name = f"bucket{abs(hash(request.node.name))}"
    fsspec.filesystem("s3").mkdir(name)
    yield f"s3://{name}"
    fsspec.filesystem("s3").clear_instance_cache()


def at_endpoint(monkeypatch: pytest.MonkeyPatch, endpoint: str) -> None:
    """Let this process reach S3 there."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    fsspec.filesystem("s3").clear_instance_cache()


def upload(folder: Path, url: str) -> None:
    for path, data in tree(folder).items():
        fsspec.filesystem("s3").pipe_file(f"{url}/{path}", data)


def download(url: str) -> dict[str, bytes]:
    folder = RemoteFolder(url)
    return {path: folder.read(path) for path in folder.listed()}


def test_built_from_and_into_a_bucket_as_on_a_disk(release: Release, bucket: str, tmp_path: Path) -> None:
    release.put(release.names[5], b"not an image")
    release.write_lists(release.names[:30], release.names[30:])
    release.metadata.rename(release.root / release.metadata.name)
    words = ["--size", "32", "--shard-size", "50kB", "--max-bad", "0.1"]
    local, url = tmp_path / "local", f"{bucket}/sets/small"
    runner = CliRunner()
    built = runner.invoke(app, ["build", "--images", str(release.root), "--out", str(local), *words])
    assert built.exit_code == 0, built.output
    upload(release.root, f"{bucket}/nih")
    command = ["build", "--images", f"{bucket}/nih", "--out", url, *words]
    sent = runner.invoke(app, command)
    assert sent.exit_code == 0, sent.output
    assert sent.output == built.output.replace(str(local), url)
    assert download(url) == tree(local)
    again = runner.invoke(app, command)
    assert isinstance(again.exception, UsageError) and "--overwrite" in str(again.exception)
    replaced = runner.invoke(app, [*command, "--overwrite"])
    assert replaced.exit_code == 0
    assert download(url) == tree(local)


def test_a_task_gets_no_image_and_no_secret(release: Release, bucket: str, tmp_path: Path) -> None:
    upload(release.root, f"{bucket}/nih")
    chosen = options(shard_bytes=50_000)
    sizes = []

    def in_other_processes(work: Work) -> Iterator[Built]:
        for shard in work.shards:
            sent = pickle.dumps((shard, work.recipe, work.output, work.recipe.key(shard)))
            assert SECRET.encode() not in sent and KEY.encode() not in sent
            sizes.append(len(sent) / len(shard.images))
            task = pickle.loads(sent)  # noqa: S301  # made above
            yield make_shard(*task)
            assert make_shard(*task) == make_shard(*task)  # finished: not made again

    out, images = RemoteFolder(f"{bucket}/out"), RemoteImages(RemoteFolder(f"{bucket}/nih"))
    build_shards([], release.metadata, out, chosen, make=in_other_processes, remote=(images,))
    build_shards([release.root], release.metadata, tmp_path / "local", chosen)
    assert download(out.url) == tree(tmp_path / "local")
    assert max(sizes) < 2000


def test_a_build_into_a_bucket_continues(
    release: Release, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = options(shard_bytes=50_000)
    build_shards([release.root], release.metadata, tmp_path / "local", chosen)
    out = RemoteFolder(f"{bucket}/out")
    put, sent = RemoteFolder.put, list[str]()

    def ends(self: RemoteFolder, file: Path, path: str) -> None:
        if len(sent) == 3:
            raise RemoteError("the network is gone")
        put(self, file, path)
        sent.append(path)

    with monkeypatch.context() as patch:
        patch.setattr(RemoteFolder, "put", ends)
        with pytest.raises(ChexError, match="the network is gone"):
            build_shards([release.root], release.metadata, out, chosen)
    held = download(out.url)
    assert "manifest.json" not in held
    assert len([path for path in held if path.startswith(f"{FINISHED}/t")]) == 3
    first, sent = sent, []

    def counted(self: RemoteFolder, file: Path, path: str) -> None:
        put(self, file, path)
        sent.append(path)

    monkeypatch.setattr(RemoteFolder, "put", counted)
    build_shards([release.root], release.metadata, out, chosen)
    assert not set(first) & set(sent)
    assert download(out.url) == tree(tmp_path / "local")


def some(work: Work) -> Iterator[Built]:
    """Make all shards but two, then fail."""
    yield from make_shards(replace(work, shards=work.shards[:-2]))
    raise ChexError("enough")


@pytest.mark.parametrize("hashes", [True, False], ids=["ETag is MD5", "ETag is no hash"])
def test_replaced_objects_are_noticed(
    release: Release, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hashes: bool
) -> None:
    if not hashes:
        monkeypatch.setattr("chexvision.images.remote_images.is_stamp_of", lambda data, stamp: False)
    for name in release.names[16:]:
        release.path(name).unlink()
    upload(release.root, f"{bucket}/nih")
    out, images = RemoteFolder(f"{bucket}/out"), (RemoteImages(RemoteFolder(f"{bucket}/nih")),)
    chosen = options(shard_bytes=50_000)
    first = release.names[0]

    def put(data: bytes) -> None:
        release.put(first, data)
        fsspec.filesystem("s3").pipe_file(f"{bucket}/nih/{release.path(first).relative_to(release.root)}", data)

    with pytest.raises(ChexError, match="enough"):
        build_shards([], release.metadata, out, chosen, make=some, remote=images)
    put(png(1000))

    def meanwhile(work: Work) -> Iterator[Built]:
        put(png(2000))
        yield from make_shards(work)

    with pytest.raises(ChexError, match=f"{first} was changed, moved or removed after it was listed"):
        build_shards([], release.metadata, out, chosen, make=meanwhile, remote=images)
    build_shards([], release.metadata, out, chosen, remote=images)
    build_shards([release.root], release.metadata, tmp_path / "fresh", chosen)
    assert download(out.url) == tree(tmp_path / "fresh")


def test_what_lost_tasks_leave_in_a_bucket_is_made_again(release: Release, bucket: str, tmp_path: Path) -> None:
    out, chosen = RemoteFolder(f"{bucket}/out"), options(shard_bytes=50_000)
    with pytest.raises(ChexError, match="enough"):
        build_shards([release.root], release.metadata, out, chosen, make=some)
    held = download(out.url)
    records = sorted(path for path in held if path.startswith(FINISHED))
    shards = [f"data/{Path(record).stem}.parquet" for record in records]
    out.write(shards[0], "half of it")
    out.remove(records[1])
    out.write(records[2], held[records[2]].decode().replace('"key": "', '"key": "0'))  # of other images
    out.write(records[3], held[records[4]].decode())  # of another shard
    made = []

    def counted(work: Work) -> Iterator[Built]:
        for built in make_shards(work):
            made.append(built.shard.path)
            yield built

    build_shards([release.root], release.metadata, out, chosen, make=counted)
    build_shards([release.root], release.metadata, tmp_path / "fresh", chosen)
    assert download(out.url) == tree(tmp_path / "fresh")
    assert {*shards} & {*made} == {*shards[:4]}


def test_of_two_commands_with_one_output_the_later_finishes(release: Release, bucket: str, tmp_path: Path) -> None:
    out, later = RemoteFolder(f"{bucket}/out"), options(shard_bytes=50_000, size=40)

    def overtaken(work: Work) -> Iterator[Built]:
        made = make_shards(work)
        yield next(made)
        build_shards([release.root], release.metadata, out, later)
        yield from made

    with pytest.raises(ChexError, match=f"^another command writes to {out} since this one began; this one ends$"):
        build_shards([release.root], release.metadata, out, options(shard_bytes=50_000), make=overtaken)
    build_shards([release.root], release.metadata, tmp_path / "local", later)
    assert download(out.url) == tree(tmp_path / "local")


def test_an_output_that_cannot_be_written_is_told_before_any_image_is_read(release: Release, bucket: str) -> None:
    def make(work: Work) -> Iterator[Built]:
        raise AssertionError("begun")

    out = RemoteFolder(f"{bucket}x/out")
    with pytest.raises(RemoteError, match="is in no bucket that the credentials of this machine show"):
        build_shards([release.root], release.metadata, out, options(), make=make)


def test_objects_that_stand_for_folders_are_no_files(bucket: str) -> None:
    for name in ("", "data/", "data/x.png/", "finished/"):
        fsspec.filesystem("s3").pipe_file(f"{bucket}/out/{name}", b"")
    out = RemoteFolder(f"{bucket}/out")
    assert out.listed() == {}
    RemoteOutput(out).begin(overwrite=False)


def test_other_files_in_the_output_are_not_touched(release: Release, bucket: str) -> None:
    fsspec.filesystem("s3").pipe_file(f"{bucket}/out/thesis.docx", b"x")
    with pytest.raises(UsageError, match=r"holds other files, such as thesis\.docx"):
        build_shards([release.root], release.metadata, RemoteFolder(f"{bucket}/out"), options(overwrite=True))
    assert list(download(f"{bucket}/out")) == ["thesis.docx"]


def test_shards_of_others_in_the_output_are_not_deleted(release: Release, bucket: str) -> None:
    files = {f"{bucket}/out/README.md", f"{bucket}/out/data/train-00000-of-00001.parquet"}
    for path in files:
        fsspec.filesystem("s3").pipe_file(path, b"x")
    out = RemoteFolder(f"{bucket}/out")
    with pytest.raises(UsageError, match=r"holds README\.md, and neither manifest\.json nor records"):
        build_shards([release.root], release.metadata, out, options())
    assert {f"{out.url}/{path}" for path in download(out.url)} == files
    RemoteOutput(out).begin(overwrite=True)


def test_the_file_that_each_repository_has_is_no_obstacle(bucket: str) -> None:
    fsspec.filesystem("s3").pipe_file(f"{bucket}/out/.gitattributes", b"x")
    output = RemoteOutput(RemoteFolder(f"{bucket}/out"))
    output.begin(overwrite=False)
    output.end()
    assert list(download(f"{bucket}/out")) == [".gitattributes"]


def test_a_missing_folder_and_a_vanished_image_are_one_line(release: Release, bucket: str, tmp_path: Path) -> None:
    missing = RemoteImages(RemoteFolder(f"{bucket}/nothing"))
    with pytest.raises(UsageError, match="no PNG, JPEG or DICOM file in s3://"):
        build_shards([], release.metadata, tmp_path / "out", options(), remote=(missing,))
    with pytest.raises(RemoteError, match=f"^{bucket}/nih/gone.png does not exist$"):
        RemoteFolder(f"{bucket}/nih").read("gone.png")
    nowhere = RemoteFolder("s3://no-such-bucket/x")
    with pytest.raises(RemoteError, match="s3://no-such-bucket/x"):
        nowhere.put(release.metadata, "x")


def test_an_unknown_key_is_denied_in_one_line(endpoint: str, bucket: str, tmp_path: Path) -> None:
    def check_keys(after: str) -> None:
        request = urllib.request.Request(
            f"{endpoint}/moto-api/reset-auth", after.encode(), {"Content-Type": "text/plain"}
        )
        urllib.request.urlopen(request).close()

    fsspec.filesystem("s3").pipe_file(f"{bucket}/a.png", b"pixels")
    images = RemoteImages(RemoteFolder(bucket))
    check_keys("0")  # requests that are not checked
    try:
        for act in (images.members, lambda: images.folder.read("a.png"), lambda: images.folder.write("b", "x")):
            with pytest.raises(RemoteError, match=r"access denied.*check the credentials of this machine"):
                act()
    finally:
        check_keys("inf")


def test_what_a_package_says_is_one_line_without_a_secret(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(path: str) -> bytes:
        raise PermissionError(f"signed https://user:{SECRET}@s3/x?X-Amz-Signature={SECRET} refused\nsecond line")

    folder = RemoteFolder(bucket)
    system, _ = opened(folder.url)
    monkeypatch.setattr(system, "cat_file", denied)
    with pytest.raises(RemoteError, match=r"access denied.*check the credentials") as raised:
        folder.read("a.png")
    assert SECRET not in str(raised.value) and "\n" not in str(raised.value)


class Flaky:
    """A proxy on loopback that drops so many connections before it passes them on."""

    def __init__(self, target: str, drops: int) -> None:
        host, _, port = target.removeprefix("http://").rpartition(":")
        self._target = (host, int(port))
        self._left = drops
        self.dropped = 0
        self._server = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._server.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        self._server.close()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            if self._left:
                self._left -= 1
                self.dropped += 1
                client.recv(100)
                client.close()
                continue
            upstream = socket.create_connection(self._target)
            for source, sink in ((client, upstream), (upstream, client)):
                threading.Thread(target=self._pass_on, args=(source, sink), daemon=True).start()

    @staticmethod
    def _pass_on(source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(1 << 16):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            return


def test_a_lost_connection_is_tried_again_and_told_in_one_line(
    endpoint: str, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fsspec.filesystem("s3").pipe_file(f"{bucket}/a.png", b"pixels")
    flaky = Flaky(endpoint, drops=1)
    at_endpoint(monkeypatch, flaky.url)
    assert RemoteFolder(bucket).read("a.png") == b"pixels"
    assert flaky.dropped == 1
    flaky.close()
    at_endpoint(monkeypatch, flaky.url)
    with pytest.raises(RemoteError, match=r"a\.png cannot be reached: ") as raised:
        RemoteFolder(bucket).read("a.png")
    assert "\n" not in str(raised.value) and SECRET not in str(raised.value)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        (f"s3://{KEY}:{SECRET}@bucket/x", "--images s3://bucket/x: leave out user, password and query"),
        (f"s3://{KEY}:a/{SECRET}@bucket/x", "--images s3://bucket/x: leave out user, password and query"),
        (f"s3://{KEY}:{SECRET}/x", "--images s3://…: leave out user, password and query"),
        (f"s3://bucket/x?sig={SECRET}", "--images s3://bucket/x: leave out user, password and query"),
        ("ftp://host/x", "is none of s3://, gs://"),
        ("s3://", "names no folder"),
        ("gs://bucket/x", "needs gcsfs, which is not installed: pip install gcsfs"),
    ],
)
def test_urls_that_are_not_understood(url: str, said: str) -> None:
    with pytest.raises(UsageError) as raised:
        remote_folder("--images", url)
    assert said in str(raised.value)
    assert SECRET not in str(raised.value)


def test_a_listing_has_the_stamp_of_each_content(bucket: str) -> None:
    folder = RemoteFolder(f"{bucket}/in")
    stored = {}
    for text in ("first", "other"):
        folder.write("a.png", text)
        stored[text] = RemoteImages(folder).stored()["a.png"]
    assert stored["first"].size == stored["other"].size == 5
    assert stored["first"].stamp and stored["first"].stamp != stored["other"].stamp


def test_a_listing_that_leaves_its_folder_is_refused(monkeypatch: pytest.MonkeyPatch, bucket: str) -> None:
    folder = RemoteFolder(bucket)
    system, root = opened(folder.url)
    for path in (f"{root}/../x.png", "elsewhere/x.png", f"{root}/a\\b.png"):
        monkeypatch.setattr(type(system), "find", lambda *_, path=path, **__: {path: {"size": 1}})
        with pytest.raises(RemoteError, match="is listed, which is outside"):
            folder.listed()
