"""Which file belongs to which, in data sets that keep two kinds in folders of their own: audio/a/1.wav, events/a/1.txt."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterator, Sequence
from pathlib import PurePosixPath

_ANY = "*"  # stands for any folder


def companions(
    files: Sequence[str], others: Sequence[str], group_of: Callable[[PurePosixPath], Hashable | None]
) -> dict[str, str]:
    """The one of ``others`` that goes with each file: of the same name, in the nearest of these places.

    Beside it; in a parallel folder of the same group (the ways differ in one folder, or one has a folder more); anywhere
    in the group or outside all groups, if no other file has this name. Text files come before others.

    Args:
        files: paths relative to the data set's folder.
        others: likewise.
        group_of: the group that a folder belongs to, such as a split; None: to no group.

    Returns:
        Files without a companion are left out.

    Raises:
        ValueError: a file has two, or two files have the same.
    """
    beside, parallel, named = (defaultdict[Hashable, list[str]](list) for _ in range(3))
    bare = {PurePosixPath(file).with_suffix("") for file in files}
    for other in others:
        path = PurePosixPath(other).with_suffix("")
        if path in bare:
            beside[path].append(other)
            continue
        named[path.name].append(other)
        for way in _ways(path):
            parallel[group_of(path.parent), way].append(other)
    bearers = Counter(path.name for path in bare)
    found: dict[str, str] = {}
    owner: dict[str, PurePosixPath] = {}
    for file in files:
        path = PurePosixPath(file).with_suffix("")
        group = group_of(path.parent)
        near = beside.get(path) or [one for way in _ways(path) for one in parallel.get((group, way), ())]
        if not near and bearers[path.name] == 1:
            near = [one for one in named.get(path.name, ()) if group_of(PurePosixPath(one).parent) in (None, group)]
        texts = sorted({one for one in near if one.lower().endswith(".txt")} or set(near))
        if len(texts) > 1:
            raise ValueError(f"{file}: {texts[0]} or {texts[1]} may go with it")
        if not texts:
            continue
        found[file] = texts[0]
        if owner.setdefault(texts[0], path) != path:
            raise ValueError(f"{texts[0]}: {file} or a file called {owner[texts[0]]} may go with it")
    return found


def _ways(path: PurePosixPath) -> Iterator[tuple[str, ...]]:
    """The way to a file with any folder in the place of one, for each of them, and with any folder more."""
    folders, name = path.parent.parts, path.name
    for place in range(len(folders)):
        yield *folders[:place], _ANY, *folders[place + 1 :], name
    for place in range(len(folders) + 1):
        yield *folders[:place], _ANY, *folders[place:], name
