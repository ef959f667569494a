"""The weights that training starts from: where they come from, which of them fit, and what was left out."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from chexvision.backbones import TIMM, facts
from chexvision.config.recipe import ModelConfig
from chexvision.config.weights_source import HubFile, WeightsReport, parse_weights
from chexvision.errors import ChexError, UsageError
from chexvision.files.atomic import sha256_of
from chexvision.files.json_files import read_file
from chexvision.hub.reference import RepoRef
from chexvision.hub.repo_files import CONFIG, RUN, WEIGHTS, model_file
from chexvision.models.backbone import Backbone
from chexvision.models.model_config import CheXVisionConfig, read_config
from chexvision.models.timm_backbone import TimmBackbone, known_network
from chexvision.models.weights import with_todays_names

if TYPE_CHECKING:
    from chexvision.models.classifier import CheXVision

_BACKBONE = "backbone."
_NETWORK = "network."
METADATA = "chexvision"  # key of a converted file's metadata: JSON with backbone, license, source, source_sha256
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ./_-]{0,99}")  # of a network or a license
_FEWEST = 0.5  # of the network's values, and of the file's, that have to fit; else the file is another network's


@dataclass(frozen=True, slots=True)
class FileWeights:
    """The tensors of a file and what is known about it.

    Args:
        source: for a person.
        sha256: of the file, or of the tensors as one.
        tensors: by the file's names.
        license: of the weights, if it is known.
        config: of the model that the file belongs to, if that is one of CheXVision.
    """

    source: str
    sha256: str
    tensors: Mapping[str, Tensor] = field(repr=False)
    license: str | None = None
    config: CheXVisionConfig | None = None


def fetch_weights(config: ModelConfig) -> FileWeights | None:
    """The weights that `config` names, checked as far as that is possible without the model; None for random ones.

    Raises:
        UsageError: there is no such file.
        ChexError: it cannot be fetched, is not a complete safetensors file, has values that are not finite, or says
            that it is another network's.
    """
    source = parse_weights(config.weights)
    if source == "none":
        return None
    if source == "imagenet":
        return _published_by_timm(config.backbone)
    if isinstance(source, HubFile):
        repo = RepoRef(source.repo_id, source.sha)
        path = model_file(repo, source.file)
        if path is None:
            raise ChexError(f"{repo} has no file {source.file}; check the name")
        beside, run = (model_file(repo, name) if source.file == WEIGHTS else None for name in (CONFIG, RUN))
        return _read(path, str(source), beside, config.backbone, _license_of_run(run))
    path = source / WEIGHTS if source.is_dir() else source
    if not path.is_file():
        raise UsageError(f"no file {path}; set model.weights to a safetensors file, to imagenet, or to none")
    beside, run = (path.parent / name if path.name == WEIGHTS else None for name in (CONFIG, RUN))
    beside = beside if beside is not None and beside.is_file() else None
    return _read(path, path.name, beside, config.backbone, _license_of_run(run))


def _license_of_run(record: Path | None) -> str | None:
    """The license of the weights that a published model was itself trained from; None where none is recorded."""
    if record is None or not record.is_file():
        return None
    weights = _json_object(read_file(record)).get("weights")
    license = weights.get("license") if isinstance(weights, dict) else None
    return license if isinstance(license, str) and _NAME.fullmatch(license) else None


def _published_by_timm(backbone: str) -> FileWeights:
    name = facts(backbone).timm
    if not name:
        return _published_by_torchvision(backbone)
    known = known_network(name)
    if not known.hf_hub_id:
        raise ChexError(f"timm has no weights of {name}; set model.weights=none, or name a file")
    repo = RepoRef(known.hf_hub_id)
    try:
        path = model_file(repo, WEIGHTS)
    except ChexError as error:
        raise ChexError(f"the weights of {backbone}: {error}, or train with --set model.weights=none") from error
    if path is None:
        raise ChexError(f"{repo} has no {WEIGHTS}; set model.weights=none, or name a file")
    commit = RepoRef(repo.repo_id, path.parent.name)  # snapshots/<sha>/model.safetensors
    return _read(path, f"{commit}:{WEIGHTS}", None, backbone, facts(backbone).license or known.license)


def _published_by_torchvision(backbone: str) -> FileWeights:
    module = import_module(facts(backbone).builder.partition(":")[0])
    tensors: dict[str, Tensor] = module.imagenet_weights()
    digest = sha256(save({name: tensor.contiguous() for name, tensor in tensors.items()})).hexdigest()
    return FileWeights(f"torchvision's {backbone}", digest, tensors, facts(backbone).license)


def _read(path: Path, source: str, beside: Path | None, backbone: str, license: str | None = None) -> FileWeights:
    """The file `path`; `beside` is the config.json of its folder, of whatever program."""
    try:
        with safe_open(path, framework="pt") as opened:
            metadata = _metadata(opened.metadata())
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118  # it is not a mapping
    except (SafetensorError, OSError, ValueError) as error:
        with path.open("rb") as file:
            start = file.read(2)
        if start == b"PK" or start[:1] == b"\x80":  # torch's zip format, or a pickle of protocol 2 and above
            raise ChexError(
                f"{source} is a pickled file, which is never loaded; convert it once: "
                f"chexvision weights convert {source} {Path(source).stem}-converted.safetensors --backbone {backbone}"
            ) from None
        detail = " ".join(str(error).split())[:200]
        raise ChexError(f"{source} is not a complete safetensors file ({detail}); fetch it again") from None
    for name, tensor in tensors.items():
        # As the network's type: what is finite in float64 may be infinite there.
        if tensor.is_floating_point() and not bool(tensor.float().isfinite().all()):
            raise ChexError(
                f"{source} has values that are not finite, first in {name[:100]}: the weights are damaged"
            )
    config = read_config(beside) if beside is not None and _is_ours(beside) else None
    tensors = with_todays_names(tensors)
    of = config.backbone if config is not None else metadata.get("backbone")
    if of is not None and _architecture(of) != _architecture(backbone):
        raise ChexError(f"{source} has the weights of {of}, not of {backbone}; set model.backbone={of}")
    return FileWeights(source, sha256_of(path), tensors, license or metadata.get("license"), config)


def _metadata(found: dict[str, str] | None) -> dict[str, str]:
    """What `chexvision weights convert` wrote into a file; nothing for another program's.

    A license is shown on the card of what is trained: text that is no name of one is left out.
    """
    tree = _json_object((found or {}).get(METADATA, "{}"))
    return {name: value for name, value in tree.items() if isinstance(value, str) and _NAME.fullmatch(value)}


def _is_ours(path: Path) -> bool:
    return "backbone" in _json_object(read_file(path))


def _json_object(text: str | bytes) -> dict[str, object]:
    """A JSON object of a file of another program; empty where it is something else."""
    try:
        tree = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return tree if isinstance(tree, dict) else {}


def _architecture(name: str) -> str:
    """A network's name without the tag of its weights."""
    return name.partition(".")[0] if name.startswith(TIMM) else name


