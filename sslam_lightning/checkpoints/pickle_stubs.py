"""What takes the place of other projects' objects in old fairseq files: plain data, or an object that does nothing.

Files written before fairseq saved plain data hold their configuration as OmegaConf nodes, enums or an
``argparse.Namespace``. None of those packages is needed, or imported, to read what the nodes hold.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

# The closed list: whatever of these a file names, it gets a stub. User directories give the enums their first words.
_HARMLESS = re.compile(
    r"""
      omegaconf\.(base\.(Container)?Metadata|base\.UnionNode|dictconfig\.DictConfig|listconfig\.ListConfig
        |nodes\.(Any|Boolean|Bytes|Enum|Float|Integer|InterpolationResult|Path|String)Node)
    | argparse\.Namespace
    | typing\.(Any|Dict|List|Optional|Tuple|Union)
    | _?operator\.getitem                                     # how a pickle says List[int]
    | builtins\.(bool|bytes|dict|float|int|list|str|tuple)    # named as types of nodes
    | collections\.defaultdict
    | numpy\.(_?core\.multiarray\.scalar|dtype)               # a score that fairseq keeps for its records
    | pathlib\.(_local\.)?(Posix|Windows|PurePosix|PureWindows)?Path  # _local: written by Python 3.13
    | (\w+\.)*data\.modality\.Modality
    | (\w+\.)*models\.\w+\.(PredictionMode|D2vModalitiesConfig|Data2VecMultiConfig|MaeImageClassificationConfig)
    | (\w+\.)*(models|modules)\.\w+\.D2v\w+Config
    | fairseq\.(dataclass|tasks|criterions|optim|optim\.lr_scheduler)\.\w+\.\w+Config
    | fairseq\.dataclass\.constants\.\w+
    """,
    re.VERBOSE,
)
_PREDICTION_MODES = {1: "MEAN_POOLING", 2: "CLS_TOKEN", 3: "LIN_SOFTMAX"}  # the members of the public enum, in its order


class PickleStub:
    """Takes whatever a pickle hands over, and does nothing with it; of an OmegaConf node it keeps the value."""

    value: Any = None

    def __new__(cls, *_: Any) -> PickleStub:
        return super().__new__(cls)

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, Mapping) and type(self).__name__.endswith("Node"):
            self.value = state.get("_val", state.get("_content"))


class _Table(dict):  # a DictConfig
    def __setstate__(self, state: Mapping[str, Any]) -> None:
        content = state.get("_content")
        self.update({key: _value(item) for key, item in content.items()} if isinstance(content, Mapping) else {})


class _List(list):  # a ListConfig
    def __setstate__(self, state: Mapping[str, Any]) -> None:
        content = state.get("_content")
        self.extend(map(_value, content) if isinstance(content, list) else [])


class _Namespace(dict):
    def __setstate__(self, state: Mapping[str, Any]) -> None:
        self.update(state)


def _prediction_mode(number: Any = None) -> str | None:
    return _PREDICTION_MODES.get(number)


_PLAIN = {"DictConfig": _Table, "ListConfig": _List, "Namespace": _Namespace, "PredictionMode": _prediction_mode}


def _value(node: Any) -> Any:
    """What a node holds; anything else as it is."""
    for _ in range(8):  # a node in a union in an interpolation; a file that nests deeper is playing
        if not isinstance(node, PickleStub):
            return node
        node = node.value
    return None


def is_harmless(name: str) -> bool:
    """Whether the closed list has this ``module.name``."""
    return _HARMLESS.fullmatch(name) is not None


def stub_for(name: str) -> Any:
    """What takes the place of ``module.name``; a class of its own for every name, so that objects stay apart."""
    kind = name.rpartition(".")[2]
    return _PLAIN.get(kind) or type(kind, (PickleStub,), {})


def section(node: Any, *names: str) -> Any:
    """The value at a path of names in a configuration, None where it has no such place."""
    for name in names:
        node = _value(node.get(name)) if isinstance(node, Mapping) else None
    return node
