"""Ends a run of several processes when one of them has died, failed or stands still, and says which."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import lightning.pytorch as pl
from torch import distributed

PHASES = ("data", "forward", "backward", "update")
_DONE, _FAILED = "done", "failed"
_GRACE_SECONDS = 5.0  # in which the others may read a verdict, and a run may end by itself


class Sign(NamedTuple):
    """What a process tells of itself: counts of signs, finished batches and begun collectives, and what it does."""

    beat: int = -1
    batches: int = 0
    collectives: int = 0
    phase: str = PHASES[0]  # or that it is done, or why it failed

    @classmethod
    def read(cls, text: str) -> Sign:
        """The inverse of ``str``."""
        beat, batches, collectives, phase = text.split(" ", 3)
        return cls(int(beat), int(batches), int(collectives), phase)

    def __str__(self) -> str:
        return f"{self.beat} {self.batches} {self.collectives} {self.phase}"

    @property
    def failure(self) -> str:
        """Why the process failed; empty if it did not."""
        return self.phase.removeprefix(_FAILED).strip() if self.phase.startswith(_FAILED) else ""

    @property
    def place(self) -> tuple[int, int, int]:
        """How far the process is: the others wait for the one that is the furthest behind."""
        return self.batches, self.collectives, PHASES.index(self.phase)


class Judge:
    """Decides from the signs of all ranks, by a clock of its own: those of several machines differ."""

    def __init__(self, ranks: int, dead_after_seconds: float, hung_after_seconds: float, now: float) -> None:
        self.dead_after_seconds, self.hung_after_seconds = dead_after_seconds, hung_after_seconds
        self._last = [Sign()] * ranks
        self._heard = [now] * ranks
        self._moved = [now] * ranks

    def verdict(self, signs: Sequence[Sign], now: float) -> str | None:
        """What is wrong in one line; None if nothing is, as far as one can tell."""
        for rank, (sign, last) in enumerate(zip(signs, self._last, strict=True)):
            if sign.beat != last.beat:
                self._heard[rank] = now
            if sign[1:] != last[1:]:
                self._moved[rank] = now
        self._last = list(signs)
        running = [rank for rank, sign in enumerate(signs) if sign.phase != _DONE]
        for rank in running:
            sign = signs[rank]
            if sign.failure:
                return f"rank {rank} failed: {sign.failure}"
            if now - self._heard[rank] > self.dead_after_seconds:
                return (
                    f"rank {rank} has given no sign of life for {now - self._heard[rank]:.0f} s: it was last in batch "
                    f"{sign.batches + 1} ({sign.phase})"
                )
        if not running or now - max(self._moved[rank] for rank in running) <= self.hung_after_seconds:
            return None
        furthest_back = min(signs[rank].place for rank in running)
        behind = [rank for rank in running if signs[rank].place == furthest_back]
        where = f"batch {furthest_back[0] + 1} ({PHASES[furthest_back[2]]})"
        who = f"rank {behind[0]} stands" if len(behind) == 1 else f"ranks {', '.join(map(str, behind))} stand"
        others = "" if len(behind) == len(running) else ", and the others wait"
        return f"nothing has moved for {self.hung_after_seconds:.0f} s: {who} still in {where}{others}"


class PeerWatch(pl.Callback):
    """A thread of every process tells the others that it lives and how far it is; rank 0 judges, and all end together.

    It needs no collective operation, so it works where one hangs, with nccl and gloo alike. Killed processes and broken
    connections end the others with exit code 1. Validation and the writing of checkpoints count as standing still while
    they move nothing, so leave time for them.

    Args:
        hung_after_seconds: how long no process may finish a part of a step.
        dead_after_seconds: how long a process may give no sign of life.
        beat_seconds: time between two signs.
    """

    def __init__(
        self, hung_after_seconds: float = 900.0, dead_after_seconds: float = 45.0, beat_seconds: float = 2.0
    ) -> None:
        if not 0 < beat_seconds < dead_after_seconds <= hung_after_seconds:
            raise ValueError(
                "expected 0 < beat_seconds < dead_after_seconds <= hung_after_seconds, "
                f"got {beat_seconds:g}, {dead_after_seconds:g} and {hung_after_seconds:g}"
            )
        self.hung_after_seconds, self.dead_after_seconds = hung_after_seconds, dead_after_seconds
        self.beat_seconds = beat_seconds
        self._sign = Sign()
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin to watch where there are others."""
        if trainer.world_size == 1 or not distributed.is_initialized():
            return
        self._over.clear()
        self._sign = Sign()
        # A connection of its own: the main thread may be waiting in the other one.
        store = distributed.distributed_c10d._get_default_store().clone()
        arguments = (store, trainer.global_rank, trainer.world_size)
        self._thread = threading.Thread(target=self._watch, args=arguments, daemon=True, name="peer watch")
        self._thread.start()

    def on_train_batch_start(self, *_: Any) -> None:
        """The batch is here."""
        self._move("forward")

    def on_before_backward(self, *_: Any) -> None:
        """The loss is there."""
        self._move("backward")

    def on_before_optimizer_step(self, *_: Any) -> None:
        """The gradients of all ranks are there."""
        self._move("update")

    def on_train_batch_end(self, *_: Any) -> None:
        """Next."""
        self._sign = self._sign._replace(batches=self._sign.batches + 1, phase="data")

    on_validation_batch_end = on_train_batch_end  # type: ignore[assignment]

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """The others may go on without this process."""
        self._stop(_DONE)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """The others need not wait for what will not come."""
        self._stop(f"{_FAILED} {' '.join(str(exception).split()) or type(exception).__name__}"[:500])

    def _move(self, phase: str) -> None:
        self._sign = self._sign._replace(phase=phase)

    def _stop(self, phase: str) -> None:
        if self._thread is not None:
            self._move(phase)
            self._over.set()
            self._thread.join(max(_GRACE_SECONDS, 2 * self.beat_seconds))
            self._thread = None

    def _watch(self, store: Any, rank: int, ranks: int) -> None:
        judge = Judge(ranks, self.dead_after_seconds, self.hung_after_seconds, time.monotonic())
        last_word = False
        while not last_word:
            last_word = self._over.wait(self.beat_seconds)
            begun = distributed.group.WORLD._get_sequence_number_for_group()  # type: ignore[union-attr]
            self._sign = self._sign._replace(beat=self._sign.beat + 1, collectives=begun)
            try:
                store.set(f"peer watch {rank}", str(self._sign))
                watched = range(ranks) if rank == 0 or last_word else ()  # rank 0 judges; few messages, however many ranks
                signs = [_read(store, f"peer watch {other}") for other in watched]
                told = store.get("peer watch verdict").decode() if store.check(["peer watch verdict"]) else None
            except RuntimeError:  # the store lives in rank 0
                if not self._over.wait(_GRACE_SECONDS):
                    _leave("rank 0 is gone", rank)
                return
            if last_word:
                for other, sign in enumerate(signs):
                    if self._sign.failure and sign.failure and other != rank:  # theirs may be the cause of this one's
                        _tell(f"rank {rank} ends; rank {other} failed: {sign.failure}")
                return
            if told is None and rank == 0 and (verdict := judge.verdict(signs, time.monotonic())):
                store.set("peer watch verdict", verdict)
                self._over.wait(min(_GRACE_SECONDS, 2 * self.beat_seconds))
                told = verdict
            if told is not None:
                _leave(told, rank)


def _read(store: Any, key: str) -> Sign:
    return Sign.read(store.get(key).decode()) if store.check([key]) else Sign()


def _tell(line: str) -> None:
    print(f"sslam: {line}", file=sys.stderr, flush=True)


def _leave(reason: str, rank: int) -> None:
    """End the process from a thread, though the main one waits in a call that no signal reaches."""
    _tell(f"error: rank {rank} ends: {reason}")
    os._exit(1)
