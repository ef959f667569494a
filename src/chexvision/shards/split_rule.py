"""The rule by which a run divides its images, and the record of its result. Needs no numpy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, TypeAlias, cast

from pydantic import BaseModel, ConfigDict, Field, model_validator

from chexvision.config.data_config import SPLIT_RULES, DataConfig, check_split_name
from chexvision.errors import UsageError
from chexvision.shards.manifest import Manifest
from chexvision.shards.split import VALIDATION_SHARE

# "mixture" is of records alone: each data set of a mixture has a rule of its own.
Rule: TypeAlias = Literal["official", "chexnet", "patient", "shards", "table", "mixture"]


@dataclass(frozen=True, slots=True)
class SplitChoice:
    """A rule that divides images.

    Args:
        rule: "official" and "chexnet" are public splits of the NIH release; "patient" is 70/10/20 % of the
            patients at hand; "shards" takes the split that each shard is named for; "table" reads one.
        validation_share: with "official": of the patients outside its test list.
        table: with "table": its file.
    """

    rule: Rule
    validation_share: float | None = None
    table: Path | None = None

    @classmethod
    def parse(
        cls, text: str, validation_share: float = VALIDATION_SHARE, rules: Sequence[str] = SPLIT_RULES
    ) -> SplitChoice:
        """Read a rule's name or the path of a ``patient_id,split`` table.

        Args:
            text: of the recipe or command line.
            validation_share: with "official"; see `SplitChoice`.
            rules: the names that are allowed here.

        Raises:
            UsageError: it is neither, or the file does not exist.
        """
        try:
            check_split_name(text, rules)
        except ValueError as error:
            raise UsageError(str(error)) from None
        if text in rules:
            return cls(cast("Rule", text), validation_share if text == "official" else None)
        path = Path(text).expanduser()
        if not path.is_file():
            raise UsageError(f"split {text}: there is no such file; or name one of {', '.join(rules)}")
        return cls("table", table=path)

    @classmethod
    def of(cls, config: DataConfig) -> SplitChoice:
        """The rule of a recipe; see `parse`."""
        return cls.parse(config.split, config.validation_share)

    def fitting(self, manifest: Manifest | None) -> SplitChoice:
        """The rule for the shards of a manifest; without one they are of NIH ChestX-ray14.

        The lists of "official", the default, are the NIH release's. Other images, synthetic ones among them, keep the
        split that their shards have: `shards build` takes a release's own where there is one.

        Raises:
            UsageError: "chexnet", for synthetic images; or "patient", for images that have a split and no patients.
        """
        if manifest is None:
            return self
        unknown = manifest.dataset is not None and not manifest.dataset.knows_patients
        if self.rule == "patient" and unknown and manifest.split.name != "patient":
            raise UsageError(
                "split patient needs patients, and the release does not say which images are of one person; keep its "
                "own split: data.split (or --split-rule) shards"
            )
        if manifest.synthetic and self.rule == "chexnet":
            raise UsageError(
                "split chexnet is of NIH ChestX-ray14; these images are synthetic: divide them by data.split "
                "(or --split-rule) shards or patient"
            )
        return SHARDS if self.rule == "official" and not manifest.of_nih else self

    def __str__(self) -> str:
        if self.table is not None:
            return self.table.name
        usual = self.validation_share in (None, VALIDATION_SHARE)
        return self.rule if usual else f"{self.rule}, validation {100 * cast('float', self.validation_share):g} %"


SHARDS = SplitChoice("shards")


class SplitPart(BaseModel):
    """The images of one split.

    Args:
        images: how many.
        patients: how many different ones.
        images_sha256: of the sorted file names, one a line: equal for equal sets of images.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    images: int
    patients: int
    images_sha256: str


class SplitRecord(BaseModel):
    """How a data set was divided, as ``run.json`` and ``metrics.json`` record it. No patient is in two parts.

    Args:
        rule: see `SplitChoice`.
        validation_share: with "official": of the patients outside its test list.
        table: with "table": its file's name.
        table_sha256: of the table's bytes.
        parts: by split, before `data.max_train_images` and `data.max_validation_images` take a sample.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    rule: Rule
    validation_share: Annotated[float, Field(gt=0, lt=1)] | None = None
    table: str | None = None
    table_sha256: str | None = None
    parts: dict[str, SplitPart] = {}

    @model_validator(mode="after")
    def _names_its_table(self) -> SplitRecord:
        if self.rule == "table" and (self.table is None or self.table_sha256 is None):
            raise ValueError("rule table needs table and table_sha256")
        return self

    def __str__(self) -> str:
        return self.table if self.table is not None else self.rule

    @property
    def described(self) -> str:
        """The rule as a phrase."""
        if self.rule == "official":
            share = 100 * (self.validation_share or VALIDATION_SHARE)
            return f"the release's official test list; validation is {share:g} % of the other patients"
        return {
            "chexnet": "the public 70/10/20 split of the CheXNet reproductions",
            "patient": "70/10/20 % of the patients",
            "shards": "the shards' own split",
            "table": f"the table `{self.table}`",
            "mixture": "the split of each data set",
        }[self.rule]

    def counts(self) -> str:
        """Images and patients of each part, for one line."""
        return ", ".join(
            f"{name} {part.images:,} images of {part.patients:,} patients" for name, part in self.parts.items()
        )
