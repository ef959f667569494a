"""The exported files of a published model, checked to be those of its other files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from chexvision.errors import ChexError
from chexvision.files.atomic import read_regular, sha256_of
from chexvision.files.json_files import read_record
from chexvision.hub.hub_errors import hub_error
from chexvision.hub.reference import Reference, RepoRef
from chexvision.hub.repo_files import model_file
from chexvision.predict.published import Published
from chexvision.retry import is_transient
from chexvision.runtime.export_info import INFO, MODEL, QUANTIZED, ExportInfo

_LARGEST = 2**31 - 1  # bytes of an ONNX file; protobuf does not take more


@dataclass(frozen=True, slots=True)
class Exported:
    """One ONNX file of a published model.

    Args:
        name: of the model, for messages.
        info: about it.
        path: of the file.
        quantized: whether it computes in int8.
    """

    name: str
    info: ExportInfo
    path: Path
    quantized: bool = False

    def content(self) -> bytes:
        """The file's bytes.

        Raises:
            ChexError: it cannot be read.
        """
        try:
            return read_regular(self.path, _LARGEST)
        except OSError as error:
            raise ChexError(f"{self.path}: {error.strerror or error}") from None


def is_exported(published: Published) -> bool:
    """Whether the model was published with an exported file."""
    return model_file(published.reference, INFO) is not None


def find_export(published: Published, file: str = MODEL) -> Exported | None:
    """The exported model, or None where it was published without.

    Args:
        published: what the model was published with.
        file: `MODEL` or `QUANTIZED` of `chexvision.runtime.export_info`.

    Raises:
        ChexError: it cannot be fetched, is damaged, or was made of other files than the model has now.
    """
    reference = published.reference
    described = model_file(reference, INFO)
    if described is None:
        return None
    info = read_record(described, ExportInfo)
    if file not in info.files:
        return None
    path = model_file(reference, file)
    if path is None:
        raise ChexError(f"{reference} has {INFO} but no {file}; {_AGAIN} {reference}")
    if sha256_of(path) != info.files[file].sha256:
        raise ChexError(f"{path} is damaged: it is not the file that {INFO} describes; {_AGAIN} {reference}")
    _refuse_stale(published, info)
    return Exported(str(reference), info, path, file == QUANTIZED)


_AGAIN = "export it again with chexvision export"


def _refuse_stale(published: Published, info: ExportInfo) -> None:
    reference = published.reference
    if not any(name.endswith(".safetensors") for name in info.sources):
        raise ChexError(f"{INFO} of {reference} does not name the weights that it was made of; {_AGAIN} {reference}")
    for name, sha256 in info.sources.items():
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            raise ChexError(f"{INFO} of {reference} names {name!r}, which is not a file of the model")
        now = _sha256(reference, name)
        if now is not None and now != sha256:
            raise ChexError(f"the exported model of {reference} was made of another {name}; {_AGAIN} {reference}")
    if (published.check is not None) != bool(info.checks):
        raise ChexError(f"the exported model of {reference} has another input check; {_AGAIN} {reference}")


def _sha256(reference: Reference, name: str) -> str | None:
    """Of a file of a published model; "" where there is none, None where the Hub cannot be asked.

    A folder may be without its weights, which the exported model does not need: they cannot have changed then.
    Weights are not fetched for this. A repository is of one commit here, whose files do not change: without the Hub,
    those that were fetched from it earlier are used.
    """
    if isinstance(reference, Path) or not name.endswith(".safetensors"):
        path = model_file(reference, name)
        if path is None:
            return None if name.endswith(".safetensors") else ""
        return sha256_of(path)
    return _sha256_on_hub(reference, name)


def _sha256_on_hub(reference: RepoRef, name: str) -> str | None:
    from huggingface_hub import get_hf_file_metadata, hf_hub_url
    from huggingface_hub.errors import EntryNotFoundError, OfflineModeIsEnabled

    try:
        # Large files have their sha256 as ETag.
        return get_hf_file_metadata(hf_hub_url(reference.repo_id, name, revision=reference.revision)).etag
    except Exception as error:
        if isinstance(error, EntryNotFoundError):
            return ""
        if isinstance(error, OfflineModeIsEnabled) or is_transient(error):
            return None
        raise hub_error(error, f"asking for {name}", reference) from error
