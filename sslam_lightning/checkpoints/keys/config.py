"""The configuration keys of other projects' checkpoints: for each importer, a closed list of what becomes of every key.

A table maps the dotted path of a key to one of three rules:

- ``HONORED``: the importer reads it, or the shapes of the weights say the same.
- ``Only(values, purposes)``: only these values are computed here. A file with another value is refused by the key's name
  if it is opened for one of ``purposes``; for any other purpose the key has no effect.
- ``NO_EFFECT``: the key changes nothing that a checkpoint is opened for. It sets how the other project trained, where
  here the recipe decides, or where its files are.

A key that is not in the table is an error. The tables are in ``key_tables.py``; to add an importer, add its table there and
call :func:`check_keys`.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from typing import Any, Literal, NamedTuple, get_args

from sslam_lightning.checkpoints.messages import printable, shown
from sslam_lightning.checkpoints.pickle_stubs import section

Purpose = Literal["inference", "init_from", "training"]
"""What a checkpoint is opened for: features and predictions; an encoder that another training starts from; to continue
pre-training, with decoder and teacher. Converting keeps everything, so it counts as training."""

_PURPOSES: tuple[Purpose, ...] = get_args(Purpose)
_PLAIN = (bool, int, float, str, type(None))


class Same(NamedTuple):
    """The value of another key of the same table."""

    path: str


class Only(NamedTuple):
    """The values of a key that are computed here, and the purposes for which other values are refused."""

    values: tuple[Any, ...]
    purposes: tuple[Purpose, ...] = _PURPOSES


HONORED: Literal["honored"] = "honored"
NO_EFFECT: Literal["no effect"] = "no effect"
Rule = Literal["honored", "no effect"] | Only
KeyTable = Mapping[str, Rule]


def check_keys(cfg: Any, table: KeyTable, where: str, purpose: Purpose, unused: tuple[str, ...] = ()) -> None:
    """Refuse a configuration with a key that is not in the table, or a value that is not computed here.

    Args:
        cfg: one section of a file, as plain data.
        table: the rules of its keys.
        where: what to call the section in messages: "a.pt: cfg.model".
        purpose: what the file is opened for.
        unused: sections of ``cfg`` that this file does not use: their keys must be known, their values play no part.

    Raises:
        ValueError: naming the unknown key, or every key whose value is not computed.
    """
    refused: list[str] = []
    purposes: set[Purpose] = set()
    for path, value in _leaves(cfg, table, where):
        rule = table[path]
        if not isinstance(rule, Only) or purpose not in rule.purposes or path.startswith(tuple(f"{x}." for x in unused)):
            continue
        allowed = [section(cfg, *each.path.split(".")) if isinstance(each, Same) else each for each in rule.values]
        value = _resolved(value, cfg)
        if not isinstance(value, _PLAIN) or value not in allowed:
            refused.append(f"{path} is {shown(value)}, only {' or '.join(map(shown, allowed))} is computed here")
            purposes.update(rule.purposes)
    if refused:
        others = [each for each in _PURPOSES if each not in purposes]
        hint = f" for {purpose} (it can be opened for {' and '.join(others)})" if others else ""
        raise ValueError(f"{where}.{'; '.join(refused)}{hint}")


def _leaves(cfg: Any, table: KeyTable, where: str, start: str = "") -> Iterator[tuple[str, Any]]:
    """The keys of a section and of the sections in it, with their values."""
    for key, value in cfg.items() if isinstance(cfg, Mapping) else ():
        path = f"{start}{key}"
        nested = any(known.startswith(f"{path}.") for known in table)
        if path in table:
            yield path, value
        elif nested and isinstance(value, Mapping):
            yield from _leaves(value, table, where, f"{path}.")
        elif key != "_name" and not (nested and value is None):  # fairseq writes _name into any section
            close = difflib.get_close_matches(path[:200], table, 1)
            hint = f", did you mean {close[0]}?" if close else ""
            raise ValueError(f"{where}.{printable(path[:200])} is no configuration key of the public code{hint}")


def _resolved(value: Any, cfg: Any) -> Any:
    """A reference to another key of the model, as OmegaConf writes it, or the value as it is."""
    match = re.fullmatch(r"\$\{model\.(\w{1,100})\}", value) if isinstance(value, str) else None
    return section(cfg, match[1]) if match else value