@torch.no_grad()
def apply_weights(model: CheXVision, weights: FileWeights) -> WeightsReport:
    """Copy what fits of `weights` into `model`: the backbone, and heads of findings that both have.

    Raises:
        ChexError: less than half of the network or of the file fits.
    """
    prefix = f"{_NETWORK}" if isinstance(model.backbone, TimmBackbone) else ""
    ours = any(name.startswith(_BACKBONE) for name in weights.tensors)
    start = f"{_BACKBONE}{prefix}" if ours else ""
    original = {name[len(start) :]: one for name, one in weights.tensors.items() if name.startswith(start)}
    given = {f"{prefix}{name}": one for name, one in fitted(model.backbone, original).items()}
    wanted = model.backbone.state_dict()
    random: dict[str, str] = {}
    for name, tensor in wanted.items():
        if name not in given:
            random[name] = "not in the file"
        elif given[name].shape != tensor.shape:
            random[name] = f"shape {list(given[name].shape)}, not {list(tensor.shape)}"
        elif given[name].is_complex() or given[name].is_floating_point() != tensor.is_floating_point():
            random[name] = f"type {given[name].dtype}, not {tensor.dtype}"
    matched = [name for name in wanted if name not in random]
    unused = sorted(name.removeprefix(prefix) for name in given.keys() - set(matched))
    _check_network(model, weights.source, wanted, given, matched)
    for name in matched:
        wanted[name].copy_(given[name])
    before = {f"{prefix}{name}": one.shape for name, one in original.items()}
    heads, heads_skipped = _apply_heads(model, weights) if ours else ((), "")
    return WeightsReport(
        source=weights.source,
        sha256=weights.sha256,
        license=weights.license,
        matched=len(matched),
        total=len(wanted),
        resampled=tuple(name for name in matched if name in before and before[name] != wanted[name].shape),
        random=random,
        unused=tuple(unused),
        heads=heads,
        heads_skipped=heads_skipped,
    )


