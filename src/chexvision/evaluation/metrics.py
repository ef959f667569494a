"""Figures that say how well findings are ranked."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

from chexvision.hub.artifact import FindingMetrics, SplitMetrics
from chexvision.labels import FINDINGS


def split_metrics(
    probabilities: NDArray[np.float32], targets: NDArray[np.float32], patients: NDArray[np.int64]
) -> SplitMetrics:
    """Measure predictions.

    Args:
        probabilities: float[N, 15], the findings then normal/abnormal, in [0, 1].
        targets: float[N, 15], 0 or 1.
        patients: int64[N].
    """
    findings = {
        finding: FindingMetrics(
            positives=int(targets[:, i].sum()),
            auroc=auroc(targets[:, i], probabilities[:, i]),
            auprc=_auprc(targets[:, i], probabilities[:, i]),
        )
        for i, finding in enumerate(FINDINGS)
    }
    defined = [of.auroc for of in findings.values() if of.auroc is not None]
    abnormal, probability = targets[:, -1], probabilities[:, -1]
    return SplitMetrics(
        images=len(targets),
        patients=len(np.unique(patients)),
        macro_auroc=float(np.mean(defined)) if defined else None,
        macro_auroc_findings=len(defined),
        findings=findings,
        binary_auroc=auroc(abnormal, probability),
        binary_auprc=_auprc(abnormal, probability),
        binary_f1=float(f1_score(abnormal, probability >= 0.5, zero_division=0)),
    )


def auroc(targets: NDArray[np.float32], probabilities: NDArray[np.float32]) -> float | None:
    """Area under the ROC curve of [N] predictions; None unless both kinds of target occur."""
    return float(roc_auc_score(targets, probabilities)) if _both_kinds(targets) else None


def _auprc(targets: NDArray[np.float32], probabilities: NDArray[np.float32]) -> float | None:
    return float(average_precision_score(targets, probabilities)) if _both_kinds(targets) else None


def _both_kinds(targets: NDArray[np.float32]) -> bool:
    return bool(targets.min() != targets.max())
