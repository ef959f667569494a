"""Under which terms a dataset is used, as manifests record it, and what they forbid. Needs no numpy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from chexvision.errors import UsageError

Views: TypeAlias = Literal["frontal", "all"]


@dataclass(frozen=True, slots=True)
class Terms:
    """Under which terms a dataset is used.

    Args:
        title: the dataset's name in texts, such as ``CheXpert``.
        homepage: where it is requested or downloaded.
        license: an identifier of the Hub, such as ``cc-by-4.0``, or ``other``.
        license_name: with ``other``: a short name.
        license_link: the text of the terms.
        credentialed: whether only people who signed an agreement may have it: its shards are pushed to private
            datasets alone.
        citation: authors, title, venue.
    """

    title: str
    homepage: str
    license: str
    license_name: str | None
    license_link: str
    credentialed: bool
    citation: str


def check_private(terms: Terms | None, option: str, *, private: bool) -> None:
    """Refuse to publish what only people who signed an agreement may have.

    Args:
        terms: of the set; None for one's own images.
        option: that names the dataset to push to, for the message.
        private: whether only its owner may see it.

    Raises:
        UsageError: the set is credentialed, and the dataset would be public.
    """
    if terms is not None and terms.credentialed and not private:
        raise UsageError(
            f"{option}: the terms of {terms.title} do not allow to publish its images ({terms.license_link}); add "
            "--private to push them to a dataset that only you can see"
        )
