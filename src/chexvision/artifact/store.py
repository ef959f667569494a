"""Where artifacts are published and fetched: one small interface, a Hub repository and a folder behind it."""

from __future__ import annotations

import filecmp
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from chexvision.artifact.contents import REQUIRED, REQUIRED_OF_ENSEMBLE
from chexvision.errors import ChexError, PublishError
from chexvision.files.atomic import write_text_atomic
from chexvision.files.atomic_folder import atomic_folder, locked
from chexvision.hub.hub_errors import call_hub, hub_error
from chexvision.hub.one_commit import commit_files, left_over
from chexvision.hub.reference import Reference, RepoRef
from chexvision.hub.repo_files import CONFIG, ENSEMBLE
from chexvision.hub.repository import create_repository
from chexvision.retry import reason, retried

if TYPE_CHECKING:
    from huggingface_hub import GitCommitInfo, HfApi

_TITLE = "Publish run "
_REVISIONS = ".revisions"
_PUBLISHED = "PUBLISHED"
_LOCK = ".lock"
_ATTEMPTS = 8  # two minutes: a run took hours
# Other people's files stay, and a model is looked for first.
_HIDDEN = f"its {CONFIG}, which no run published, would be loaded instead of the ensemble; delete it there"
_COMMITS_BY_OTHERS = 20  # each of them is a run that ended within the same seconds


@dataclass(frozen=True, slots=True)
class Publication:
    """Where an artifact is published.

    Args:
        address: a web page or a folder.
        revision: the commit, or the tag in a folder.
        reference: what `chexvision pull` and the like take: ``USER/REPO@<sha>`` or the folder.
    """

    address: str
    revision: str
    reference: str


class ArtifactStore(Protocol):
    """A model repository that artifacts are published to under a tag and fetched from at a revision."""

    def publish(self, folder: Path, tag: str) -> Publication:
        """Put the files of `folder` into the repository in one step, and tag that.

        Files of earlier publications that `folder` lacks are deleted; other people's files stay.
        Publishing the same tag again changes nothing.

        Raises:
            PublishError: it could not be done; nothing of it is visible on the main branch then.
        """
        ...

    def fetch(self, revision: str | None, out: Path) -> Path:
        """Bring the files at `revision` (default: the newest) into the new folder `out`.

        Raises:
            ChexError: there is no such artifact, or it could not be fetched.
        """
        ...


def open_store(reference: Reference, *, private: bool = False, again: str | None = None) -> ArtifactStore:
    """The store that a reference names.

    Args:
        reference: a repository or a folder.
        private: whether a repository is to be seen by its owner alone; see `create_repository`.
        again: what to do after a failed publication, for its message; None for that of a run.
    """
    if isinstance(reference, RepoRef):
        return HubStore(reference.repo_id, private=private, again=again)
    return FolderStore(reference, again=again)


def _failure(where: object, why: object, folder: Path, tag: str, again: str | None) -> PublishError:
    advice = again or f"publish it then with: chexvision runs collect {tag}"
    return PublishError(f"could not publish to {where}: {why}; the artifact is complete in {folder}: {advice}")


class HubStore:
    """A model repository on the Hub.

    The commit of a publication lists its files, by which the next one knows them from the owner's own.
    """

    def __init__(self, repo_id: str, *, private: bool = False, again: str | None = None) -> None:
        self.repo_id = repo_id
        self._private = private
        self._again = again

    def publish(self, folder: Path, tag: str) -> Publication:
        from huggingface_hub import HfApi

        api = HfApi()
        try:
            create_repository(self.repo_id, "model", private=self._private)
            revision = retried(
                lambda: self._publish(api, folder, tag), what=f"publishing to {self.repo_id}", attempts=_ATTEMPTS
            )
        except Exception as error:
            failure = hub_error(error, "publishing a run", RepoRef(self.repo_id))
            raise _failure(self.repo_id, failure, folder, tag, self._again) from error
        return Publication(f"{api.endpoint}/{self.repo_id}/tree/{tag}", revision, f"{self.repo_id}@{revision}")

    def _publish(self, api: HfApi, folder: Path, tag: str) -> str:
        """Do what is left to do; what an earlier attempt achieved is kept, also where its response was lost."""
        refs = api.list_repo_refs(self.repo_id)
        tagged = next((ref.target_commit for ref in refs.tags if ref.name == tag), None)
        if tagged is not None:
            return str(tagged)
        title = f"{_TITLE}{tag}"
        for _ in range(_COMMITS_BY_OTHERS):
            commits = api.list_repo_commits(self.repo_id)
            landed = next((commit.commit_id for commit in commits if commit.title == title), None)
            landed = landed or self._commit(api, folder, title, commits)
            if landed is not None:
                api.create_tag(self.repo_id, tag=tag, revision=landed, exist_ok=True)
                return str(landed)
        raise ChexError(f"others committed {_COMMITS_BY_OTHERS} times during the attempt")

    def _commit(self, api: HfApi, folder: Path, title: str, before: Sequence[GitCommitInfo]) -> str | None:
        """One commit of all files on top of the newest one; None where another commit came first."""
        files = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
        head, gone = before[0].commit_id, left_over(api, self.repo_id, "model", files, before, _TITLE)
        if ENSEMBLE in files and CONFIG not in gone and api.get_paths_info(self.repo_id, [CONFIG], revision=head):
            raise ChexError(_HIDDEN)
        return commit_files(api, self.repo_id, "model", files, gone, title, head)

    def fetch(self, revision: str | None, out: Path) -> Path:
        from huggingface_hub import snapshot_download

        reference = RepoRef(self.repo_id, revision)

        def download(partial: Path) -> None:
            snapshot = call_hub(
                lambda: snapshot_download(self.repo_id, revision=revision), "fetching all files", reference
            )
            shutil.copytree(snapshot, partial, dirs_exist_ok=True)

        return _fetched(out, str(reference), download)


