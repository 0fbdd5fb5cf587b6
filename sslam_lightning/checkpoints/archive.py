"""Opening PyTorch's files as data: what they hold is checked before anything is loaded, and nothing in them is executed."""

from __future__ import annotations

import os
import struct
import zipfile
from pathlib import Path
from typing import Any

import torch

from sslam_lightning.checkpoints.messages import first_line
from sslam_lightning.checkpoints.pickle_scan import names_to_replace
from sslam_lightning.checkpoints.pickle_stubs import stub_for

# That of a large model with its optimizer's state takes 300 thousand, the names of a run's broken clips may add a few
# millions; in memory it may become a hundred times as large.
_MAX_PICKLE_BYTES = 16 * 2**20
_ZIP_BEGINS = b"PK\x03\x04"
# At the end of a 64-bit zip archive: the record of its table of contents, and where that record lies.
_ZIP64_RECORD, _ZIP64_LOCATOR = struct.Struct("<4sQ2H2L4Q"), struct.Struct("<4sLQL")


def open_archive(path: Path) -> Any:
    """What ``torch.save`` put into a file, with stubs for the objects of old fairseq configurations.

    Raises:
        ValueError: one line, if the file is damaged, is no such archive, or holds anything but data.
    """
    try:
        stubs: list[Any] = [(stub_for(name), name) for name in names_to_replace(_pickle_of(path))]
        with torch.serialization.safe_globals(stubs):
            # Mapped, so that a size the file lies about ends at the end of the file; and the optimizer's state is not read.
            return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # a damaged file fails in many ways
        raise ValueError(f"{path} cannot be opened as a checkpoint: {first_line(error)}") from None


def _pickle_of(path: Path) -> bytes:
    """The pickle that PyTorch would load from a zip archive whose entries are what they say."""
    if not zipfile.is_zipfile(path):
        with path.open("rb") as file:
            if file.read(len(_ZIP_BEGINS)) == _ZIP_BEGINS:
                raise ValueError("it is damaged or cut off: its table of contents, which ends it, is not there")
        raise ValueError("it is no archive of torch.save (files from before PyTorch 1.6 and bare pickles are not opened)")
    with zipfile.ZipFile(path) as archive:
        entries, comment = archive.infolist(), archive.comment
    names = [entry.filename for entry in entries]
    # PyTorch's reader does not tell upper from lower case.
    if len({name.casefold() for name in names}) < len(names) or comment or _has_two_tables(path):
        raise ValueError("its table of contents is not one that torch.save writes")
    folder = names[0].partition("/")[0] if names else ""
    if any(not name.startswith(f"{folder}/") or ".." in name or "\\" in name for name in names) or not folder:
        raise ValueError("it holds names that lead out of its folder")
    if any(name.startswith(f"{folder}/code/") or name == f"{folder}/constants.pkl" for name in names):
        raise ValueError("it is a TorchScript archive, which holds code")
    if any(entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1 for entry in entries):
        raise ValueError("it holds compressed entries, which torch.save does not write")
    if sum(entry.file_size for entry in entries) > os.path.getsize(path):
        raise ValueError("its entries claim to be larger than the file")
    reader = torch._C.PyTorchFileReader(str(path))
    if (size := reader.get_record_size("data.pkl")) > _MAX_PICKLE_BYTES:
        raise ValueError(f"its description takes {size} bytes, more than any model's")
    return reader.get_record("data.pkl")


def _has_two_tables(path: Path) -> bool:
    """Whether a 64-bit archive points at another table of contents than the one at its end, which Python reads."""
    end = 22  # bytes of the last record, behind which there is no comment
    tail = _ZIP64_RECORD.size + _ZIP64_LOCATOR.size + end
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - tail))
        content = file.read()
    locator = content[-end - _ZIP64_LOCATOR.size : -end]
    if not locator.startswith(b"PK\6\7"):
        return False
    _, _, offset, _ = _ZIP64_LOCATOR.unpack(locator)
    return offset != size - tail or not content.startswith(b"PK\6\6")
