"""Where published runs are: names, folders and users, as commands take them. Needs no numpy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from chexvision.artifact.contents import METRICS
from chexvision.artifact.published_run import PublishedRun, read_published
from chexvision.errors import UsageError
from chexvision.hub.published_models import MOST_MODELS, models_of
from chexvision.hub.reference import Reference, RepoRef, parse_reference, short_names
from chexvision.hub.repo_files import RUN
from chexvision.parallel import map_in_order

_READERS = 8  # models that are fetched at once


def find_published(sources: Sequence[str], *, private: bool) -> list[Reference]:
    """The published runs of users, repositories and folders; each once, in order.

    Args:
        sources: a user or organization of the Hub, ``USER/REPO[@REVISION]``, the folder of a model, or a folder with
            folders of models.
        private: whether to list private repositories of users, too.

    Raises:
        UsageError: a folder holds no model.
        ChexError: the Hub does not answer.
    """
    found: list[Reference] = []
    for source in sources:
        reference = parse_reference(source)
        if isinstance(reference, RepoRef):
            found.append(reference)
        elif reference.is_dir():
            found += _in_folder(reference)
        elif "/" in source or source.startswith("."):
            raise UsageError(f"{source} is neither a folder here nor USER/REPO[@REVISION]")
        else:
            found += models_of(source, private=private)
    if len(found) > MOST_MODELS:
        raise UsageError(f"more than {MOST_MODELS} runs are named, which a page does not show; name fewer")
    return list(dict.fromkeys(found))


def read_all_published(
    references: Sequence[Reference], on_read: Callable[[int], object] = lambda n: None
) -> list[PublishedRun]:
    """What each published, in order; several are fetched at once."""

    def read(named: tuple[str, Reference]) -> PublishedRun:
        found = read_published(*named)
        on_read(1)
        return found

    names = short_names([_plain(of) for of in references])
    return list(map_in_order(read, zip(names, references, strict=True), _READERS))


def _plain(reference: Reference) -> str:
    return str(reference) if isinstance(reference, RepoRef) else str(reference.resolve())


def _in_folder(folder: Path) -> list[Reference]:
    """The folder itself where it is a model's, or else the folders of models in it."""

    def is_model(path: Path) -> bool:
        return (path / METRICS).is_file() or (path / RUN).is_file()

    if is_model(folder):
        return [folder]
    found: list[Reference] = [path for path in sorted(folder.iterdir()) if path.is_dir() and is_model(path)]
    if not found:
        raise UsageError(f"{folder} holds no published model, nor do the folders in it: none has a {METRICS}")
    return found
