"""Samples the findings of synthetic images with the frequencies of the NIH release."""

from __future__ import annotations

import math

import numpy as np

from chexvision.labels import NIH

# The 200 most frequent label combinations of Data_Entry_2017_v2020.csv (98.5 % of its 112,120 images) with
# their counts: A is the first finding of `NIH.findings`, N the last, - is "No Finding".
_COMBINATIONS = """
-60361 D9547 A4215 C3955 F2705 H2194 E2139 CD1604 AD1350 I1310 AC1167 M1126 B1093 K892 DF829 ACD739 L727
J628 BC484 DI441 DE420 CH403 CE402 AI398 EF396 DJ392 DH347 HK337 CI337 G322 CM251 CF250 AH241 DM210 BD201
AF201 ACI200 DG199 CJ189 DL185 EH179 AE178 EI151 FM141 DGJ138 CDI134 EM132 FH130 FI128 CDJ127 DK126
BCD120 AK117 AM117 N110 AG108 CDF106 AL104 ADI104 CDE99 ACH99 CK96 CDH88 AB88 GJ83 ACDI81 HM79 ACE72
ADH72 DHK72 CDM71 LM70 ABC68 DEF67 ADE67 EK66 FL66 CEI65 CEF65 CL59 ADF57 AHK54 ABCD54 CG54 IJ49 HI49
AJ48 ACM47 DFI47 CHK47 IM46 KM46 ADM45 ACDH44 ACF43 DEI42 CDG42 ACDM41 BI40 ADK40 ACDE38 CEM38 ACEI37
GI36 BJ35 ADJ35 BCM34 ADG34 EL34 CHM34 AEI34 CFM31 DFJ31 DFH31 ABD31 EHK30 EFM30 DFM29 FK29 CFI28 FJ28
ADHK27 ACK26 DEM25 DIJ25 ACDJ24 CDK24 IL24 CEH24 EFI24 AEF24 AHI23 DEJ23 ACG23 HL23 BF22 DHM22 CHI22
BCI22 ACJ22 CDEF22 ACDF21 CDGJ21 AN21 ADL21 DHI20 DIM20 FHK20 IK20 BK19 FG19 CGJ19 BCJ18 BE18 AHM18
ACDG18 EJ18 EFH18 ACDK18 CDFM17 DLM16 DFL16 CDL16 FLM16 CDEM16 DEK16 AFI16 ACEFI16 AIM16 AEH16 DN15 DEH15
CDEI15 CDFI15 EN15 JM15 AEK15 ACL15 EHM15 CEJ15 ACHK15 ACEF15 BCF15 AGI15 CFH15 BCE14 BM14 CKM13 KL13
DGI13 DEFI13 ACDEFI13 HKM13 JK13 CDHK12 AFM12 BDI12 ABCDI12 ACEIM11 GM11
"""
# 0.2 % of the release show a hernia: a small dataset would have none to train or to evaluate on.
FLOOR = 0.04


def sample_findings(rng: np.random.Generator, images: int) -> list[tuple[str, ...]]:
    """Sample the findings of `images` images, each tuple in canonical order.

    Combinations have the frequencies of the release. A finding on less than `FLOOR` of the images (rounded down)
    is then added to abnormal images, so that the share of "No Finding" does not change.
    """
    names, counts = _table()
    sampled = [set(names[i]) for i in rng.choice(len(names), size=images, p=counts)]
    floor = math.floor(FLOOR * images)
    for finding in NIH.findings:
        missing = floor - sum(finding in found for found in sampled)
        if missing > 0:
            without = [i for i, found in enumerate(sampled) if finding not in found]
            abnormal = [i for i in without if sampled[i]]
            pool = abnormal if len(abnormal) >= missing else without
            for i in rng.choice(pool, size=missing, replace=False):
                sampled[i].add(finding)
    return [tuple(finding for finding in NIH.findings if finding in found) for found in sampled]


def _table() -> tuple[list[tuple[str, ...]], np.ndarray[tuple[int], np.dtype[np.float64]]]:
    names, counts = [], []
    for entry in _COMBINATIONS.split():
        letters = entry.rstrip("0123456789")
        names.append(tuple(NIH.findings[ord(letter) - ord("A")] for letter in letters if letter != "-"))
        counts.append(int(entry[len(letters) :]))
    shares = np.asarray(counts, dtype=np.float64)
    return names, shares / shares.sum()
