"""Reading a pickle without running it: which names does it ask for, and what would it do with them."""

from __future__ import annotations

import pickletools
import re
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from typing import Any

from sslam_lightning.checkpoints.stand_ins import is_harmless

# Everything that tensors and plain data are made of, and no more: torch would accept others, some of which allocate memory
# at a word.
_DATA = re.compile(
    r"""
      collections\.OrderedDict
    | builtins\.set
    | torch\.Size | torch\.device
    | torch\.(float|bfloat|complex|int|uint)\d+ | torch\.bool
    | torch\.(Float|Double|Half|BFloat16|Long|Int|Short|Char|Byte|Bool)Storage
    | torch\.storage\.UntypedStorage
    | torch\._utils\._rebuild_(tensor_v2|parameter)
    """,
    re.VERBOSE,
)
# How Python 3 writes bytes, such as those of a NumPy scalar, in protocol 2: encode(text, "latin1"). The function knows
# other encodings, some of which make much of little, so it may be called in this way only.
_ENCODE = ("name", "_codecs.encode")
_CALL_FOR_BYTES = (("text", None), ("text", "latin1"), ("TUPLE2", None), ("REDUCE", None))
_CODE = ("STACK_GLOBAL", "INST", "OBJ", "EXT1", "EXT2", "EXT4", "NEWOBJ_EX")
_PUTS = ("BINPUT", "LONG_BINPUT")
_GETS = ("BINGET", "LONG_BINGET")


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
        if opcode.name in _PUTS:
            if argument in memo:
                raise ValueError("its pickle uses a place of its memory twice, which torch.save does not")
            memo[argument] = last
            continue
        last = memo.get(argument, ("", None)) if opcode.name in _GETS else _token(opcode.name, argument)
        if due:
            kind, value = due.pop(0)
            if last[0] != kind or value not in (None, last[1]):
                raise ValueError("it holds more than data: it asks for _codecs.encode")
        elif last == _ENCODE:
            due = list(_CALL_FOR_BYTES)
        if opcode.name == "GLOBAL" and last != _ENCODE:
            name = last[1]
            if is_harmless(name):
                replaced.add(name)
            elif not _DATA.fullmatch(name):
                raise ValueError(f"it holds more than data: it asks for {printable(name)}")
    return replaced


def printable(text: str) -> str:
    """The beginning of a text from a file, fit for a terminal."""
    return "".join(letter if letter.isprintable() else "?" for letter in text[:300])


def _token(opcode: str, argument: Any) -> tuple[str, Any]:
    if opcode in _CODE:
        raise ValueError(f"it holds more than data (a pickle's {opcode})")
    if opcode == "PROTO" and argument != 2:
        raise ValueError(f"its pickle has protocol {argument}, torch.save's is 2")
    if opcode == "GLOBAL":
        return "name", _today(argument)
    if opcode == "BINUNICODE":
        return "text", argument
    return opcode, None


def _today(argument: str) -> str:
    """The name of Python 3 for what a pickle of protocol 2 calls by its old one."""
    module, _, name = argument.partition(" ")
    module, name = NAME_MAPPING.get((module, name), (IMPORT_MAPPING.get(module, module), name))
    return f"{module}.{name}"
