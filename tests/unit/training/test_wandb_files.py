"""The reader of W&B's logs, on logs written here by the format's rules; real ones are read in the integration tests."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

from wandb.proto.wandb_internal_pb2 import Record

from sslam_lightning.training.run.wandb_files import logged_values, read_history

BLOCK = 32 * 1024


def row(values: dict[str, Any]) -> bytes:
    record = Record()
    for name, value in values.items():
        item = record.history.item.add(value_json=json.dumps(value))
        item.nested_key.extend(name.split("|"))
    return record.SerializeToString()


def log(records: list[bytes]) -> bytes:
    """LevelDB's format: records in pieces that do not cross blocks, padding where no piece's head fits."""
    content = b":W&B\xe1\xbe\x00"
    for record in records:
        first = True
        while first or record:
            left = BLOCK - len(content) % BLOCK
            if left < 7:
                content += bytes(left)
                left = BLOCK
            piece, record = record[: left - 7], record[left - 7 :]
            kind = {(True, True): 1, (True, False): 2, (False, False): 3, (False, True): 4}[first, not record]
            content += struct.pack("<IHB", 0, len(piece), kind) + piece
            first = False
    return content


def write(folder: Path, run: str, records: list[bytes]) -> Path:
    path = folder / "wandb" / f"offline-run-{run}-id7" / "run-id7.wandb"
    path.parent.mkdir(parents=True)
    path.write_bytes(log(records))
    return path


def test_rows_across_blocks_and_padding(tmp_path) -> None:
    sizes = [10, 32_600, 3, 100_000, 5, 32_000, 40]
    rows = [{"trainer/global_step": n, "text": "x" * size} for n, size in enumerate(sizes)]
    path = write(tmp_path, "1", [row(values) for values in rows])
    assert path.stat().st_size > 5 * BLOCK
    assert list(read_history(path)) == rows


def test_padding_of_every_length(tmp_path) -> None:
    for number, missing in enumerate(range(1, 12)):
        size = BLOCK - 7 - 7 - len(row({"t": ""})) - 2 - missing  # lengths above 127 take two bytes more
        rows = [{"t": "y" * size}, {"t": "z"}]
        assert list(read_history(write(tmp_path, f"{number:02}", [row(values) for values in rows]))) == rows


def test_a_log_broken_off_anywhere_gives_the_rows_before(tmp_path) -> None:
    rows = [{"trainer/global_step": n, "loss": 1.5} for n in range(4)]
    path = write(tmp_path, "1", [row(values) for values in rows])
    content, seen = path.read_bytes(), set()
    for length in range(7, len(content) + 1):
        path.write_bytes(content[:length])
        found = list(read_history(path))
        assert found == rows[: len(found)]
        seen.add(len(found))
    assert seen == {0, 1, 2, 3, 4}


def test_values_of_all_processes_of_a_run(tmp_path) -> None:
    picture = {"trainer/global_step": 3, "pictures/predictions|path": "a.png", "pictures/predictions|width": 8}
    write(tmp_path, "1", [row({"trainer/global_step": 0, "loss": 1.0}), row(picture)])
    write(tmp_path, "2", [row({"trainer/global_step": 1, "loss": 1.0, "rate": 2.0}), row({"_runtime": 3})])
    assert logged_values(tmp_path, "id7") == {(0, "loss"), (1, "loss"), (1, "rate"), (3, "pictures/predictions")}
    assert logged_values(tmp_path, "id8") == set()