class FolderStore:
    """A folder with the same files as a repository on the Hub.

    Each tag is kept below ``.revisions/``; files that several revisions share are not stored twice there,
    the folder itself shows the newest. ``.revisions/PUBLISHED`` names the tags in order: what it does not name is
    not published.
    """

    def __init__(self, folder: Path, *, again: str | None = None) -> None:
        self.folder = folder
        self._again = again

    def publish(self, folder: Path, tag: str) -> Publication:
        try:
            (self.folder / _REVISIONS).mkdir(parents=True, exist_ok=True)
            with locked(self.folder / _REVISIONS / _LOCK):
                published = self._published()
                if tag not in published:
                    with atomic_folder(self.folder / _REVISIONS / tag) as partial:
                        shutil.copytree(folder, partial, dirs_exist_ok=True)
                    published.append(tag)
                    write_text_atomic(self.folder / _REVISIONS / _PUBLISHED, "\n".join([*published, ""]))
                self._show(published)
                if (folder / ENSEMBLE).is_file() and (self.folder / CONFIG).exists():
                    raise ChexError(_HIDDEN)
        except (OSError, ChexError) as error:
            raise _failure(self.folder, reason(error), folder, tag, self._again) from error
        return Publication(str(self.folder), tag, str(self.folder))

    def _published(self) -> list[str]:
        try:
            return (self.folder / _REVISIONS / _PUBLISHED).read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return []

    def _show(self, published: list[str]) -> None:
        """Make the folder's own files those of the last revision, in place of those of the others."""
        revision = self.folder / _REVISIONS / published[-1]
        for former in (self.folder / _REVISIONS / tag for tag in published[:-1]):
            for file in sorted(path for path in former.rglob("*") if path.is_file()):
                name = file.relative_to(former)
                shown = self.folder / name
                if shown.is_file() and not (revision / name).exists() and filecmp.cmp(shown, file, shallow=False):
                    shown.unlink()
                    _remove_empty(shown.parent, self.folder)
        for file in sorted(path for path in revision.rglob("*") if path.is_file()):
            shown = self.folder / file.relative_to(revision)
            if shown.exists() and shown.samefile(file):
                continue
            shown.parent.mkdir(parents=True, exist_ok=True)
            replacement = shown.with_name(f".{shown.name}.partial")
            replacement.unlink(missing_ok=True)
            try:
                replacement.hardlink_to(file)
            except OSError:
                shutil.copy2(file, replacement)  # a file system without hard links
            replacement.replace(shown)

    def fetch(self, revision: str | None, out: Path) -> Path:
        published = self._published()
        if revision is not None and revision not in published:
            known = f"it holds {', '.join(published)}" if published else "it holds none"
            raise ChexError(f"no revision {revision!r} in {self.folder}; {known}")
        wanted = revision or next(reversed(published), None)
        source = self.folder if wanted is None else self.folder / _REVISIONS / wanted
        if not source.is_dir():
            raise ChexError(f"no artifact at {source}; check the path")
        return _fetched(out, str(source), lambda partial: shutil.copytree(source, partial, dirs_exist_ok=True))


def _remove_empty(folder: Path, root: Path) -> None:
    while folder != root and not any(folder.iterdir()):
        folder.rmdir()
        folder = folder.parent


def _fetched(out: Path, name: str, fill: Callable[[Path], object]) -> Path:
    """Fill the new folder `out`, which appears only if it is an artifact."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ChexError(f"{out} exists and is not empty; choose another --out")
    with atomic_folder(out) as partial:
        fill(partial)
        required = REQUIRED_OF_ENSEMBLE if (partial / ENSEMBLE).is_file() else REQUIRED
        missing = [file for file in required if not (partial / file).is_file()]
        if missing:
            raise ChexError(f"{name} is not a CheXVision model: it has no {missing[0]}")
    return out
