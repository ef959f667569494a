"""Images in a remote folder, such as ``s3://bucket/folder``: each is fetched when it is read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import PurePosixPath

from chexvision.errors import UsageError
from chexvision.files.archives import Read, is_archive
from chexvision.files.remote_folder import RemoteFolder, StoredFile
from chexvision.files.stamps import changed, is_stamp_of
from chexvision.images.sources import LARGEST, Found, is_image_name


@dataclass(frozen=True, slots=True)
class RemoteImages:
    """A container: the images below a remote folder, by the endings of their names."""

    folder: RemoteFolder

    def __str__(self) -> str:
        return str(self.folder)

    def members(self) -> dict[str, str]:
        """The paths of the images with their stamps, see `stored`."""
        return {path: _stamp(file) for path, file in self.stored().items()}

    def stored(self) -> dict[str, StoredFile]:
        """What the store says of each image, by its path, sorted.

        Raises:
            UsageError: there is an archive, or an image that is too large.
            RemoteError: it cannot be listed.
        """
        files = self.folder.listed()
        for path, file in files.items():
            if is_archive(PurePosixPath(path)):
                raise UsageError(f"{self.folder}/{path} is an archive; unpack it there, or copy it to a local disk")
            if is_image_name(path) and file.size > LARGEST:
                raise UsageError(
                    f"{self.folder}/{path} has {file.size:,} bytes, more than {LARGEST >> 20} MiB; remove it"
                )
        return {path: file for path, file in files.items() if is_image_name(path)}

    def read(self, images: list[Found]) -> Iterator[tuple[Found, Read]]:
        """See `read_images`; reading raises RemoteError."""
        yield from ((found, partial(self._read, found)) for found in images)

    def _read(self, found: Found) -> bytes:
        data = self.folder.read(found.member)
        # Where the stamp is no hash of the bytes, the store is asked once more: a request, not a second download.
        if found.stamp and not is_stamp_of(data, found.stamp):
            now = self.folder.stored(found.member)
            if now is None or now.size != len(data) or _stamp(now) != found.stamp:
                raise changed(found.path)
        return data


def _stamp(file: StoredFile) -> str:
    return f"{file.size} {file.stamp}"
