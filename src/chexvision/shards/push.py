"""A shard folder to a dataset on the Hub: shards one by one, then everything visible in a single commit."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from chexvision.errors import ChexError, PublishError, UsageError
from chexvision.hub.hub_errors import NotPrivate, hub_error
from chexvision.hub.reference import RepoRef
from chexvision.hub.repository import create_repository
from chexvision.parallel import map_as_completed, usable_cores
from chexvision.progress import Progress
from chexvision.releases.terms import check_private
from chexvision.retry import retried, status_of
from chexvision.shards.dataset_card import render_card
from chexvision.shards.manifest import MANIFEST_NAME, Manifest, RemoteFile, ShardEntry, read_manifest
from chexvision.shards.remote import list_files, without_client_bars
from chexvision.shards.verify import listed_otherwise, verify_shards

if TYPE_CHECKING:
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

_CARD = "README.md"
_AT_ONCE = 4
_SAMPLE = 200  # images to decode before anything is sent
_COMMITS_BY_OTHERS = 20


def create_private(repo_id: str) -> None:
    """Create a private dataset unless it exists.

    Raises:
        UsageError: it exists and is public.
        ChexError: the Hub does not answer, or the token may not create it.
    """
    try:
        create_repository(repo_id, "dataset", private=True)
    except NotPrivate as error:
        raise UsageError(str(error)) from error


def push_shards(folder: Path, repo_id: str, *, private: bool) -> RepoRef:
    """Upload a shard folder as a dataset; call again to continue after a failure.

    The folder is verified first. Contents that the Hub has already are not sent again, for example by an earlier call
    that failed. Then one commit makes the dataset exactly this set: shards of an earlier set go. In the
    end, sizes and hashes on the Hub are compared with the manifest.

    Args:
        folder: with `manifest.json` and ``data/``; its README.md becomes the dataset's card.
        repo_id: ``USER/NAME``, created if it is not there.
        private: whether only its owner may see it; of one that is there this is not changed.

    Returns:
        The dataset at its new commit, or at the newest one if nothing had changed.

    Raises:
        UsageError: there is no shard folder, or the dataset is public where it was to be private.
        ChexError: the folder differs from its manifest.
        PublishError: the upload failed; nothing of it shows on the main branch.
    """
    from huggingface_hub import HfApi

    manifest = read_manifest(folder)
    check_private(manifest.dataset.terms if manifest and manifest.dataset else None, "--repo", private=private)
    for check in verify_shards(folder, sample=_SAMPLE, seed=0, workers=usable_cores()):
        if not check.ok:
            raise ChexError(f"{folder} is not pushed, {check.name} failed: {'; '.join(check.problems[:3])}")
    if manifest is None:
        raise UsageError(f"{folder} has no manifest.json; build shards with: chexvision shards build")
    api, dataset = HfApi(), RepoRef(repo_id)
    try:
        create_repository(repo_id, "dataset", private=private)
        with without_client_bars():
            _upload(api, folder, dataset, manifest.shards)
            sha = retried(lambda: _complete(api, folder, dataset, manifest), what=f"committing to {dataset}")
    except NotPrivate as error:
        raise UsageError(str(error)) from error
    except PublishError:
        raise
    except Exception as error:
        failure = hub_error(error, "pushing shards", dataset, "dataset")
        raise PublishError(
            f"could not push to {dataset}: {failure}; then run the command again, uploaded files are not sent twice"
        ) from error
    pushed = RepoRef(repo_id, sha)
    _check(pushed, manifest)
    return pushed


def _upload(api: HfApi, folder: Path, dataset: RepoRef, shards: tuple[ShardEntry, ...]) -> None:
    """Send the shards' contents, which stay invisible until they are committed."""
    from huggingface_hub import CommitOperationAdd

    held = list_files(dataset)
    lacking = [shard for shard in shards if not _holds(held, shard)]

    def send(shard: ShardEntry) -> None:
        def once() -> None:
            addition = CommitOperationAdd(shard.path, folder / shard.path)
            api.preupload_lfs_files(dataset.repo_id, [addition], repo_type="dataset")

        retried(once, what=f"uploading {shard.path}")

    total, left = (sum(shard.bytes for shard in group) / 10**6 for group in (shards, lacking))
    with Progress(f"uploading to {dataset}", total, "MB", total - left) as progress:
        for shard, _ in map_as_completed(send, lacking, _AT_ONCE):
            progress.advance(shard.bytes / 10**6)


def _complete(api: HfApi, folder: Path, dataset: RepoRef, manifest: Manifest) -> str:
    """One commit that makes the main branch this set; its sha, or the head's if there is nothing to change.

    Called again after a lost answer, it finds nothing left to change.
    """
    from huggingface_hub.errors import HfHubHTTPError

    title = f"Push {manifest.images:,} images of {manifest.size}² in {len(manifest.shards)} shards"
    for _ in range(_COMMITS_BY_OTHERS):
        head = str(api.dataset_info(dataset.repo_id).sha)
        try:
            commit = api.create_commit(
                dataset.repo_id,
                _operations(folder, manifest, list_files(RepoRef(dataset.repo_id, head))),
                commit_message=title,
                repo_type="dataset",
                parent_commit=head,
            )
            return str(commit.oid)
        except HfHubHTTPError as error:
            if status_of(error) not in (409, 412):
                raise
    raise PublishError(f"others committed to {dataset} {_COMMITS_BY_OTHERS} times in between; run the command again")


def _operations(
    folder: Path, manifest: Manifest, held: dict[str, RemoteFile]
) -> list[CommitOperationAdd | CommitOperationDelete]:
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    card = folder / _CARD
    text = card.read_bytes() if card.is_file() else render_card(manifest).encode()
    wanted = {shard.path for shard in manifest.shards}
    former = [path for path in held if path.startswith("data/") and path not in wanted]
    return [
        CommitOperationAdd(_CARD, text),
        CommitOperationAdd(MANIFEST_NAME, folder / MANIFEST_NAME),
        *(CommitOperationAdd(file.path, folder / file.path) for file in manifest.files),
        *(
            CommitOperationAdd(shard.path, folder / shard.path)
            for shard in manifest.shards
            if not _holds(held, shard)
        ),
        *(CommitOperationDelete(path) for path in former),
    ]


def _holds(held: dict[str, RemoteFile], shard: ShardEntry) -> bool:
    return shard.path in held and held[shard.path].sha256 == shard.sha256


def _check(pushed: RepoRef, manifest: Manifest) -> None:
    """Raise PublishError where the Hub's files differ from the manifest."""
    files = list_files(pushed)
    problems = [found for entry in manifest.all_files if (found := listed_otherwise(pushed, files, entry))]
    if problems:
        raise PublishError(
            f"{pushed} differs from the pushed folder: {'; '.join(problems[:3])}; run the command again"
        )
