"""The networks of a published model or ensemble, from a folder or the Hub."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from chexvision.artifact.ensemble_file import member_folder, read_ensemble
from chexvision.errors import ChexError
from chexvision.hub.reference import Reference
from chexvision.hub.repo_files import CONFIG, ENSEMBLE, WEIGHTS, at_commit, model_file
from chexvision.labels import LabelSpace
from chexvision.models.classifier import CheXVision, fetch_model, model_from_files


@dataclass(frozen=True, slots=True)
class Ensemble:
    """One or several models as one system, whose probabilities are their members' weighted mean.

    Args:
        members: at least one; all predict the same findings, each prepares images in its own way.
        weights: theirs, in the same order; none negative, summing to 1.
    """

    members: tuple[CheXVision, ...]
    weights: tuple[float, ...] = (1.0,)

    @property
    def label_space(self) -> LabelSpace:
        """Of all members."""
        return self.members[0].label_space

    @property
    def findings(self) -> tuple[str, ...]:
        """The names of the K findings, in order."""
        return self.label_space.findings

    def to(self, device: torch.device) -> Ensemble:
        """The same members, moved to a device."""
        for member in self.members:
            member.to(device)
        return self


def load_ensemble(reference: Reference) -> Ensemble:
    """The model or ensemble in a folder or on the Hub, in evaluation mode.

    Raises:
        UsageError: there is no such folder, or a revision of a folder is named.
        ChexError: it cannot be fetched, is something else, or its members have different findings.
    """
    reference = at_commit(reference)
    if model_file(reference, CONFIG) is not None:
        return Ensemble((load_model(reference),))
    path = model_file(reference, ENSEMBLE)
    if path is None:
        raise ChexError(f"{reference} has neither {CONFIG} nor {ENSEMBLE}; check the name and the revision")
    info = read_ensemble(path)
    members = tuple(_member(reference, number) for number in range(1, len(info.members) + 1))
    other = next((i for i, member in enumerate(members, 1) if member.label_space != members[0].label_space), None)
    if other is not None:
        raise ChexError(f"{path}: {member_folder(other)} predicts other findings than {member_folder(1)}")
    return Ensemble(members, tuple(member.weight for member in info.members))


def _member(reference: Reference, number: int) -> CheXVision:
    folder = member_folder(number)
    config, weights = (model_file(reference, f"{folder}/{name}") for name in (CONFIG, WEIGHTS))
    if config is None or weights is None:
        raise ChexError(f"{reference}: {folder} has no {WEIGHTS if config else CONFIG}; the ensemble is incomplete")
    return model_from_files(config, weights)


def load_model(reference: Reference) -> CheXVision:
    """The single model in a folder or on the Hub.

    Raises:
        UsageError: there is no such folder, or a revision of a folder is named.
        ChexError: it cannot be fetched, or is something else.
    """
    return fetch_model(at_commit(reference))
