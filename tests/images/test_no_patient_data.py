"""Nothing that a DICOM file says of a patient is printed, logged, raised, returned or written."""

from __future__ import annotations

import logging
import re
import struct
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import Dataset, Sequence
from pydicom._dicom_dict import DicomDictionary
from pydicom.dataelem import DataElement
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from chexvision.images.reading import Radiograph, read_radiograph
from chexvision.shards.build import build_shards
from tests.images.dicoms import data_of, dataset
from tests.shards.conftest import HEAD_2020, options, tree

GREY = np.random.default_rng(3).integers(0, 256, (40, 40), dtype=np.uint8)
SECRETS = ("DOE^JANE", "Jane Doe", "MRN4711", "19700101", "1970")
TEXT = "DOE^JANE MRN4711 19700101"
SHORT = "DOE^JANE"  # of what fits into the shortest kinds
NUMBERS = {"DS", "IS", "FL", "FD", "SL", "SS", "SV", "UL", "US", "UV", "AT"}
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:pydicom")  # of writing such files

# What decides how the pixels are read is planted one by one.
DECIDING = ("SamplesPerPixel", "Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation")


def secret(kind: str) -> Any:
    if kind in ("DS", "IS"):
        return "19700101"
    if kind in NUMBERS:
        return 1970
    if kind in ("OB", "OW", "UN", "OD", "OF", "OL", "OV"):
        return (TEXT + " ").encode()[:24] * 4
    return SHORT if kind in ("AE", "CS", "SH", "DA", "TM", "AS", "DT", "UI") else TEXT


def planted(inside: bool = True) -> Dataset:
    """A radiograph with the secrets in every element of the standard's dictionary, also within sequences."""
    made = dataset(GREY, bits=8)
    kept = set(made.keys()) | {made[name].tag for name in DECIDING}
    for tag, (kinds, _, _, _, keyword) in DicomDictionary.items():
        kind = kinds.split(" or ")[0]
        if tag in kept or not keyword or tag >> 16 in (0, 2, 0x7FE0, 0xFFFE):
            continue
        if kind == "SQ":
            if inside:
                made.add(raw(tag, "SQ", Sequence([planted_item(keyword)])))
            continue
        made.add(raw(tag, kind, secret(kind)))
    made.add(raw(0x00091001, "LO", TEXT))
    made.add(raw(0x00091002, "UN", TEXT.encode()))
    return made


def planted_item(keyword: str) -> Dataset:
    item = Dataset()
    item.add(raw(0x00100010, "PN", TEXT))
    item.add(raw(0x00080100, "SH", SHORT))
    item.add(raw(0x00283002, "US", [40, 0, 16]))
    item.add(raw(0x00283006, "OW", (TEXT + " " * 55).encode()[:80]))
    return item


def raw(tag: int, kind: str, value: Any) -> DataElement:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return DataElement(tag, kind, value, validation_mode=0)


Outcome = Callable[..., Radiograph | None]