def fitted(backbone: Backbone, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """`tensors` with timm's names, embeddings resampled to the network's sizes: what timm does when it loads them."""
    if not isinstance(backbone, TimmBackbone):
        return tensors
    network = backbone.network
    fit = getattr(sys.modules[type(network).__module__], "checkpoint_filter_fn", None)
    if fit is None:
        return tensors
    # Up to 1.0.30 timm takes weights of a Swin without a classifier for those of an earlier naming.
    marked = tensors if "head.fc.weight" in tensors else {**tensors, "head.fc.weight": torch.empty(0)}
    try:
        fitted: dict[str, Tensor] = fit(dict(marked), network)
    except (LookupError, AttributeError, AssertionError, RuntimeError, ValueError, TypeError, ArithmeticError):
        return tensors  # another network's, which shows below
    return {name: one for name, one in fitted.items() if name != "head.fc.weight" or "head.fc.weight" in tensors}


def _check_network(
    model: CheXVision, source: str, wanted: dict[str, Tensor], given: dict[str, Tensor], matched: list[str]
) -> None:
    fit = sum(wanted[name].numel() for name in matched)
    share = fit / max(1, *(sum(one.numel() for one in tensors.values()) for tensors in (wanted, given)))
    if share >= _FEWEST:
        return
    backbone = model.configuration.backbone
    if not matched:
        theirs, ours = (min(names, default="nothing").removeprefix(_NETWORK)[:80] for names in (given, wanted))
        raise ChexError(f"nothing in {source} fits {backbone}: it has {theirs}, the network {ours}")
    raise ChexError(
        f"{source} is of another network than {backbone}: {len(matched)} of {len(given)} tensors fit, "
        f"{share:.0%} of the values"
    )


def _apply_heads(model: CheXVision, weights: FileWeights) -> tuple[tuple[str, ...], str]:
    """Copy the rows of the heads for the findings that both have; returns these, and why not all."""
    state, given = model.state_dict(), weights.tensors
    if weights.config is None:
        return (), f"no {CONFIG} says which findings they are of"
    between = [name for name in {**state, **given} if name.startswith(("neck.", "pooling."))]
    theirs, ours = weights.config, model.configuration
    if theirs.pooling != ours.pooling or not all(_equal_shapes(name, state, given) for name in between):
        return (), "the layers before them are others"
    outputs = {"multilabel_head": len(theirs.label_space.findings), "binary_head": 1}
    for head, count in outputs.items():
        for part in ("weight", "bias"):
            name = f"{head}.{part}"
            if name not in given or given[name].shape != (count, *state[name].shape[1:]):
                return (), f"{name} is not that of {count} outputs"
    for name in between:
        state[name].copy_(given[name])
    rows = {name: row for row, name in enumerate(theirs.label_space.findings)}
    shared = [name for name in model.findings if name in rows]
    for part in ("weight", "bias"):
        for row, name in enumerate(model.findings):
            if name in rows:
                state[f"multilabel_head.{part}"][row] = given[f"multilabel_head.{part}"][rows[name]]
        state[f"binary_head.{part}"].copy_(given[f"binary_head.{part}"])
    missing = [name for name in model.findings if name not in rows]
    return (*shared, model.label_space.abnormal), f"not known there: {', '.join(missing)}" if missing else ""


def _equal_shapes(name: str, first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> bool:
    return name in first and name in second and first[name].shape == second[name].shape
