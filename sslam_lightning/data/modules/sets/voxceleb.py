"""VoxCeleb1 (Nagrani et al., Interspeech 2017): who speaks, of 1251 speakers; the identification task."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sslam_lightning.data.manifests.check_layout import expect_file, expect_files_of, expect_one_of, read_lines
from sslam_lightning.data.manifests.segments import Segment
from sslam_lightning.data.modules.base import Split
from sslam_lightning.data.modules.labeled import LabeledClip, LabeledDataModule

_FORM = "VoxCeleb1 is wav/SPEAKER/VIDEO/NUMBER.wav (or dev/wav/ and test/wav/) and the official iden_split.txt"
_HOMES = ("wav", "dev/wav", "test/wav")
_SPLIT_OF: dict[str, Split] = {"1": "train", "2": "val", "3": "test"}


class VoxCeleb1DataModule(LabeledDataModule):
    """VoxCeleb1 with the official split of its identification task, in which every speaker is in all three parts.

    Args:
        root: folder that holds ``wav/`` (or ``dev/wav/`` and ``test/wav/``, as the two archives unpack) and the split.
        split_file: the split, ``1 id10003/video/00001.wav`` a line; None: ``iden_split.txt`` in the root.
        options: settings of `AudioDataModule`. Recordings last 4 to 145 s: ``max_clip_seconds`` keeps their beginning.

    Raises:
        FileNotFoundError: a folder, the split or a file of the split is missing.
        ValueError: a line of another form.
    """

    def __init__(self, root: str | Path, split_file: str | Path | None = None, **options: Any) -> None:
        root = Path(root)
        source = expect_file(root / "iden_split.txt" if split_file is None else Path(split_file), _FORM)
        first_home = expect_one_of([root / home for home in _HOMES], _FORM)
        # Each speaker is in one of the two archives.
        homes = [root / home for home in _HOMES if (root / home).is_dir()]
        home_of = {folder.name: home for home in homes for folder in home.iterdir()}
        self._rows: dict[Split, list[LabeledClip]] = {"train": [], "val": [], "test": []}
        for number, line in enumerate(read_lines(source), start=1):
            part, _, name = line.partition(" ")
            if part not in _SPLIT_OF or name.count("/") != 2:
                raise ValueError(f"{source}, line {number}: expected 1, 2 or 3 and SPEAKER/VIDEO/NUMBER.wav, got {line!r}")
            speaker = name.partition("/")[0]
            path = (home_of.get(speaker, first_home) / name).relative_to(root)
            self._rows[_SPLIT_OF[part]].append(LabeledClip(Segment(path.as_posix()), [speaker]))
        rows = [row for rows in self._rows.values() for row in rows]
        expect_files_of(source, root, [row.clip.name for row in rows])
        super().__init__(root, sorted({row.labels[0] for row in rows}), multi_label=False, **options)

    def labeled(self, split: Split) -> list[LabeledClip]:
        return self._rows[split]
