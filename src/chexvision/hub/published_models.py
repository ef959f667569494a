"""The models of a user on the Hub, and single small files of them, fetched within bounds."""

from __future__ import annotations

from dataclasses import dataclass, field

from chexvision.errors import ChexError
from chexvision.hub.hub_errors import call_hub
from chexvision.hub.reference import RepoRef

LIBRARY = "chexvision"  # of a card's front matter, by which the Hub finds models
MOST_MODELS = 500
_MOST_BYTES = 16 * 2**20  # of a JSON file; a history of a thousand epochs takes 2 MB


@dataclass(frozen=True, slots=True)
class HubModel:
    """A model on the Hub at a commit.

    Args:
        reference: pinned.
        private: whether its owner alone sees it.
        parameters: of its weights, where the Hub knows.
        sizes: bytes by file name.
    """

    reference: RepoRef
    private: bool = False
    parameters: int | None = None
    sizes: dict[str, int] = field(default_factory=dict)

    def fits(self, name: str) -> bool:
        """Whether there is a file of this name.

        Raises:
            ChexError: it is too large for what it should be.
        """
        if self.sizes.get(name, 0) > _MOST_BYTES:
            raise ChexError(f"{name} has more than {_MOST_BYTES >> 20} MiB")
        return name in self.sizes


def models_of(user: str, *, private: bool) -> list[RepoRef]:
    """The repositories of a user or organization with a model of this library, by name.

    More than `MOST_MODELS` are listed up to one more.

    Args:
        user: whose.
        private: whether to list those that only this machine's token sees, too.

    Raises:
        ChexError: the Hub does not answer.
    """
    from huggingface_hub import HfApi

    found = call_hub(
        lambda: list(HfApi().list_models(author=user, filter=LIBRARY, limit=MOST_MODELS + 1)),
        f"listing models of {user}",
    )
    return [RepoRef(of.id) for of in sorted(found, key=lambda of: of.id) if private or not of.private]


def hub_model(reference: RepoRef) -> HubModel:
    """A model at the commit that its revision, or its main branch, names now.

    Raises:
        ChexError: the Hub does not have it, or does not answer.
    """
    from huggingface_hub import HfApi

    info = call_hub(
        lambda: HfApi().model_info(reference.repo_id, revision=reference.revision, files_metadata=True),
        "reading the files",
        reference,
    )
    weights = info.safetensors
    return HubModel(
        RepoRef(reference.repo_id, info.sha),
        bool(info.private),
        weights.total if weights is not None else None,
        {of.rfilename: of.size or 0 for of in info.siblings or ()},
    )
