"""Opening PyTorch's files as data: what they hold is checked before anything is loaded, and nothing in them is executed."""

from __future__ import annotations

import os
import struct
import zipfile
from pathlib import Path
from typing import Any

import torch

from sslam_lightning.checkpoints.pickle_scan import names_to_replace, printable
from sslam_lightning.checkpoints.stand_ins import stand_in_for

# That of a large model with its optimizer's state takes 300 thousand, the names of a run's broken clips may add a few
# millions; in memory it may become a hundred times as large.
_MAX_PICKLE_BYTES = 16 * 2**20
_ZIP_BEGINS = b"PK\x03\x04"
# At the end of a 64-bit zip archive: the record of its table of contents, and where that record lies.
_ZIP64_RECORD, _ZIP64_LOCATOR = struct.Struct("<4sQ2H2L4Q"), struct.Struct("<4sLQL")


def open_archive(path: Path) -> Any:
    """What ``torch.save`` put into a file, with stand-ins for the objects of old fairseq configurations.

    Raises:
        ValueError: one line, if the file is damaged, is no such archive, or holds anything but data.
    """
    try:
        stand_ins = {name: stand_in_for(name) for name in names_to_replace(_pickle_of(path))}
        with torch.serialization.safe_globals([(kind, name) for name, kind in stand_ins.items()]):
            # Mapped, so that a size the file lies about ends at the end of the file; and the optimizer's state is not read.
            return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # a damaged file fails in many ways
        raise ValueError(f"{path} cannot be opened as a checkpoint: {_first_line(error)}") from None


def _pickle_of(path: Path) -> bytes:
    """The pickle of a zip archive whose entries are what they say: stored as they are, no larger than the file."""
    if not zipfile.is_zipfile(path):
        with path.open("rb") as file:
            if file.read(len(_ZIP_BEGINS)) == _ZIP_BEGINS:
                raise ValueError("it is damaged or cut off: its table of contents, which ends it, is not there")
        raise ValueError("it is no archive of torch.save (files from before PyTorch 1.6 and bare pickles are not opened)")
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        names = [entry.filename for entry in entries]
        # PyTorch's reader does not tell upper from lower case.
        if len({name.casefold() for name in names}) < len(names) or archive.comment or _has_two_tables(path):
            raise ValueError("its table of contents is not one that torch.save writes")
        folders = {name.partition("/")[0] for name in names}
        if len(folders) != 1 or any(".." in name or "\\" in name or name.startswith("/") for name in names):
            raise ValueError("it holds names that lead out of its folder")
        folder = folders.pop()
        if any(name.startswith(f"{folder}/code/") or name == f"{folder}/constants.pkl" for name in names):
            raise ValueError("it is a TorchScript archive, which holds code")
        if any(entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1 for entry in entries):
            raise ValueError("it holds compressed entries, which torch.save does not write")
        if sum(entry.file_size for entry in entries) > os.path.getsize(path):
            raise ValueError("its entries claim to be larger than the file")
        pickles = [entry for entry in entries if entry.filename == f"{folder}/data.pkl"]
        if not pickles:
            raise ValueError("it holds no data.pkl")
        if pickles[0].file_size > _MAX_PICKLE_BYTES:
            raise ValueError(f"its description takes {pickles[0].file_size} bytes, more than any model's")
        pickle = archive.read(pickles[0])
    if torch._C.PyTorchFileReader(str(path)).get_record("data.pkl") != pickle:
        raise ValueError("its description is not the one that PyTorch would load")
    return pickle


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


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return printable(lines[0]) if lines else type(error).__name__
