"""Reading a pickle without running it: which names does it ask for.

``torch.load(weights_only=True)`` runs nothing of a file, but a few bytes make it allocate what memory they like:
``bytearray(10**12)``, and bytes that ``_codecs.encode`` doubles at every turn. So a file may ask for less here.
"""

from __future__ import annotations

import pickletools
import re
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from typing import Any

from sslam_lightning.checkpoints.messages import printable
from sslam_lightning.checkpoints.pickle_stubs import is_harmless

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


def names_to_replace(content: bytes) -> set[str]:
    """The names of the closed list of harmless classes that a pickle asks for.

    Raises:
        ValueError: naming the first thing that is neither data nor on the list.
    """
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
