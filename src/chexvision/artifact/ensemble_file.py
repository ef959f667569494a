"""``ensemble.json``: several published models as one, complete with their files in sub-folders."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from chexvision.files.json_files import read_record
from chexvision.metrics.records import Record
from chexvision.provenance import Provenance
from chexvision.shards.split_rule import SplitRecord

MOST_MEMBERS = 64
_SUM = 1e-6  # how far the weights' sum may be from 1


class Member(Record):
    """One model of an ensemble.

    Args:
        reference: where it was published: ``USER/REPO@<sha>``, or the name of a folder.
        run_id: of its training; null where it has no record of it.
        recipe: the name of its recipe; null where unknown.
        seed: of its training; null where unknown.
        backbone: its network.
        image_size: side of its input in pixels.
        license: of the weights that its training started from; null where unknown or random.
        weight: of its probabilities in the mean.
    """

    reference: str
    run_id: str | None
    recipe: str | None
    seed: int | None
    backbone: str
    image_size: int
    license: str | None = None
    weight: Annotated[float, Field(ge=0, le=1)]


class EnsembleInfo(Record):
    """The content of ``ensemble.json``. The files of the n-th member, from 1, are in the folder ``members/<n>``.

    Args:
        format: of the file.
        members: at least two.
        weights: how their weights were chosen: "equal", or fitted on "validation".
        provenance: of the ensemble itself.
        dataset: what operating points were chosen on: ``USER/NAME@<sha>``, or the folder's name.
        dataset_identity: equal for shards of equal names and content.
        split: how its images were divided.
        created_at: ISO 8601 in UTC.
    """

    format: Literal[1] = 1
    members: Annotated[tuple[Member, ...], Field(min_length=2, max_length=MOST_MEMBERS)]
    weights: Literal["equal", "validation"]
    provenance: Provenance
    dataset: str
    dataset_identity: str
    split: SplitRecord
    created_at: str

    @model_validator(mode="after")
    def _is_a_mean(self) -> EnsembleInfo:
        total = sum(member.weight for member in self.members)
        if abs(total - 1) > _SUM:
            raise ValueError(f"the members' weights sum to {total:.6g} instead of 1")
        return self


def read_ensemble(path: Path) -> EnsembleInfo:
    """Read an ``ensemble.json``, which may be untrusted.

    Raises:
        ChexError: it cannot be read, or is something else.
    """
    return read_record(path, EnsembleInfo)


def member_folder(number: int) -> str:
    """The sub-folder of a member's files, from 1."""
    return f"members/{number}"
