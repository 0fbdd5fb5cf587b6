"""Rename tables that read in both directions."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from torch import Tensor

from sslam_lightning.checkpoints.weights import State


class Rule(NamedTuple):
    """Their name, our part and our name in it. ``#`` is a number and ``*`` a rest, in the same order in both names."""

    theirs: str
    part: str
    ours: str


def import_keys(
    state: Mapping[str, Tensor], rules: Sequence[Rule], prefix: str = ""
) -> tuple[dict[str, State], tuple[str, ...]]:
    """Sort a state with their names into our parts; also the keys that no rule knows. ``prefix`` may be before a name."""
    parts: dict[str, State] = defaultdict(dict)
    unknown = []
    for key, value in state.items():
        for rule in rules:
            name = _translate(key.removeprefix(prefix), rule.theirs, rule.ours)
            if name and name not in parts[rule.part]:  # with and without the prefix, a file may say it twice
                parts[rule.part][name] = value
                break
        else:
            unknown.append(key)
    return parts, tuple(unknown)


def export_keys(state: State, part: str, rules: Sequence[Rule], prefix: str = "") -> State:
    """One of our parts under their names, ``prefix`` before each. A name without a rule is our mistake."""
    theirs = {}
    for key, value in state.items():
        names = (_translate(key, rule.ours, rule.theirs) for rule in rules if rule.part == part)
        theirs[prefix + next(name for name in names if name)] = value
    return theirs


def _translate(name: str, pattern: str, target: str) -> str | None:
    found = re.fullmatch(re.escape(pattern).replace(r"\#", r"(\d+)").replace(r"\*", "(.+)"), name)
    values = iter(found.groups()) if found else None
    return re.sub(r"[#*]", lambda _: next(values), target) if values else None
