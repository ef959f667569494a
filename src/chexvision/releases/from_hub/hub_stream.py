"""A dataset on the Hub as streams of rows, through `datasets`.

No code of a dataset is run and nothing is unpickled: `datasets` has not run scripts since 4.0, and of its own readers
only those of Parquet, Arrow and image folders are let in. That of WebDataset archives, for one, unpickles members.
"""

from __future__ import annotations

import logging
import re
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

from chexvision.errors import ChexError, UsageError
from chexvision.files.archives import Read
from chexvision.foreign import printable
from chexvision.hub.hub_errors import call_hub, hub_error
from chexvision.hub.reference import RepoRef, parse_reference
from chexvision.hub.repository import resolve_revision
from chexvision.images.sources import LARGEST, Found
from chexvision.releases.from_hub.hub_copies import check_files, download, instead_of_script

_BUILDERS = ("parquet", "arrow", "imagefolder")
_SPARSE_BLOCK = 2**15  # bytes; the labels of a row group of a hundred images take a few kilobytes
_CONFIG = re.compile(r"\w[\w.-]*", re.ASCII)
Streams: TypeAlias = Mapping[str, Any]  # datasets.IterableDataset by split


@dataclass(frozen=True, slots=True)
class HubSource:
    """A dataset at a commit; of several configurations one, or a folder in its place."""

    repo_id: str
    sha: str
    config: str | None = None

    @classmethod
    def parse(cls, text: str) -> HubSource:
        """Read ``USER/NAME@SHA[:CONFIG]``.

        Raises:
            UsageError: it is something else. If no commit is named, the message has the current one.
            ChexError: the Hub does not have it, or does not answer.
        """
        name, colon, config = text.partition(":")
        reference = parse_reference(name)
        if not isinstance(reference, RepoRef) or (colon and not _CONFIG.fullmatch(config)):
            raise UsageError(f"--set hub:{printable(text)} is not hub:USER/NAME@SHA or hub:USER/NAME@SHA:CONFIG")
        resolved = resolve_revision(reference, "dataset")
        if not reference.is_pinned:
            raise UsageError(
                f"--set hub:{text} is not pinned to a commit, and could change; now it is "
                f"hub:{resolved}{colon}{config}"
            )
        return cls(reference.repo_id, reference.revision or "", config or None)

    @property
    def reference(self) -> RepoRef:
        """The repository at the commit."""
        return RepoRef(self.repo_id, self.sha)

    def __str__(self) -> str:
        return f"{self.reference}:{self.config}" if self.config else str(self.reference)


@dataclass(frozen=True, slots=True)
class HubImages:
    """A container: the images of a dataset. The member of an image is ``SPLIT/FILE/ROW``, both counted from 0.

    Args:
        source: the dataset.
        column: the one with images.
    """

    source: HubSource
    column: str

    def __str__(self) -> str:
        return f"hub:{self.source}"

    def read(self, images: list[Found]) -> Iterator[tuple[Found, Read]]:
        """Stream the data files that contain the images, each once, without other columns where that is possible.

        Raises:
            ChexError: the Hub does not answer, a file is damaged, or lacks a row.
        """
        wanted: dict[tuple[str, int], dict[int, Found]] = defaultdict(dict)
        for found in images:
            split, number, place = found.member.split("/")
            wanted[split, int(number)][int(place)] = found
        streams = open_streams(self.source, [self.column])
        prefix = f"hf://datasets/{self.source.reference}/"
        for (split, file), rows in wanted.items():
            last = max(rows)
            for row, example in file_rows(self.source, streams, split, file):
                if row in rows:
                    yield rows[row], partial(_image_bytes, example[self.column], prefix, self.source)
                if row == last:
                    break
            else:
                raise ChexError(f"{self}: file {file} of split {split} ends before row {last}; begin again")


