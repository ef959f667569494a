"""What differs between the object stores that fsspec opens: packages, credentials, listings, errors."""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import PurePosixPath
from typing import Any, TypeVar

from chexvision.errors import ChexError
from chexvision.foreign import printable
from chexvision.retry import retried

T = TypeVar("T")


class RemoteError(ChexError):
    """A remote folder cannot be read or written."""


@dataclass(frozen=True, slots=True)
class Store:
    """One kind of object store.

    Args:
        package: that opens it.
        system: the class of file systems, ``module:name``.
        holder: what its folders are in.
        credentials: where the package looks for them first.
        read: options of its `cat_file`.
        attempts: how often to try what fails in a way that may pass. The packages try lost connections and busy
            stores again themselves, except that huggingface_hub does so for some requests only.
        hides_missing: whether `find` says of a holder that is not there that it is empty.
    """

    package: str
    system: str
    holder: str
    credentials: str
    read: tuple[tuple[str, int], ...] = ()
    attempts: int = 1
    hides_missing: bool = False


_S3 = Store("s3fs", "s3fs:S3FileSystem", "bucket", "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE")
# `gcsfs.GCSFileSystem` asks a second service for the kind of the bucket before each request, and logs when it gets no
# answer; only zonal buckets need it.
_GS = Store("gcsfs", "gcsfs.core:GCSFileSystem", "bucket", "GOOGLE_APPLICATION_CREDENTIALS")
_AZ = Store(
    "adlfs",
    "adlfs:AzureBlobFileSystem",
    "container",
    "AZURE_STORAGE_ACCOUNT_NAME with AZURE_STORAGE_ACCOUNT_KEY or AZURE_STORAGE_SAS_TOKEN, or "
    "AZURE_STORAGE_CONNECTION_STRING",
    hides_missing=True,
)
# Without blocks a file is one request; with them its folder is listed first, and that listing is kept.
_HF = Store(
    "huggingface_hub",
    "huggingface_hub:HfFileSystem",
    "repository or revision",
    "HF_TOKEN",
    read=(("block_size", 0),),
    attempts=6,
)

STORES = {"s3": _S3, "gs": _GS, "gcs": _GS, "az": _AZ, "abfs": _AZ, "abfss": _AZ, "hf": _HF}

# They log what they raise, some with a traceback, to stderr where no handler is set.
_TALKATIVE = ("adlfs", "aiobotocore", "azure", "botocore", "fsspec", "gcsfs", "google", "huggingface_hub", "s3fs")

# What listings say of the content, hashes first: huggingface_hub blob_id, in buckets xet_hash; gcsfs md5Hash, of
# composed objects crc32c; adlfs etag; s3fs ETag. A time says less.
_STAMPS = ("blob_id", "xet_hash", "md5Hash", "crc32c", "etag", "ETag", "LastModified", "last_modified", "mtime")

# user:password@ of a URL, also of a password with a slash; queries, which may be signed; fields of connection
# strings; tokens of the Hub and of OAuth.
_SECRET = re.compile(
    r"(?<=://)(?:[^/@\s]+@|[^/@:\s]+:\S*@)|\?[^\s\"']+"
    r"|\b(?:AccountKey|SharedAccessSignature|sig|signature)=[^\s;&\"']+|\bhf_\w{8,}|\bBearer\s+\S+|\bya29\.\S+",
    re.IGNORECASE,
)
# Names of errors, or of a base of theirs, that mean that no credentials were found, or not the right ones.
_NO_ACCESS = {"PermissionError", "NoCredentialsError", "PartialCredentialsError", "ClientAuthenticationError",
              "CredentialUnavailableError", "GoogleAuthError", "LocalTokenNotFoundError"}  # fmt: skip
# How errors without a class of their own begin: gcsfs for HTTP 403; adlfs without an account.
_NO_ACCESS_SAID = ("Forbidden: ", "unable to connect to account")


def store_of(url: str) -> Store:
    """The kind of a URL; its protocol is in `STORES`."""
    return STORES[url.partition("://")[0]]


def opened(url: str) -> tuple[Any, str]:
    """The file system of a URL, and the path in it, without a slash at its end."""
    for name in _TALKATIVE:
        logger = logging.getLogger(name)
        if not any(isinstance(handler, logging.NullHandler) for handler in logger.handlers):
            logger.addHandler(logging.NullHandler())
            logger.propagate = False
    module, _, name = store_of(url).system.partition(":")
    # Not by `fsspec.core.url_to_fs`, to which "::" in a name is a chain of file systems.
    kind = getattr(import_module(module), name)
    return kind(**kind._get_kwargs_from_urls(url)), str(kind._strip_protocol(url)).rstrip("/")


