"""Rows on disk while a run is under way, and the files that they become."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sslam_lightning.inference import tables
from sslam_lightning.inference.row_store import RowStore
from sslam_lightning.inference.tables import Embeddings, write_table


def rows(value: float, count: int = 1) -> np.ndarray:
    return np.full((count, 4), value, np.float32)


def stored(store: RowStore) -> list[float]:
    return np.fromfile(store.path, np.float32).reshape(-1, *store.row_shape)[:, 0].tolist()


def embeddings(folder: Path, values: np.ndarray, num_rows: list[int]) -> Embeddings:
    values.tofile(folder / "rows.f4")
    names = [f"{number}.wav" for number in range(len(num_rows))]
    return Embeddings("clip", names, np.ones(len(names)), np.array(num_rows), [4], folder / "rows.f4", None, {})


def add(store: RowStore, value: float, *counts: int) -> None:
    for count in counts:
        store.append(rows(value, count))
    store.finish(1.0)


def test_rows_of_an_unfinished_recording_do_not_count(tmp_path: Path, monkeypatch) -> None:
    """Interrupted when the rows are on disk, but nothing says that the recording is finished."""

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    with closing(RowStore(tmp_path / "x.npz", {})) as begun:
        add(begun, 0, 1, 2)
        with monkeypatch.context() as patch:
            patch.setattr(begun._progress, "append", interrupt)
            with pytest.raises(KeyboardInterrupt):
                add(begun, 7, 2)
    with closing(RowStore(tmp_path / "x.npz", {})) as resumed:
        assert resumed.num_finished == 1
        for value in range(1, 4):
            add(resumed, value, 1)
        assert stored(resumed) == [0, 0, 0, 1, 2, 3]


def test_rows_of_a_recording_that_breaks_off_are_forgotten(tmp_path: Path) -> None:
    with closing(RowStore(tmp_path / "x.npz", {})) as store:
        add(store, 0, 1)
        store.append(rows(7, 3))
        store.drop("no sound")
        add(store, 1, 2)
        assert stored(store) == [0, 1, 1]
        assert [(done.num_rows, done.reason) for done in store.finished()] == [(1, ""), (0, "no sound"), (2, "")]


def test_rows_that_are_missing_are_not_made_up(tmp_path: Path) -> None:
    """As after a power cut, when the disk has the progress and not the rows."""
    with closing(RowStore(tmp_path / "x.npz", {})) as store:
        add(store, 0, 2)
    (tmp_path / "x.npz.parts/rows.f4").write_bytes(b"")
    with pytest.raises(ValueError, match=r"rows\.f4 is shorter than .*progress\.jsonl says: remove .*x\.npz\.parts"):
        RowStore(tmp_path / "x.npz", {})


def test_files_are_written_block_by_block_and_rows_larger_than_a_block_one_by_one(tmp_path: Path, monkeypatch) -> None:
    values = rows(0, 7) + np.arange(7, dtype=np.float32)[:, None]
    for size, lengths in ((3 * 16, [3, 3, 1]), (1, [1] * 7)):
        monkeypatch.setattr(tables, "_BLOCK_BYTES", size)
        blocks = list(embeddings(tmp_path, values, [1, 4, 2]).blocks())
        assert [len(block["embedding"]) for block in blocks] == lengths
        assert np.concatenate([block["embedding"] for block in blocks])[:, 0].tolist() == list(range(7))
        assert np.concatenate([block["file_index"] for block in blocks]).tolist() == [0, 1, 1, 1, 1, 2, 2]


def test_every_block_of_a_parquet_file_names_its_own_recordings_alone(tmp_path: Path, monkeypatch) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    monkeypatch.setattr(tables, "_BLOCK_BYTES", 3 * 16)
    write_table(embeddings(tmp_path, rows(0, 8), [1] * 8), tmp_path / "x.parquet")
    file = parquet.ParquetFile(tmp_path / "x.parquet", read_dictionary=["file"])
    names = [file.read_row_group(group)["file"].chunk(0).dictionary.to_pylist() for group in range(file.num_row_groups)]
    assert names == [["0.wav", "1.wav", "2.wav"], ["3.wav", "4.wav", "5.wav"], ["6.wav", "7.wav"]]
    assert file.read()["file"].to_pylist() == [f"{source}.wav" for source in range(8)]


def test_one_run_at_a_time_and_nothing_that_came_meanwhile_is_overwritten(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("sslam_lightning.runtime.lock._PATIENCE_SECONDS", 0.0)
    target = tmp_path / "x.npz"
    with closing(RowStore(target, {"level": "clip"})) as store:
        add(store, 0, 1)
        with pytest.raises(OSError, match=r"another run is working on .*x\.npz\.parts/progress\.jsonl: wait for it"):
            RowStore(target, {"level": "clip"})
        target.write_text("mine")
        with pytest.raises(FileExistsError, match=r"x\.npz exists already: move it"):
            write_table(embeddings(store.folder, rows(0), [1]), target)
    assert target.read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.npz", "x.npz.parts"]
    target.unlink()
    with closing(RowStore(target, {"level": "clip"})) as again:
        assert again.num_finished == 1
