"""The JSON of AST (Gong et al., Interspeech 2021), SSAST and AudioMAE.

``{"data": [{"wav": "/path/a.flac", "labels": "/m/068hy,/m/07q6cd_"}, ...]}``. Their table of classes,
``index,mid,display_name``, is read by `sslam_lightning.data.manifests.class_map` as it is.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from sslam_lightning.data.manifests.check_layout import expect_file
from sslam_lightning.data.manifests.recordings import Recordings


def read_ast(path: str | Path, root: str | None = None) -> Recordings:
    """Read a JSON of AST's form; ValueError, with the entry, for another one.

    Relative paths in it start at ``root``, by default at its own folder.
    """
    path = expect_file(Path(path))
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))["data"]
        rows = [_row(path, number, entry) for number, entry in enumerate(entries)]
    except (json.JSONDecodeError, KeyError, TypeError, UnicodeDecodeError) as error:
        raise ValueError(f'{path}: expected {{"data": [{{"wav": ..., "labels": ...}}, ...]}} ({error})') from error
    if not rows:
        raise ValueError(f"{path}: no recordings in it")
    if root is not None and all(os.path.isabs(wav) for wav, _ in rows):
        raise ValueError(f"{path}: all its paths are absolute: leave root out, got {root}")
    return Recordings.of_words(root or str(path.parent), [wav for wav, _ in rows], [words for _, words in rows])


def _row(path: Path, number: int, entry: Any) -> tuple[str, list[str]]:
    wav, labels = entry["wav"], entry.get("labels", "")
    words = labels.split(",") if isinstance(labels, str) else labels
    if not isinstance(wav, str) or not all(isinstance(word, str) for word in words):
        raise ValueError(f"{path}: entry {number}: wav and labels must be text, got {entry}")
    return wav, [word.strip() for word in words]