def repeated(call: Callable[[], T], url: str) -> T:
    """What `call` returns, tried as often as the store of `url` needs it."""
    return retried(call, what=without_secrets(url), attempts=store_of(url).attempts)


def found(store: Store, system: Any, root: str) -> dict[str, Mapping[str, Any]]:
    """What a package says of all files below a path, by their paths relative to it.

    Raises:
        FileNotFoundError: the bucket or repository is not there.
        RemoteError: a path leaves the folder.
    """
    system.invalidate_cache()
    infos = system.find(root, detail=True)
    if not infos and store.hides_missing:
        with warnings.catch_warnings():  # who may read a folder, but not look at its container, is told so
            warnings.simplefilter("ignore")
            if not system.exists(root.partition("/")[0]):
                raise FileNotFoundError(root)
    # A name with a slash at its end stands for a folder: some tools make such files.
    return {_inside(path, root): info for path, info in infos.items() if path != root and not path.endswith("/")}


def info_now(system: Any, path: str) -> Mapping[str, Any]:
    """What a package says of one file."""
    system.invalidate_cache()
    info: Mapping[str, Any] = system.info(path)
    return info


def or_none(act: Callable[[Any, str], T]) -> Callable[[Any, str], T | None]:
    """`act`, returning None where it finds nothing."""

    def tried(system: Any, path: str) -> T | None:
        try:
            return act(system, path)
        except Exception as error:
            if is_missing(error):
                return None
            raise

    return tried


def _inside(path: str, root: str) -> str:
    relative = path.removeprefix(f"{root}/")
    if relative == path or ".." in PurePosixPath(relative).parts or relative.startswith("/") or "\\" in relative:
        raise RemoteError(f"{printable(path)} is listed, which is outside {root}")
    return relative


def no_holder(url: str) -> str:
    """What it means that nothing is found where a folder need not exist."""
    return f"is in no {store_of(url).holder} that the credentials of this machine show; check its name, and them"


def stamp(info: Mapping[str, Any]) -> str:
    """The store's own note of a file's content; empty where there is none."""
    return next((f"{key} {info[key]}" for key in _STAMPS if info.get(key)), "")


def without_secrets(text: str) -> str:
    """`text` without what may be a password, a key, a token or a signature."""
    return _SECRET.sub("", text)


@contextmanager
def one_line(place: str, missing: str = "does not exist") -> Iterator[None]:
    """Whatever a package raises, as one line without secrets.

    Args:
        place: the URL.
        missing: what it means that something is not found.
    """
    try:
        yield
    except ChexError:
        raise
    except Exception as error:  # noqa: BLE001  # each package has errors of its own
        if is_missing(error):
            raise RemoteError(f"{place} {missing}") from None
        told = _told(error)
        if _no_access(error):
            store = STORES.get(place.partition("://")[0])
            known = f", such as {store.credentials}" if store is not None else ""
            raise RemoteError(f"{place}: access denied{told}; check the credentials of this machine{known}") from None
        raise RemoteError(f"{place} cannot be reached: {type(error).__name__}{told}") from None


def is_missing(error: Exception) -> bool:
    """Whether a file, or its bucket or repository, is not there."""
    names = {base.__name__ for base in type(error).__mro__}
    return bool(names & {"FileNotFoundError", "ResourceNotFoundError", "EntryNotFoundError"})


def _no_access(error: Exception) -> bool:
    names = {base.__name__ for base in type(error).__mro__}
    response = getattr(error, "response", None)  # of botocore's errors a dict
    statuses = {getattr(error, "status_code", None), getattr(error, "code", None)}
    statuses.add(getattr(response, "status_code", None))
    return bool(names & _NO_ACCESS or statuses & {401, 403} or str(error).startswith(_NO_ACCESS_SAID))


def _told(error: Exception) -> str:
    """The first line of what it says: Azure's further ones are ids, and the text that was to be signed."""
    lines = str(getattr(error, "server_message", None) or error).strip().splitlines()
    text = " ".join(without_secrets(lines[0]).split()) if lines else ""
    return f" ({printable(text[:200])})" if text else ""
