"""A published model or ensemble, ready to answer; the one place where the engine is chosen."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

from chexvision.config.test_time import Tta
from chexvision.errors import UsageError
from chexvision.hub.reference import Reference, RepoRef, parse_reference
from chexvision.predict.engine import Engine
from chexvision.predict.predictor import Predictor
from chexvision.predict.published import Published, read_published

if TYPE_CHECKING:
    from chexvision.inference.device import DeviceName, Precision

EngineName: TypeAlias = Literal["auto", "torch", "onnx", "openvino"]


def load_predictor(
    reference: str | Path | RepoRef,
    engine: EngineName = "auto",
    device: DeviceName = "auto",
    precision: Precision = "fp32",
    tta: Tta = "none",
) -> Predictor:
    """Load a published model or ensemble with its calibration, thresholds and input check, all of one commit.

    Args:
        reference: a folder, or ``USER/REPO[@REVISION]`` on the Hub.
        engine: what computes it.
        device: "auto" is the first of cuda, mps and cpu that there is.
        precision: "auto" is faster, "fp32" the same on every machine.
        tta: the test-time augmentation.

    Raises:
        UsageError: there is no such folder, engine or device, or they do not go together.
        ChexError: it cannot be fetched, or is damaged or something else.

    Examples:
        >>> predictor = load_predictor("user/repo")
        >>> print(predictor.predict("chest.png"))
    """
    published = read_published(_parsed(reference))
    chosen = _engine(published, engine, device, precision, tta)
    published.refuse_others(chosen.label_space)
    return Predictor(chosen, published.facts, published.points, published.check)


def _engine(published: Published, engine: EngineName, device: DeviceName, precision: Precision, tta: Tta) -> Engine:
    if engine not in ("auto", "torch"):
        raise UsageError(f"the engine {engine!r} is not available; choose auto or torch")
    from chexvision.artifact.load import load_ensemble
    from chexvision.inference.torch_engine import TorchEngine

    return TorchEngine(load_ensemble(published.reference), device, precision, tta, published.check)


def _parsed(reference: str | Path | RepoRef) -> Reference:
    return parse_reference(reference) if isinstance(reference, str) else reference
