"""What a run was asked for, made exact: a resolved recipe, a dataset at a commit, a destination."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from chexvision.backbones import facts, license_note
from chexvision.config.data_config import DataConfig
from chexvision.config.recipe import Recipe
from chexvision.config.weights_source import parse_weights
from chexvision.errors import ChexError, UsageError
from chexvision.hub.account import machine_token
from chexvision.hub.hub_errors import Missing, RepoType
from chexvision.hub.reference import Reference, RepoRef, parse_reference, pinned_reference
from chexvision.hub.repository import resolve_revision
from chexvision.nih.patients import SPLITS, release
from chexvision.provenance import slug
from chexvision.recipes import dump_resolved, with_datasets, with_tables
from chexvision.shards.manifest import MANIFEST_NAME, Manifest, read_manifest
from chexvision.shards.split import official_split, read_split_table
from chexvision.shards.split_rule import SplitChoice

RECIPE_NAME = "recipe.json"  # in the bundle


def reachable_weights(recipe: Recipe, *, folders: bool) -> tuple[Recipe, list[str]]:
    """The recipe with the absolute path of the weights that it starts from, if that is a file; and their license.

    Args:
        recipe: what is to be trained.
        folders: whether the target can read files of this machine.

    Returns:
        The recipe, and what the user should know.

    Raises:
        UsageError: there is no such file, or the target cannot reach it.
    """
    model = recipe.model
    source = parse_weights(model.weights)
    if source == "imagenet":
        note = license_note(f"of {model.backbone}", facts(model.backbone).license)
        return recipe, [] if note is None else [note]
    if not isinstance(source, Path):
        return recipe, []
    if not source.exists():
        raise UsageError(f"model.weights {source}: no such file; name a safetensors file, or imagenet, or none")
    if not folders:
        raise UsageError(
            f"model.weights {source} is on this machine, which the target cannot reach; upload it (hf upload "
            f"USER/REPO {source}) and name model.weights=USER/REPO@<40-hex commit>:{source.name}, or run it here "
            "with --on local"
        )
    model = model.model_copy(update={"weights": str(source.resolve())})
    return recipe.model_copy(update={"model": model}), []


def recipe_files(recipe: Recipe) -> dict[str, bytes]:
    """What a bundle holds of a resolved recipe: the recipe itself and the split tables that it names.

    Raises:
        UsageError: a split table is not there, or is not a split table.
    """
    files: dict[str, bytes] = {}

    def packed(text: str) -> str:
        table = SplitChoice.parse(text).table
        if table is None:
            return text
        read_split_table(table)
        content, name = table.read_bytes(), f"tables/{table.name}"
        if files.get(name, content) != content:  # another one of that name
            name = f"tables/{len(files)}/{table.name}"
        files[name] = content
        return name

    data = with_tables(recipe.data, packed)
    return {RECIPE_NAME: dump_resolved(recipe.model_copy(update={"data": data})), **files}


def pinned_datasets(names: Sequence[str], *, folders: bool) -> tuple[list[str], list[str]]:
    """Each data set as `pinned_data` has it; and what the user should know."""
    found = [pinned_data(name, folders=folders) for name in names]
    return [name for name, _ in found], [note for _, notes in found for note in notes]


def on_datasets(recipe: Recipe, names: Sequence[str]) -> Recipe:
    """The recipe on one data set, or with other names for those of its mixture, in its order."""
    if len(names) == 1:
        return with_datasets(recipe, names)
    pairs = zip(recipe.data.datasets, names, strict=True)
    datasets = tuple(one.model_copy(update={"name": name}) for one, name in pairs)
    return recipe.model_copy(update={"data": recipe.data.model_copy(update={"datasets": datasets})})


def check_datasets(recipe: Recipe, names: Sequence[str]) -> str:
    """Check that a recipe fits its data sets, as far as that is known before a session reads them.

    Args:
        recipe: what is to be trained.
        names: of the data sets, from `pinned_data`, in the recipe's order.

    Returns:
        How the images will be divided, for a person.

    Raises:
        UsageError: the images are to be larger than the shards', or a split is for other images.
        ChexError: a manifest is damaged.
    """
    described = []
    for one, name in zip(recipe.data.named, names, strict=True):
        manifest = manifest_of(name)
        if manifest is not None:  # a session reads the first image of shards without one, before it downloads them
            recipe.data.check_fits(manifest.size, name)
        described.append(described_split(recipe.data.alone(one), manifest))
    if len(names) == 1:
        return described[0]
    return "; ".join(f"{name}: {text}" for name, text in zip(names, described, strict=True))


def pinned_data(text: str, *, folders: bool) -> tuple[str, list[str]]:
    """The dataset at a commit, or the absolute path of a folder; and what the user should know.

    Args:
        text: ``USER/NAME@REVISION``, ``USER/NAME`` or a folder.
        folders: whether the target can read folders of this machine.

    Raises:
        UsageError: the folder contains no shards or cannot be reached by the target.
        ChexError: the Hub does not have the dataset or its revision; or it does not answer, and no commit is named.
    """
    reference = parse_reference(text)
    if isinstance(reference, Path):
        if not folders:
            raise UsageError(
                f"--data {text} is a folder on this machine, which the target cannot reach; "
                "name a dataset on the Hub, USER/NAME@<sha>, or run it here with --on local"
            )
        if not reference.is_dir():
            raise UsageError(f"--data {text}: no such folder, and no dataset USER/NAME@<sha> either")
        if next(reference.rglob("*.parquet"), None) is None:
            raise UsageError(f"--data {text} holds no Parquet shards; make some with: chexvision shards build")
        return str(reference.resolve()), []
    return _at_commit(reference, "dataset")


def _at_commit(reference: RepoRef, repo_type: RepoType) -> tuple[str, list[str]]:
    """A repository at the commit that its revision names now, and what the user should know."""
    try:
        return str(resolve_revision(reference, repo_type, attempts=1)), []
    except Missing:
        raise
    except ChexError as error:
        if reference.is_pinned:
            return str(reference), [f"{error}; the session checks whether {reference} exists"]
        raise ChexError(f"{error}, or name the commit: {reference.repo_id}@<40-hex sha>") from error


def with_pinned_teacher(recipe: Recipe, *, folders: bool) -> tuple[Recipe, list[str]]:
    """The recipe with its teacher at a commit or as the absolute path of a folder; and what the user should know.

    Args:
        recipe: of the run.
        folders: whether the target can read folders of this machine.

    Raises:
        UsageError: the folder does not exist or cannot be reached by the target.
        ChexError: the Hub does not have the teacher or its revision, or does not answer.
    """
    text, notes = recipe.loss.taught_by, list[str]()
    if text is None:
        return recipe, notes
    reference = parse_reference(text)
    if isinstance(reference, Path):
        if not folders:
            raise UsageError(
                f"loss.teacher {text} is a folder on this machine, which the target cannot reach; publish the model "
                "and name USER/REPO@<sha>, or run it here with --on local"
            )
        named = str(pinned_reference(str(reference.resolve()), "loss.teacher"))
    else:
        named, notes = _at_commit(reference, "model")
    return recipe.model_copy(update={"loss": recipe.loss.model_copy(update={"teacher": named})}), notes


def described_split(data: DataConfig, manifest: Manifest | None) -> str:
    """How the images of a data set will be divided, for a person.

    Args:
        data: what the recipe says about it.
        manifest: of its data, as far as it can be read.

    Raises:
        UsageError: see `SplitChoice.parse` and `SplitChoice.fitting`.
    """
    choice = SplitChoice.of(data).fitting(manifest)
    if choice.table is not None:
        split_of = list(read_split_table(choice.table).values())
        counts, what = {split: split_of.count(split) for split in SPLITS}, "patients"
    elif choice.rule in ("official", "chexnet"):
        share = choice.validation_share
        table = release().chexnet if share is None else official_split(share)
        counts, what = release().count(table), "images, if the release is complete"
    else:
        return "patient: 70/10/20 % of the patients" if choice.rule == "patient" else "shards: as published"
    return f"{choice}: {', '.join(f'{split} {counts[split]:,}' for split in SPLITS)} {what}"


def manifest_of(data: str) -> Manifest | None:
    """The manifest of a dataset, or None where it has none, or the Hub does not give it: the session asks again.

    Args:
        data: from `pinned_data`.

    Raises:
        ChexError: the manifest is damaged.
    """
    reference = parse_reference(data)
    if isinstance(reference, Path):
        return read_manifest(reference)
    from huggingface_hub import HfApi, hf_hub_download

    name, revision = reference.repo_id, reference.revision
    try:
        # Asked first, because a download is retried for half a minute.
        if not HfApi().file_exists(name, MANIFEST_NAME, repo_type="dataset", revision=revision):
            return None
        path = hf_hub_download(name, MANIFEST_NAME, repo_type="dataset", revision=revision)
    # Whatever it was (no such file, no network, no access), the session asks again and reports it.
    except Exception:  # noqa: BLE001
        return None
    return read_manifest(Path(path).parent)


def destination(text: str | None, model: str, *, folders: bool) -> str | None:
    """Where the artifact goes.

    Args:
        text: ``USER/REPO`` or a folder, as it was asked for.
        model: the recipe, which names the default repository.
        folders: whether the target can write folders of this machine; then nothing is the default.

    Returns:
        A repository, a folder's absolute path, or None: the artifact stays where the run leaves it.

    Raises:
        UsageError: the target cannot write to the destination.
        ChexError: the Hub does not identify the user.
    """
    if text is None:
        if folders:
            return None
        token = machine_token("log in again (hf auth login), or name the destination: --to USER/REPO")
        return None if token is None else f"{token.user}/chexvision-{slug(Path(model).stem)}"
    reference: Reference = parse_reference(text)
    if isinstance(reference, Path):
        if not folders:
            raise UsageError(
                f"--to {text} is a folder on this machine, which the target cannot reach; name a Hub repository "
                "USER/REPO, or leave it out"
            )
        return str(reference.resolve())
    if reference.revision is not None:
        raise UsageError(f"--to {text} names a revision; a run makes a new one: --to {reference.repo_id}")
    return reference.repo_id
