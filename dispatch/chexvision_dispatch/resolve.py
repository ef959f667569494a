"""What a run was asked for, made exact: a recipe that travels, a dataset at a commit, a destination."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from chexvision.config import Recipe
from chexvision.errors import ChexError, UsageError
from chexvision.hub.reference import Reference, RepoRef, parse_reference
from chexvision.nih.release import SPLITS, release
from chexvision.provenance import slug
from chexvision.shards.manifest import read_manifest
from chexvision.shards.split import official_split, read_split_table
from chexvision.shards.split_rule import SplitChoice

_YAML = (".yaml", ".yml")


@dataclass(frozen=True, slots=True)
class Travelling:
    """A recipe as the session will name it, and the files it needs beside those that are packed anyway."""

    arguments: list[str]
    files: Mapping[str, bytes]


def travelling_recipe(recipe: Recipe, model: str, preset: str | None, overrides: Sequence[str]) -> Travelling:
    """How a session asks for `recipe`: by name, or, where files of this machine decide, with them in the bundle.

    Raises:
        UsageError: the recipe names a split table that is not there, or is something else.
    """
    files: dict[str, bytes] = {}
    if model.endswith(_YAML) or (preset or "").endswith(_YAML):
        from chexvision.recipes import load_recipe

        name = f"recipes/{Path(model).stem}.yaml"
        merged = load_recipe(model, preset=preset).model_dump(mode="json", exclude={"name"})
        files[name] = (json.dumps(merged, indent=2) + "\n").encode()  # JSON is YAML
        arguments = ["--model", f"{{bundle}}/{name}"]
    else:
        arguments = ["--model", model, *(["--preset", preset] if preset else [])]
    for override in overrides:
        arguments += ["--set", override]
    table = SplitChoice.of(recipe.data).table
    if table is not None:
        read_split_table(table)
        files[f"tables/{table.name}"] = table.read_bytes()
        arguments += ["--set", f'data.split="{{bundle}}/tables/{table.name}"']
    return Travelling(arguments, files)


def pinned_data(text: str, *, folders: bool) -> str:
    """The dataset at a commit, or a folder's absolute path.

    Args:
        text: ``USER/NAME@REVISION``, ``USER/NAME`` or a folder. Only what is no full sha is asked of the Hub.
        folders: whether the target can read folders of this machine.

    Raises:
        UsageError: the folder holds no shards or cannot be reached by the target.
        ChexError: the Hub does not know the dataset or its revision, or does not answer.
    """
    reference = parse_reference(text)
    if isinstance(reference, Path):
        if not folders:
            raise UsageError(
                f"--data {text} is a folder of this machine, which the target cannot reach; "
                "name a dataset on the Hub, USER/NAME@<sha>, or run it here with --on local"
            )
        return str(_shard_folder(reference))
    if reference.is_pinned:
        return str(reference)
    return f"{reference.repo_id}@{_sha(reference)}"


def described_split(recipe: Recipe, data: str) -> str:
    """How the images will be divided, for a person.

    Args:
        recipe: what is to be trained.
        data: from `pinned_data`.

    Raises:
        UsageError: see `SplitChoice.parse` and `SplitChoice.fitting`.
        ChexError: the manifest of a folder cannot be read.
    """
    reference = parse_reference(data)
    manifest = read_manifest(reference) if isinstance(reference, Path) else None
    synthetic = manifest is not None and manifest.source.kind == "drawn"
    choice = SplitChoice.of(recipe.data).fitting(synthetic=synthetic)
    if choice.table is not None:
        split_of = list(read_split_table(choice.table).values())
        counts, what = {split: split_of.count(split) for split in SPLITS}, "patients"
    elif choice.rule in ("official", "chexnet"):
        share = choice.validation_share
        table = release().chexnet if share is None else official_split(share)
        counts, what = release().count(table), "images, if the whole release is there"
    else:
        return "patient: 70/10/20 % of the patients" if choice.rule == "patient" else "shards: as they lie"
    return f"{choice}: {', '.join(f'{split} {counts[split]:,}' for split in SPLITS)} {what}"


def confirmed(data: str) -> list[str]:
    """See that the Hub has the dataset at its commit; returns what the user should know if it does not answer.

    Args:
        data: from `pinned_data`; a folder is not looked at.

    Raises:
        ChexError: the Hub has no such dataset or commit.
    """
    reference = parse_reference(data)
    if isinstance(reference, Path):
        return []
    try:
        _sha(reference)
    except _NoAnswer as error:
        return [f"{error.why}: whether there is {data} shows when the session begins"]
    return []


class _NoAnswer(ChexError):
    """The Hub did not say whether it has something."""

    def __init__(self, message: str, why: str) -> None:
        super().__init__(message)
        self.why = why


def _shard_folder(folder: Path) -> Path:
    if not folder.is_dir():
        raise UsageError(f"--data {folder}: no such folder, and no dataset USER/NAME@<sha> either")
    if next(folder.rglob("*.parquet"), None) is None:
        raise UsageError(f"--data {folder} holds no Parquet shards; make some with: chexvision shards build")
    return folder.resolve()


def _sha(reference: RepoRef) -> str:
    from huggingface_hub import HfApi
    from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

    try:
        sha = HfApi().repo_info(reference.repo_id, revision=reference.revision, repo_type="dataset").sha
    except RevisionNotFoundError:
        raise ChexError(
            f"the dataset {reference.repo_id} has no revision {reference.revision!r}; its newest is printed by: "
            f"chexvision shards info {reference.repo_id}"
        ) from None
    except RepositoryNotFoundError:
        raise ChexError(
            f"the Hub has no dataset {reference.repo_id}, or keeps it from you: look at its name, and at your "
            "token if it is private (hf auth login)"
        ) from None
    except Exception as error:  # each generation of the client lets another HTTP library's errors out
        why = f"the Hub did not answer ({_kind(error)})"
        raise _NoAnswer(
            f"{why} at which commit {reference} is; try again, or name it: {reference.repo_id}@<40-hex sha>", why
        ) from error
    if sha is None:
        raise ChexError(f"the Hub named no commit for {reference}; name it: {reference.repo_id}@<40-hex sha>")
    return sha


def check_image_size(recipe: Recipe, data: str) -> None:
    """Refuse an `image_size` above the size of the shards' images, as far as a manifest tells it.

    Shards without a manifest are looked at by the session, before it fetches them.

    Args:
        recipe: what is to be trained.
        data: of `pinned_data`.

    Raises:
        UsageError: it is above.
        ChexError: the manifest is damaged.
    """

    folder = _manifest_folder(parse_reference(data))
    manifest = read_manifest(folder) if folder is not None else None
    if manifest is not None:
        recipe.data.check_fits(manifest.size, data)


def _manifest_folder(reference: Reference) -> Path | None:
    if isinstance(reference, Path):
        return reference
    from huggingface_hub import HfApi, hf_hub_download

    from chexvision.shards.manifest import MANIFEST_NAME

    name, revision = reference.repo_id, reference.revision
    try:
        # Asked first, because a download is retried for half a minute.
        if not HfApi().file_exists(name, MANIFEST_NAME, repo_type="dataset", revision=revision):
            return None
        path = hf_hub_download(name, MANIFEST_NAME, repo_type="dataset", revision=revision)
    # Whatever it was (no such file, no network, no access), the session asks again and says so.
    except Exception:  # noqa: BLE001
        return None
    return Path(path).parent


def destination(text: str | None, model: str, *, folders: bool) -> str | None:
    """Where the artifact goes.

    Args:
        text: ``USER/REPO`` or a folder, as it was asked for.
        model: the recipe, which names the default repository.
        folders: whether the target can write folders of this machine; then nothing is the default.

    Returns:
        A repository, a folder's absolute path, or None: the artifact stays where the run leaves it.

    Raises:
        UsageError: the destination is no place the target can write to.
        ChexError: the Hub does not tell who the user is.
    """
    if text is None:
        return None if folders else _own_repository(model)
    reference: Reference = parse_reference(text)
    if isinstance(reference, Path):
        if not folders:
            raise UsageError(
                f"--to {text} is a folder of this machine, which the target cannot reach; name a Hub repository "
                "USER/REPO, or leave it out"
            )
        return str(reference.resolve())
    if reference.revision is not None:
        raise UsageError(f"--to {text} names a revision; a run makes a new one: --to {reference.repo_id}")
    return reference.repo_id


def _own_repository(model: str) -> str | None:
    from huggingface_hub import HfApi, get_token

    if get_token() is None:
        return None
    try:
        user = HfApi().whoami()["name"]
    except Exception as error:  # each generation of the client lets another HTTP library's errors out
        raise ChexError(
            f"the Hub did not say whose token this is ({_kind(error)}); "
            "log in again (hf auth login), or name the destination: --to USER/REPO"
        ) from error
    return f"{user}/chexvision-{slug(Path(model).stem)}"


def _kind(error: Exception) -> str:
    status = getattr(getattr(error, "response", None), "status_code", None)
    return f"HTTP {status}" if status is not None else type(error).__name__
