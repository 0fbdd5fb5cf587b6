"""Rows on disk while a run goes on."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sslam_lightning.inference import parts
from sslam_lightning.inference.parts import Parts
from sslam_lightning.inference.tables import Embeddings, write_table


def row(value: float) -> np.ndarray:
    return np.full((1, 4), value, np.float32)


def write(folder: Path, names: list[str], target: Path) -> None:
    with closing(Parts(folder, {})) as run:
        write_table(Embeddings(run, names, "clip", None, {}), target)


def test_rows_whose_recording_an_interrupt_came_before_do_not_count(tmp_path: Path) -> None:
    class Interrupted(list[Any]):
        def append(self, _: Any) -> None:
            raise KeyboardInterrupt

    begun = Parts(tmp_path / "x.npz", {})
    begun.add(0, 0, row(0), 1.0)
    begun._stretches = Interrupted(begun._stretches)
    with pytest.raises(KeyboardInterrupt):
        begun.add(1, 0, row(1), 1.0)
    begun.flush()
    begun.close()
    again = Parts(tmp_path / "x.npz", {})
    assert again.num_finished == 1
    for source in range(1, 4):
        again.add(source, 0, row(source), 1.0)
    again.flush()
    again.close()
    write(tmp_path / "x.npz", ["a", "b", "c", "d"], tmp_path / "done.npz")
    with np.load(tmp_path / "done.npz") as found:
        assert found["embedding"][:, 0].tolist() == [0, 1, 2, 3]


def test_a_block_is_written_when_it_is_full_and_large_rows_have_one_of_their_own(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(parts, "_PART_BYTES", 3 * 16)  # three rows
    run = Parts(tmp_path / "x.npz", {})
    for source, count in enumerate([1, 1, 1, 2, 2, 7, 1]):
        run.add(source, 0, np.repeat(row(source), count, axis=0), 1.0)
    run.add_broken(7, "no sound")
    run.flush()
    sizes = [len(rows) for _, rows in run.blocks()]
    assert sizes == [3, 2, 2, 7, 1]
    values = np.concatenate([rows for _, rows in run.blocks()])[:, 0]
    assert values.tolist() == np.repeat(range(7), [1, 1, 1, 2, 2, 7, 1]).tolist()


def test_every_block_of_a_parquet_file_names_its_own_recordings_alone(tmp_path: Path, monkeypatch) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    monkeypatch.setattr(parts, "_PART_BYTES", 3 * 16)
    run = Parts(tmp_path / "x.npz", {})
    for source in range(8):
        run.add(source, 0, row(source), 1.0)
    run.flush()
    run.close()
    write(tmp_path / "x.npz", [f"{source}.wav" for source in range(8)], tmp_path / "x.parquet")
    file = parquet.ParquetFile(tmp_path / "x.parquet", read_dictionary=["file"])
    names = [file.read_row_group(group)["file"].chunk(0).dictionary.to_pylist() for group in range(file.num_row_groups)]
    assert names == [["0.wav", "1.wav", "2.wav"], ["3.wav", "4.wav", "5.wav"], ["6.wav", "7.wav"]]
    assert file.read()["file"].to_pylist() == [f"{source}.wav" for source in range(8)]


def test_one_run_at_a_time_and_nothing_that_came_meanwhile_is_overwritten(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("sslam_lightning.data.durable._PATIENCE_SECONDS", 0.0)
    target = tmp_path / "x.npz"
    with closing(Parts(target, {"level": "clip"})) as run:
        run.add(0, 0, row(0), 1.0)
        run.flush()
        with pytest.raises(OSError, match=r"another run is working on .*x\.npz\.parts/settings\.json: wait for it"):
            Parts(target, {"level": "clip"})
        target.write_text("mine")
        with pytest.raises(FileExistsError, match=r"x\.npz exists already: move it"):
            write_table(Embeddings(run, ["a"], "clip", None, {}), target)
    assert target.read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.npz", "x.npz.parts"]
    target.unlink()
    with closing(Parts(target, {"level": "clip"})) as again:
        assert again.num_finished == 1
