"""What takes the place of other projects' objects in old fairseq files: classes of ours that do nothing.

Files written before fairseq saved plain data hold their configuration as OmegaConf nodes, enums or an
``argparse.Namespace``. None of those packages is needed, or imported, to read what the nodes hold.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

# The closed list: whatever of these a file names, it gets a PickleStub. User directories give the enums their first words.
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
    """Takes whatever a pickle hands over, keeps it, and does nothing with it."""

    args: tuple[Any, ...]
    state: Mapping[str, Any]

    def __new__(cls, *args: Any) -> PickleStub:  # a pickle may create objects without calling `__init__`
        stub = super().__new__(cls)
        stub.args, stub.state = args, {}
        return stub

    def __setstate__(self, state: Any) -> None:
        self.state = state if isinstance(state, Mapping) else {}


def is_harmless(name: str) -> bool:
    """Whether the closed list has this ``module.name``."""
    return _HARMLESS.fullmatch(name) is not None


def stub_for(name: str) -> type[PickleStub]:
    """A class of its own for every name, so that objects of different classes stay apart."""
    return type(name.rpartition(".")[2], (PickleStub,), {})


def opened(value: Any) -> Any:
    """What a configuration's node holds, one level deep; plain data comes back as it is."""
    for _ in range(8):  # a node in a union in an interpolation; a file that nests deeper is playing
        if not isinstance(value, PickleStub):
            return value
        kind = type(value).__name__
        if kind in ("DictConfig", "ListConfig"):
            value = value.state.get("_content")
        elif kind.endswith("Node"):
            value = value.state.get("_val", value.state.get("_content"))
        elif kind == "PredictionMode":
            value = _PREDICTION_MODES.get(value.args[0] if value.args else 0)
        else:
            return dict(value.state) if kind == "Namespace" else None
    return None


def section(node: Any, *names: str) -> Any:
    """The value at a path of names in a configuration, None where it has no such place."""
    for name in names:
        node = opened(node)
        node = node.get(name) if isinstance(node, Mapping) else None
    return opened(node)
