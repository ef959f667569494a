"""Where Kaggle mounts what is attached to a session: in one of three layouts, by kind and owner or by slug alone."""

from __future__ import annotations

from pathlib import Path

from chexvision.errors import ChexError

# Below the input folder; the newest first. Datasets of organizations are one level deeper.
_DATASET = ("datasets/{dataset}", "datasets/organizations/{dataset}", "{slug}")
# The same and the outputs of kernels. No pattern lists a data source itself, which may hold 100,000 files.
_SOURCES = ("datasets/*/*", "datasets/organizations/*/*", "notebooks/*/*", "*")


def attached_files(input_dir: Path, name: str) -> list[Path]:
    """The files called `name` at the top of an attached dataset or kernel output, each once, sorted.

    Links that lead out of their data source are left out.
    """
    found: dict[Path, Path] = {}
    for pattern in _SOURCES:
        for path in sorted(input_dir.glob(f"{pattern}/{name}")):
            real = path.resolve()
            if path.is_file() and real.is_relative_to(path.parent.resolve()):
                found.setdefault(real, path)
    return sorted(found.values())


def attached_dataset(input_dir: Path, dataset: str) -> Path:
    """The folder that the Kaggle dataset ``OWNER/SLUG`` is mounted at.

    Raises:
        ChexError: it is not attached.
    """
    tried = [input_dir / one.format(dataset=dataset, slug=dataset.split("/")[1]) for one in _DATASET]
    for folder in tried:
        if folder.is_dir():
            return folder
    raise ChexError(
        f"the Kaggle dataset {dataset} is not attached to this session: there is no folder "
        f"{' or '.join(map(str, tried))}; check whether it is still public, then dispatch again"
    )
