"""The one file that a target runs: the kernel's entry, with the packed source and the run written below it."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

from chexvision.errors import ChexError
from chexvision.files.atomic import sha256_of
from chexvision.layout import shared_dir
from chexvision.provenance import Provenance
from chexvision_dispatch.bundle import Bundle, refuse_secrets
from chexvision_dispatch.kernels import kernel_named
from chexvision_dispatch.run_records import RunRecord

SCRIPT_NAME = "script.py"
# Kaggle takes less than 1 MiB; the rest is left for its encoding.
SIZE_LIMIT = 1024 * 1024 - 64 * 1024

_LAPTOP_ONLY = {"kaggle", "six"}
_LINE = 118


def render(
    record: RunRecord,
    arguments: list[str],
    bundle: Bundle,
    max_hours: float | None = None,
    requested: Sequence[str] = (),
) -> str:
    """The script of a run.

    Args:
        record: the run; its provenance is sent with it.
        arguments: words after ``chexvision``; ``{bundle}`` in one becomes the folder of the unpacked source,
            ``{dataset:OWNER/SLUG}`` that of an attached dataset.
        bundle: the packed source.
        max_hours: after which a session saves its state and ends; None for no limit.
        requested: what a session has to have to continue: "GPU", "internet".

    Raises:
        ChexError: the script is too large for a kernel, or would carry a token.
    """
    kernel = kernel_named(record.kernel)
    run = {
        "run_id": record.run_id,
        "bundle_sha256": record.bundle_sha256,
        "arguments": arguments,
        "max_hours": max_hours,
        "requested": list(requested),
        "to": record.to,
        "repo_type": kernel.repo_type,
        "process_per_gpu": kernel.process_per_gpu,
        "requirements": requirements(),
        "export_requirements": export_requirements() if kernel.repo_type == "model" else [],
        "provenance": {name: getattr(record, name) for name in Provenance.model_fields},
    }
    text = json.dumps(run, indent=1, sort_keys=True)
    refuse_secrets(text.encode(), "what was requested for this run")
    entry = (shared_dir("kernels") / "entry.py").read_text(encoding="utf-8")
    payload = base64.b85encode(bundle.archive).decode()
    lines = "\n".join(payload[start : start + _LINE] for start in range(0, len(payload), _LINE))
    script = (
        f"{entry}\n\n"
        f'RUN: dict[str, Any] = json.loads(r"""\n{text}\n""")\n\n'
        f'PAYLOAD = """\n{lines}\n"""\n\n'
        'if __name__ == "__main__":\n    start(RUN, PAYLOAD)\n'
    )
    _check_size(len(script.encode()), bundle)
    return script


def _check_size(size: int, bundle: Bundle) -> None:
    if size > SIZE_LIMIT:
        largest = sorted(bundle.sizes.items(), key=lambda item: (-item[1], item[0]))[:5]
        listed = ", ".join(f"{name} ({count / 1024:.0f} kB)" for name, count in largest)
        raise ChexError(
            f"the script would be {size / 1024:.0f} kB, a kernel may have {SIZE_LIMIT / 1024:.0f} kB; "
            f"make the largest packed files smaller or move them: {listed}"
        )


def check_script(record: RunRecord) -> None:
    """Check that the script of a run's next session is the one that was dispatched.

    Raises:
        ChexError: it is gone, or was altered.
    """
    path = Path(record.folder) / SCRIPT_NAME
    if not path.is_file():
        raise ChexError(f"the script of {record.run_id} is gone from {path.parent}; dispatch a new run")
    if record.script_sha256 not in (None, sha256_of(path)):
        raise ChexError(f"{path} was altered since {record.run_id} was dispatched; dispatch a new run")


def requirements() -> list[str]:
    """What the training side of this chexvision needs installed, as ``name`` with its range, sorted."""
    return _requirements("train")


def export_requirements() -> list[str]:
    """What exporting a trained model needs besides, likewise."""
    return sorted({*_requirements("export"), *_requirements("predict")} - {*_requirements("train")})


def _requirements(extra: str) -> list[str]:
    from packaging.requirements import Requirement  # takes longer to import than `--help` may

    try:
        declared = metadata.requires("chexvision") or []
    except metadata.PackageNotFoundError:
        raise ChexError("chexvision is not installed here; type: pip install chexvision") from None
    parsed = [Requirement(text) for text in declared]
    return sorted(
        f"{requirement.name}{requirement.specifier}"
        for requirement in parsed
        if requirement.name not in {*_LAPTOP_ONLY, "chexvision"}  # extras name others of its own
        and (requirement.marker is None or requirement.marker.evaluate({"extra": extra}))
    )
