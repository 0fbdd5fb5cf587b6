"""Opening PyTorch's files as data: what they hold is checked before anything is loaded, and nothing in them is executed.

``torch.load(weights_only=True)`` runs nothing of a file, but a few bytes make it allocate what memory they like:
``bytearray(10**12)``, and bytes that ``_codecs.encode`` doubles at every turn. So a file may ask for less here.
"""

from __future__ import annotations

import os
import pickletools
import re
import zipfile
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from pathlib import Path
from typing import Any

import torch

from sslam_lightning.checkpoints.messages import first_line, printable
from sslam_lightning.checkpoints.pickle_stubs import is_harmless, stub_for

# That of a large model with its optimizer's state takes 300 thousand, the names of a run's broken clips may add a few
# millions; in memory it may become a hundred times as large.
_MAX_PICKLE_BYTES = 16 * 2**20
_ZIP_BEGINS = b"PK\x03\x04"
# Everything that tensors and plain data are made of, and no more.
_DATA = re.compile(
    r"collections\.OrderedDict|builtins\.set|torch\.Size|torch\.device|torch\.bool"
    r"|torch\.(float|bfloat|complex|int|uint)\d+"
    r"|torch\.(Float|Double|Half|BFloat16|Long|Int|Short|Char|Byte|Bool)Storage|torch\.storage\.UntypedStorage"
    r"|torch\._utils\._rebuild_(tensor_v2|parameter)"
)
# How Python 3 writes bytes, such as those of a NumPy scalar, in protocol 2: encode(text, "latin1"). The function knows
# other encodings, some of which make much of little, so it may be called in this way only.
_ENCODE = ("name", "_codecs.encode")
_CALL_FOR_BYTES = (("text", None), ("text", "latin1"), ("TUPLE2", None), ("REDUCE", None))
_CODE = ("STACK_GLOBAL", "INST", "OBJ", "EXT1", "EXT2", "EXT4", "NEWOBJ_EX")


def open_archive(path: Path) -> Any:
    """What ``torch.save`` put into a file, with stubs for the objects of old fairseq configurations.

    Raises:
        ValueError: one line, if the file is damaged, is no such archive, or holds anything but data.
    """
    try:
        stubs: list[Any] = [(stub_for(name), name) for name in _names_to_replace(_pickle_of(path))]
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
    with zipfile.ZipFile(path) as archive, path.open("rb") as file:
        entries, comment = archive.infolist(), archive.comment
        record_at = max(file.seek(0, os.SEEK_END) - 98, 0)  # of a 64-bit archive: 56 bytes, a locator of 20, the end of 22
        file.seek(record_at)
        record, locator = file.read(56), file.read(20)
    names = [entry.filename for entry in entries]
    # Python reads the record at the end, PyTorch the one that the locator points to.
    two_tables = locator[:4] == b"PK\6\7" and (record[:4], int.from_bytes(locator[8:16], "little")) != (
        b"PK\6\6",
        record_at,
    )
    # PyTorch's reader does not tell upper from lower case.
    if len({name.casefold() for name in names}) < len(names) or comment or two_tables:
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


def _names_to_replace(content: bytes) -> set[str]:
    """The names of the closed list of harmless classes that a pickle asks for."""
    replaced: set[str] = set()
    memo: dict[Any, tuple[str, Any]] = {}
    last: tuple[str, Any] = ("", None)
    due: list[tuple[str, Any]] = []  # what has to follow a call for bytes
    for opcode, argument, _ in pickletools.genops(content):
        if opcode.name in ("BINPUT", "LONG_BINPUT"):
            if argument in memo:
                raise ValueError("its pickle uses a place of its memory twice, which torch.save does not")
            memo[argument] = last
            continue
        got = opcode.name in ("BINGET", "LONG_BINGET")
        last = memo.get(argument, ("", None)) if got else _token(opcode.name, argument)
        if due:
            kind, value = due.pop(0)
            if last[0] != kind or value not in (None, last[1]):
                raise ValueError("it holds more than data: it asks for _codecs.encode")
        elif last == _ENCODE:
            due = list(_CALL_FOR_BYTES)
        elif last[0] == "name" and is_harmless(last[1]):
            replaced.add(last[1])
        elif last[0] == "name" and not _DATA.fullmatch(last[1]):
            raise ValueError(f"it holds more than data: it asks for {printable(last[1])}")
    return replaced


def _token(opcode: str, argument: Any) -> tuple[str, Any]:
    if opcode in _CODE:
        raise ValueError(f"it holds more than data (a pickle's {opcode})")
    if opcode == "PROTO" and argument != 2:
        raise ValueError(f"its pickle has protocol {argument}, torch.save's is 2")
    if opcode == "GLOBAL":  # protocol 2 has the names of Python 2
        module, _, name = argument.partition(" ")
        return "name", ".".join(NAME_MAPPING.get((module, name), (IMPORT_MAPPING.get(module, module), name)))
    return ("text", argument) if opcode == "BINUNICODE" else (opcode, None)