@pytest.fixture
def outcome(capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> Outcome:
    """Read a file; fails if a secret is printed, logged, warned of, returned, or in an exception."""

    def read(data: bytes, *, any_view: bool) -> Radiograph | None:
        capfd.readouterr()
        caplog.clear()
        caplog.set_level(logging.DEBUG)
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            found = _read(data, any_view)
        said = capfd.readouterr()
        clean(said.out, said.err, caplog.text, *(str(one.message) for one in warned))
        return found

    return read


def _read(data: bytes, any_view: bool) -> Radiograph | None:
    try:
        found = read_radiograph(data, any_view=any_view)
    except ValueError as error:
        whole: BaseException | None = error
        while whole is not None:
            clean(str(whole), repr(whole), *map(str, whole.args))
            whole = whole.__cause__ or whole.__context__  # even if its printing is suppressed
        clean("".join(traceback.format_exception(error)))
        return None
    clean(*found.notes, *found.warnings)
    return found


def clean(*texts: str) -> None:
    for text in texts:
        found = [secret for secret in SECRETS if secret.casefold() in text.casefold()]
        assert not found, text[:500]


@pytest.mark.parametrize("any_view", [False, True])
@pytest.mark.parametrize("implicit", [False, True])
def test_secrets_in_all_elements(implicit: bool, any_view: bool, outcome: Outcome) -> None:
    made = planted()
    made.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian
    data = data_of(made)
    outcome(data, any_view=any_view)
    assert all(secret.encode() in data for secret in SECRETS[:1])


READ = (
    *("Modality", "BodyPartExamined", "ViewPosition", "PhotometricInterpretation", "NumberOfFrames", "RescaleSlope"),
    *("PlanarConfiguration", "PixelAspectRatio", "WindowCenter", "WindowWidth", "VOILUTFunction", "RescaleIntercept"),
    *(
        "PixelPaddingValue",
        "PresentationIntentType",
        "PresentationLUTShape",
        "PatientOrientation",
        "BurnedInAnnotation",
    ),
)


@pytest.mark.parametrize("keyword", [*DECIDING, *READ])
@pytest.mark.parametrize("value", [TEXT, "19700101", "1970"])
def test_secrets_in_an_element_that_is_read(keyword: str, value: str, outcome: Outcome) -> None:
    made = dataset(GREY, bits=8, WindowCenter=128, WindowWidth=256)
    tag = next(tag for tag, entry in DicomDictionary.items() if entry[4] == keyword)
    made[tag] = raw(tag, "LO", value)  # whatever its kind should be
    outcome(data_of(made), any_view=False)
    outcome(data_of(made), any_view=True)


def test_secrets_in_the_meta_information_and_the_preamble(outcome: Outcome) -> None:
    made = planted(inside=False)
    data = bytearray(data_of(made))
    data[:128] = (TEXT * 10).encode()[:128]
    at = data.find(b"1.2.840.10008.1.2.1")
    data[at : at + 19] = TEXT[:19].encode()
    outcome(bytes(data), any_view=True)


def test_secrets_where_a_file_is_damaged(outcome: Outcome) -> None:
    data = data_of(planted())
    for stop in range(132, len(data), 4001):
        outcome(data[:stop], any_view=True)


def test_secrets_in_compressed_pixels(outcome: Outcome) -> None:
    for end in ("50", "51", "57", "70", "80", "81", "90", "91"):
        made = dataset(GREY, bits=8)
        made.compress("1.2.840.10008.1.2.5", generate_instance_uid=False)
        made.file_meta.TransferSyntaxUID = UID(f"1.2.840.10008.1.2.4.{end}")
        for start in (b"\xff\xd8\xff\xfe\0\x20", b"\xff\x4f\xff\x51", b""):
            stream = (start + (TEXT * 20).encode())[:500] + b"\xff\xd9"
            made.PixelData = struct.pack("<HHIHHI", 0xFFFE, 0xE000, 0, 0xFFFE, 0xE000, len(stream)) + stream
            assert outcome(data_of(made), any_view=True) is None


def test_secrets_are_not_in_shards(tmp_path: Path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    rows = [HEAD_2020]
    made = planted()
    for keyword in ("ModalityLUTSequence", "VOILUTSequence", "NumberOfFrames", "RescaleSlope", "RescaleIntercept"):
        del made[keyword]
    made.PresentationIntentType, made.PresentationLUTShape = "FOR PRESENTATION", "IDENTITY"
    for number in range(6):
        made.Modality = "DX" if number else "CT"
        (folder / f"{number:08d}_000.dcm").write_bytes(data_of(made))
        rows.append(f"{number:08d}_000.dcm,Mass,0,{number},,,PA,,,,")
    metadata = tmp_path / "Data_Entry_2017.csv"
    metadata.write_text("\n".join(rows) + "\n")
    manifest = build_shards([folder], metadata, tmp_path / "out", options(max_bad=0.5))
    assert manifest.images == 5
    assert [(one.name, one.reason) for one in manifest.bad] == [
        ("00000000_000.dcm", "its modality is not CR or DX, but CT")
    ]
    for name, data in tree(tmp_path / "out").items():
        clean(name, re.sub(r"[^ -~]", " ", data.decode("latin-1")))
