"""What to do about data files that are not streamed, and the copies in Parquet that the Hub makes of many datasets.

A copy is the branch ``refs/convert/parquet``, with files such as ``CONFIG/train/0000.parquet``. Of a dataset of more
than 5 GB the Hub copies the first rows only, to ``CONFIG/partial-train``: huggingface.co/docs/dataset-viewer/parquet.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from chexvision.errors import UsageError
from chexvision.foreign import printable
from chexvision.hub.hub_errors import call_hub
from chexvision.hub.reference import RepoRef

if TYPE_CHECKING:
    from huggingface_hub import DatasetInfo

_BRANCH = "refs/convert/parquet"
_FILE = re.compile(r"(?P<config>[^/]+)/(?P<partial>partial-)?(?P<split>[^/]+)/\d{4,}\.parquet")
_ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".gz", ".7z", ".rar")


def instead_of_script(reference: RepoRef) -> str:
    """What to type for a dataset that is a script: its copy in Parquet, or a download.

    Raises:
        ChexError: the Hub does not answer.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import RevisionNotFoundError

    def asked() -> DatasetInfo | None:
        try:
            return HfApi().dataset_info(reference.repo_id, revision=_BRANCH)
        except RevisionNotFoundError:
            return None

    info = call_hub(asked, "looking for a copy in Parquet of", reference, "dataset")
    files = [] if info is None else [_FILE.fullmatch(one.rfilename) for one in info.siblings or ()]
    found = [file for file in files if file is not None]
    configs = sorted({file["config"] for file in found})
    if info is None or not configs or any(file["partial"] for file in found):
        return download(reference)
    others = f", or one of {', '.join(map(printable, configs[1:]))} after the colon" if configs[1:] else ""
    return f"name the Hub's copy in Parquet: --set hub:{reference.repo_id}@{info.sha}:{printable(configs[0])}{others}"


def check_files(reference: RepoRef, config: str | None, files: Sequence[str]) -> None:
    """Refuse data files that are not the whole of one configuration, and archives, of which each image would be read
    from the beginning.

    Args:
        reference: of the dataset, at a commit.
        config: the configuration that was chosen.
        files: URLs of its data files.

    Raises:
        UsageError: they are.
    """
    prefix = f"hf://datasets/{reference}/"
    paths = [url.removeprefix(prefix) for url in files]
    archive = next((path for path in paths if path.lower().endswith(_ARCHIVES)), None)
    if archive is not None:
        raise UsageError(f"{reference} has its images in archives ({printable(archive)}); {download(reference)}")
    copies = [_FILE.fullmatch(path) for path in paths]
    found = [file for file in copies if file is not None]
    if len(found) < len(copies):
        return  # not a copy
    partial = next((file["split"] for file in found if file["partial"]), None)
    if partial is not None:
        raise UsageError(
            f"{reference} has only the first rows of split {printable(partial)}, since the Hub copies 5 GB; name a "
            "commit of the dataset itself"
        )
    configs = sorted({file["config"] for file in found})
    if config is None and len(configs) > 1:
        names = ", ".join(map(printable, configs))
        raise UsageError(f"--set hub:{reference}: name one of its configurations after a colon: {names}")


def download(reference: RepoRef) -> str:
    """How to read a dataset from disk."""
    return (
        f"download it with: hf download {reference.repo_id} --repo-type dataset --revision {reference.revision} "
        "--local-dir DIR; then read DIR with --images and --set nih if it is NIH's release, else with --set csv, "
        "--labels and --map"
    )
