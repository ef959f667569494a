"""The bundle: the source of a run as one archive that is the same bytes wherever the same tree is packed."""

from __future__ import annotations

import hashlib
import io
import lzma
import os
import re
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from chexvision.errors import ChexError
from chexvision.layout import PACKAGE_DIR, shared_dir

_LEFT_OUT = re.compile(r"^(\..*|__pycache__|.*\.py[co]|.*~|.*\.egg-info)$")
_SECRETS = {
    "a Hugging Face token": re.compile(rb"\bhf_(?:[A-Za-z0-9]{30,}|(?:oauth|jwt)_[A-Za-z0-9._-]{20,})"),
    "a Kaggle token": re.compile(rb"\bKGAT_[A-Za-z0-9]{16,}"),
    "a Kaggle key": re.compile(rb"""["']?key["']?\s*[:=]\s*["'][0-9a-f]{32}["']"""),
}
_SECRET_VARIABLES = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "KAGGLE_API_TOKEN", "KAGGLE_KEY")
_PRESET = 6  # of xz


@dataclass(frozen=True, slots=True)
class Bundle:
    """A packed source tree.

    Args:
        archive: a ``.tar.xz``.
        sha256: of `archive`, 64 hex digits.
        sizes: bytes of each packed file, by its path in the archive.
    """

    archive: bytes
    sha256: str
    sizes: Mapping[str, int]


def pack(extra: Mapping[str, bytes] | None = None) -> Bundle:
    """Pack the package, the recipes and the kernels of this copy of chexvision.

    Args:
        extra: further files of this run, by their path in the archive.

    Raises:
        ChexError: a file seems to contain a token.
    """
    files = dict(_tree(PACKAGE_DIR, "src/chexvision", skip=("share", "app")))  # no session shows a page
    for name in ("configs", "kernels"):
        files |= _tree(shared_dir(name), name)
    files |= extra or {}
    for name in sorted(files):
        refuse_secrets(files[name], name)
    archive = _archive(files)
    sizes = {name: len(content) for name, content in files.items()}
    return Bundle(archive, hashlib.sha256(archive).hexdigest(), sizes)


def _tree(folder: Path, name: str, skip: tuple[str, ...] = ()) -> Iterator[tuple[str, bytes]]:
    for entry in sorted(folder.iterdir()):
        if _LEFT_OUT.match(entry.name) or entry.name in skip:
            continue
        if entry.is_dir() and not entry.is_symlink():
            yield from _tree(entry, f"{name}/{entry.name}")
        elif entry.is_file():
            yield f"{name}/{entry.name}", entry.read_bytes()


def _archive(files: Mapping[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name in sorted(files):
            member = tarfile.TarInfo(name)  # of mode 0644, owned by 0, from 1970
            member.size = len(files[name])
            tar.addfile(member, io.BytesIO(files[name]))
    return lzma.compress(packed.getvalue(), preset=_PRESET)


def refuse_secrets(content: bytes, name: str) -> None:
    """Refuse what looks like a token, or contains one of the environment's.

    Raises:
        ChexError: it does; the message names `name`, never the value.
    """
    for what, pattern in _SECRETS.items():
        if pattern.search(content):
            raise ChexError(f"{name} seems to contain {what} and is not sent anywhere; take it out of the file")
    for variable in _SECRET_VARIABLES:
        value = os.environ.get(variable, "").strip()
        if len(value) >= 8 and value.encode() in content:
            raise ChexError(f"{name} contains the value of {variable} and is not sent anywhere; take it out")
