from __future__ import annotations

import logging

import pytest
import torch

from sslam_lightning.data.broken import BrokenClips
from sslam_lightning.types import Batch


def batch(num_good: int, *broken: str) -> Batch:
    names = tuple(f"good{i}" for i in range(num_good))
    empty = torch.zeros(num_good, 1)
    return Batch(empty, empty[:, 0].long(), empty, empty[:, 0].long(), names, tuple((b, f"{b}: why") for b in broken))


def test_few_are_listed_once(caplog: pytest.LogCaptureFixture) -> None:
    account = BrokenClips(max_share=0.5)
    for _ in range(3):  # epochs
        account.record(batch(9, "a"))
    assert account.reasons == {"a": "a: why"}
    assert (account.num_met, account.num_broken) == (30, 3)
    with caplog.at_level(logging.WARNING):
        account.report()
        account.report()
    assert [record.getMessage() for record in caplog.records] == [
        "a: a: why",
        "1 clips could not be read and were left out together with their labels",
    ]


def test_many_stop_the_run_after_a_while() -> None:
    account = BrokenClips(max_share=0.2, judge_after=50)
    for i in range(4):
        account.record(batch(6, f"a{i}", f"b{i}", f"c{i}", f"d{i}"))
    with pytest.raises(ValueError, match=r"20 of 50 clips cannot be read, more than max_broken_share 0\.2 .* d4: why"):
        account.record(batch(6, "a4", "b4", "c4", "d4"))


def test_the_share_itself_is_allowed() -> None:
    account = BrokenClips(max_share=0.2, judge_after=5)
    account.record(batch(4, "a"))
    with pytest.raises(ValueError, match="max_broken_share must lie between 0 and 1, got 2"):
        BrokenClips(2.0)
