"""Images in a remote folder, such as ``s3://bucket/folder``: each is fetched when it is read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import PurePosixPath

from chexvision.errors import UsageError
from chexvision.files.archives import Read, is_archive
from chexvision.files.remote_folder import RemoteFolder
from chexvision.images.sources import LARGEST, Found, is_image_name


@dataclass(frozen=True, slots=True)
class RemoteImages:
    """A container: the images below a remote folder, by the endings of their names."""

    folder: RemoteFolder

    def __str__(self) -> str:
        return str(self.folder)

    def members(self) -> list[str]:
        """The paths of the images, see `sizes`."""
        return list(self.sizes())

    def sizes(self) -> dict[str, int]:
        """The bytes of each image, by its path, sorted.

        Raises:
            UsageError: there is an archive, or an image that is too large.
            RemoteError: it cannot be listed.
        """
        files = self.folder.listed()
        for path, size in files.items():
            if is_archive(PurePosixPath(path)):
                raise UsageError(f"{self.folder}/{path} is an archive; unpack it there, or copy it to a local disk")
            if is_image_name(path) and size > LARGEST:
                raise UsageError(f"{self.folder}/{path} has {size:,} bytes, more than {LARGEST >> 20} MiB; remove it")
        return {path: size for path, size in files.items() if is_image_name(path)}

    def read(self, images: list[Found]) -> Iterator[tuple[Found, Read]]:
        """See `read_images`; reading raises RemoteError."""
        yield from ((found, partial(self.folder.read, found.member)) for found in images)