def open_streams(
    source: HubSource, columns: Sequence[str] | None = None, *, decode: bool = False, sparse: bool = False
) -> Streams:
    """The splits of a dataset, in the dataset's order, as `datasets.IterableDataset`.

    Args:
        source: the dataset.
        columns: those to read, where its format can leave out the others; None for all.
        decode: give PIL images, not bytes and paths.
        sparse: columns that take a small part of a file are read: the client reads ahead little, not 5 MB.

    Raises:
        UsageError: `datasets` is missing, or the dataset has no such configuration, or a format that is not read.
        ChexError: the Hub does not have it, or does not answer, or a file is damaged.
    """
    # An empty cache: where the Hub fails, `datasets` takes whatever commit of the dataset its cache has.
    with _told(source, "opening"), tempfile.TemporaryDirectory() as empty:
        builder = _builder(source, empty, {"hf": {"block_size": _SPARSE_BLOCK}} if sparse else None)
        kind = type(builder).__module__.rpartition(".")[2]
        if kind not in _BUILDERS:
            raise UsageError(
                f"{source} is in the format {kind}, not Parquet or a folder of images; {download(source.reference)}"
            )
        files = [str(file) for of_split in builder.config.data_files.values() for file in of_split]
        check_files(source.reference, source.config, files)
        if kind == "parquet" and columns is not None:
            builder.config.columns = [*columns]
        streams = builder.as_streaming_dataset()
        return {str(name): stream if decode else stream.decode(False) for name, stream in streams.items()}


def _builder(source: HubSource, cache: str, storage_options: dict[str, Any] | None) -> Any:
    """The `datasets.DatasetBuilder` of a configuration, or of a folder of that name, as copies in Parquet have."""
    try:
        from datasets import load_dataset_builder
    except ModuleNotFoundError as error:
        raise UsageError(f"hub: sets need the package {error.name}: pip install 'chexvision[train]'") from None
    load = partial(
        load_dataset_builder,
        source.repo_id,
        revision=source.sha,
        cache_dir=cache,
        storage_options=storage_options,
    )
    try:
        return load(source.config)
    except ValueError as no_config:
        if source.config is None or "BuilderConfig" not in str(no_config):
            raise
        try:
            return load(data_dir=source.config)
        except FileNotFoundError:
            raise no_config from None


def file_rows(source: HubSource, streams: Streams, split: str, file: int) -> Iterator[tuple[int, dict[str, Any]]]:
    """The rows of one data file, counted from 0.

    Raises:
        ChexError: the Hub does not answer, or the file is damaged.
    """
    with _told(source, f"reading {split}"):
        stream = streams[split]
        yield from enumerate(stream.shard(num_shards=stream.num_shards, index=file))


def _image_bytes(value: object, prefix: str, source: HubSource) -> bytes:
    data, path = (value.get("bytes"), value.get("path")) if isinstance(value, dict) else (value, None)
    if not isinstance(data, bytes):
        # A path of an image folder. Others, of this computer or another server, are not followed.
        if not isinstance(path, str) or not path.startswith(prefix):
            raise ValueError("it has no bytes")
        data = call_hub(partial(_fetch, path), "fetching an image", source.reference, "dataset")
    if len(data) > LARGEST:
        raise ValueError(f"more than {LARGEST >> 20} MiB")
    return data


def _fetch(path: str) -> bytes:
    from huggingface_hub import HfFileSystem

    with HfFileSystem().open(path, "rb") as file:
        data: bytes = file.read(LARGEST + 1)
        return data


@contextmanager
def _told(source: HubSource, what: str) -> Iterator[None]:
    """Errors of `datasets` and of the Hub in the block as ours; its own lines about them are not shown."""
    logger = logging.getLogger("datasets")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    except Exception as error:
        raise _error(error, source, what) from error
    finally:
        logger.setLevel(level)


def _error(error: Exception, source: HubSource, what: str) -> ChexError:
    import pyarrow as pa
    from datasets.data_files import EmptyDatasetError
    from datasets.exceptions import DataFilesNotFoundError, DatasetGenerationError

    if isinstance(error, ChexError):
        return error
    text = " ".join(printable(line.strip()) for line in str(error).splitlines() if line.strip())[:300]
    if isinstance(error, EmptyDatasetError | DataFilesNotFoundError):
        return UsageError(f"{source} has no data files: neither Parquet nor images")
    if isinstance(error, ValueError) and ("BuilderConfig" in text or "Config name is missing" in text):
        return UsageError(f"--set hub:{source}: name one of its configurations after a colon: {text}")
    if isinstance(error, RuntimeError) and "scripts are no longer supported" in text:
        return UsageError(f"{source} consists of a script, which is not run; {instead_of_script(source.reference)}")
    if isinstance(error, pa.ArrowException | ValueError | KeyError | TypeError | DatasetGenerationError):
        return ChexError(f"{source} cannot be read ({what}): {text}")
    return hub_error(error, f"{what} the dataset", source.reference, "dataset")
