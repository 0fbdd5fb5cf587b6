"""SPASS (Viveros-Muñoz et al., 2023): simulated soundscapes of five places in a city, several sources at a time."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any, Literal, get_args

from sslam_lightning.data.manifests.check_layout import expect_file, expect_files_of, expect_one_of
from sslam_lightning.data.manifests.segments import Segment
from sslam_lightning.data.manifests.tables import read_columns
from sslam_lightning.data.modules.base import Split
from sslam_lightning.data.modules.labeled import LabeledClip, LabeledDataModule

Scene = Literal["market", "park", "square", "street", "waterfront"]
SCENES: tuple[Scene, ...] = get_args(Scene)

_TRAIN_SHARE = 0.75


class SPASSDataModule(LabeledDataModule):
    """One scene of SPASS as clips with several labels, split as SSLAM evaluates it.

    It reads ``N_MatrixLabelsSCENE.csv`` (a row a source, with the columns ``audio_filename`` and ``class``), in the root or
    in ``SPASS_META_DATA/``, and the folder ``SCENE audio files`` (or with underscores). In the order of their names the
    first 75 % of the recordings are for training, the rest for validation and test, as in the lists that SSLAM published.

    Args:
        root: folder of the data set.
        scene: market, park, square, street or waterfront.
        options: settings of `AudioDataModule`.

    Raises:
        FileNotFoundError: the table, the folder or a recording is missing.
        ValueError: an unknown scene, or a table of another form.
    """

    def __init__(self, root: str | Path, scene: Scene = "square", **options: Any) -> None:
        if scene not in SCENES:
            raise ValueError(f"scene must be one of {', '.join(SCENES)}, got {scene!r}")
        root = Path(root)
        table_name, title = f"{SCENES.index(scene) + 1}_MatrixLabels{scene.title()}.csv", scene.title()
        form = f"a scene of SPASS is {table_name} (also in SPASS_META_DATA/) and the folder '{title} audio files'"
        inner = root / "SPASS_META_DATA" / table_name
        table = inner if inner.is_file() else expect_file(root / table_name, form)
        audio = expect_one_of([root / f"{title} audio files", root / f"{title}_audio_files"], form)
        self._classes: dict[str, set[str]] = defaultdict(set)
        for line, (name, label) in read_columns(table, [["audio_filename"], ["class"]]):
            if not name or not label:
                raise ValueError(f"{table}, line {line}: audio_filename and class must not be empty")
            self._classes[name].add(label)
        expect_files_of(table, audio, list(self._classes))
        super().__init__(audio, sorted(set().union(*self._classes.values())), multi_label=True, **options)

    def labeled(self, split: Split) -> list[LabeledClip]:
        names = sorted(self._classes)
        border = int(len(names) * _TRAIN_SHARE)
        names = names[:border] if split == "train" else names[border:]
        return [LabeledClip(Segment(name), sorted(self._classes[name])) for name in names]
