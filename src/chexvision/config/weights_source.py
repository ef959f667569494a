"""What `model.weights` names."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from chexvision.config.data_config import Section

_ON_HUB = re.compile(
    r"(?P<repo>[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(?:@(?P<revision>[^:]*))?:(?P<file>.+)", re.ASCII
)
_SHA = re.compile(r"[0-9a-f]{40}")
_SAFETENSORS = ".safetensors"
_HUB_FORM = "USER/REPO@<40-hex commit>:FILE.safetensors"


@dataclass(frozen=True, slots=True)
class HubFile:
    """A file of a model repository at a commit."""

    repo_id: str
    sha: str
    file: str

    def __str__(self) -> str:
        return f"{self.repo_id}@{self.sha}:{self.file}"


WeightsSource: TypeAlias = Literal["imagenet", "none"] | HubFile | Path


def parse_weights(text: str) -> WeightsSource:
    """Read the value of `model.weights`; whether a file exists is not checked.

    Raises:
        ValueError: it is none of the forms, the commit is not pinned, or the file is not safetensors.
    """
    if text == "imagenet":
        return "imagenet"
    if text == "none":
        return "none"
    match = _ON_HUB.fullmatch(text)
    if match:
        if _SHA.fullmatch(match["revision"] or "") is None:
            raise ValueError(f"{text!r} does not name a commit; write {_HUB_FORM}")
        _check_safetensors(match["file"])
        return HubFile(match["repo"], match["revision"], match["file"])
    if not text or ("@" in text and not Path(text).exists()):
        raise ValueError(f"{text!r} is not imagenet, none, a file, or {_HUB_FORM}")
    if Path(text).suffix:  # else the folder of a model
        _check_safetensors(text)
    return Path(text).expanduser()


def _check_safetensors(name: str) -> None:
    if not name.endswith(_SAFETENSORS):
        raise ValueError(
            f"{name!r} is not a {_SAFETENSORS} file, and pickled weights are never loaded; convert it once: "
            f"chexvision weights convert {Path(name).name} {Path(name).stem}{_SAFETENSORS} --backbone NAME"
        )


class WeightsReport(Section):
    """What training started from, in ``run.json``.

    Args:
        source: the file, or ``USER/REPO@<commit>:FILE``.
        sha256: of the file.
        license: of the weights; None where it is not known.
        matched: how many tensors of the backbone were taken from the file.
        total: how many tensors the backbone has.
        resampled: those that were resampled to the size of the images or patches.
        random: those of the backbone that stayed as initialized, with the reason.
        unused: those of the file that were not taken, but for heads.
        heads: the outputs whose weights were taken as well.
        heads_skipped: why the others, or all, were not; empty where there were none.
    """

    source: str
    sha256: str
    license: str | None
    matched: int
    total: int
    resampled: tuple[str, ...]
    random: dict[str, str]
    unused: tuple[str, ...]
    heads: tuple[str, ...]
    heads_skipped: str

    def line(self) -> str:
        """For the console and the model card."""
        parts = [f"{self.source}: {self.matched} of {self.total} tensors of the backbone"]
        if self.resampled:
            parts.append(f"resampled {_some(self.resampled)}")
        if self.random:
            name, reason = next(iter(self.random.items()))
            more = f" and {len(self.random) - 1} more" if len(self.random) > 1 else ""
            parts.append(f"left random: {name} ({reason}){more}")
        if self.unused:
            parts.append(f"not used: {_some(self.unused)}")
        if self.heads:
            parts.append(f"heads of {', '.join(self.heads)}")
        if self.heads_skipped:
            parts.append(f"heads skipped: {self.heads_skipped}")
        return "; ".join(parts)


def _some(names: tuple[str, ...]) -> str:
    return f"{names[0][:100]}{f' and {len(names) - 1} more' if len(names) > 1 else ''}"
