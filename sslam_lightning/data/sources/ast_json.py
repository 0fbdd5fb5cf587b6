"""The JSON of AST (Gong et al., Interspeech 2021), SSAST and AudioMAE.

``{"data": [{"wav": "/path/a.flac", "labels": "/m/068hy,/m/07q6cd_"}, ...]}``. Their table of classes,
``index,mid,display_name``, is read by `sslam_lightning.data.descriptors` as it is.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from sslam_lightning.data.descriptors import table_of_words
from sslam_lightning.data.layout import expect_file
from sslam_lightning.data.recordings import Recordings, make_recordings


def read_ast(path: str | Path, root: str | None = None) -> Recordings:
    """Read a JSON of AST's form.

    Args:
        path: the JSON.
        root: folder that relative paths in it start at; None: its own.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not JSON of this form, with the entry.
    """
    path = expect_file(Path(path))
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))["data"]
        pairs = [_pair(path, number, entry) for number, entry in enumerate(entries)]
    except (json.JSONDecodeError, KeyError, TypeError, UnicodeDecodeError) as error:
        raise ValueError(f'{path}: expected {{"data": [{{"wav": ..., "labels": ...}}, ...]}} ({error})') from error
    if not pairs:
        raise ValueError(f"{path}: no recordings in it")
    if root is not None and all(os.path.isabs(wav) for wav, _ in pairs):
        raise ValueError(f"{path}: all its paths are absolute: leave root out, got {root}")
    table = table_of_words(word for _, words in pairs for word in words)
    classes = [sorted({table.class_of[word] for word in words}) for _, words in pairs]
    return make_recordings(root or str(path.parent), (wav for wav, _ in pairs), classes, table.names)


def _pair(path: Path, number: int, entry: Any) -> tuple[str, list[str]]:
    wav, labels = entry["wav"], entry.get("labels", "")
    words = labels.split(",") if isinstance(labels, str) else labels
    if not isinstance(wav, str) or not all(isinstance(word, str) for word in words):
        raise ValueError(f"{path}: entry {number}: wav and labels must be text, got {entry}")
    return wav, [word.strip() for word in words if word.strip()]
