"""Results of a long piece of work, kept one a line, so that work which was killed goes on where it was."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from typing import Any

from sslam_lightning.data.loading.parallel import ordered_map, progress
from sslam_lightning.runtime.lock import append_whole, held_file


class Journal:
    """A file of JSON values in the order of the chunks; a last line that was cut off is taken away.

    FileExistsError if a journal that was begun depends on other ``settings``, OSError if another run is writing it.
    """

    def __init__(self, path: str, settings: dict[str, Any]) -> None:
        self.path = path
        self.num_done = 0  # results that are there already
        os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
        self._file = held_file(path)
        try:
            self._resume(json.loads(json.dumps(settings)))
        except BaseException:
            self.close()
            raise

    def _resume(self, settings: dict[str, Any]) -> None:
        with open(self.path, "rb") as file:
            first = file.readline()
            if not first:
                self.append(settings)
                return
            if first != _line(settings):
                raise FileExistsError(
                    f"{self.path} is of other files or settings{_differing(first, settings)}: give the same, or delete it "
                    "to start over"
                )
            end = file.tell()
            for line in file:
                if not line.endswith(b"\n"):
                    break
                end, self.num_done = end + len(line), self.num_done + 1
        self._file.truncate(end)

    def run(
        self,
        function: Callable[[int], Any],
        num_rows: int,
        workers: int,
        what: str,
        chunk_rows: int = 1,
        crashed: Callable[[int], Any] | None = None,
    ) -> None:
        """Do what is left of the work, with a progress bar.

        Args:
            function: called with the first row of every chunk; handed to every process once.
            num_rows: of all chunks together.
            workers: processes.
            what: goes before the progress bar.
            chunk_rows: rows that make one result.
            crashed: makes the result of a chunk that ends its process; None: that is an error.
        """
        first_rows = range(self.num_done * chunk_rows, num_rows, chunk_rows)
        with progress(num_rows, what, done=min(first_rows.start, num_rows)) as bar:
            results = ordered_map(_call, function, first_rows, workers, crashed)
            for first, result in zip(first_rows, results, strict=True):
                self.append(result)
                bar.update(min(chunk_rows, num_rows - first))

    def append(self, result: Any) -> None:
        """Add the next result; it survives the end of this process."""
        append_whole(self._file, _line(result), self.path)

    def results(self) -> Iterator[Any]:
        """All results, from the first."""
        with open(self.path, "rb") as file:
            file.readline()
            yield from map(json.loads, file)

    def close(self) -> None:
        """Keep it, for another run to go on with."""
        self._file.close()

    def remove(self) -> None:
        """The work is done."""
        os.unlink(self.path)
        self.close()


def _call(function: Callable[[int], Any], first: int) -> Any:
    return function(first)


def _line(value: Any) -> bytes:
    return json.dumps(value).encode("ascii") + b"\n"


def _differing(first: bytes, settings: dict[str, Any]) -> str:
    try:
        before = json.loads(first)
        return f" ({', '.join(name for name in settings if before.get(name) != settings[name])})"
    except (ValueError, AttributeError, RecursionError):
        return ""
