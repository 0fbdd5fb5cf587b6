from __future__ import annotations

import json
import logging

import pytest
import torch

from sslam_lightning.data.loading.unreadable import UnreadableClips
from sslam_lightning.types import Batch


def batch(num_good: int, *broken: str) -> Batch:
    names = tuple(f"good{i}" for i in range(num_good))
    empty = torch.zeros(num_good, 1)
    return Batch(empty, (), empty, empty[:, 0].long(), names, tuple((b, f"{b}: why") for b in broken))


def test_few_are_listed_once(caplog: pytest.LogCaptureFixture) -> None:
    account = UnreadableClips(max_share=0.5)
    for epoch in range(3):
        account.start_epoch(epoch)
        account.record(batch(9, "a"), training=True)
        account.record(batch(1, "a"))  # validation
        account.judge()
    assert account.reasons == {"a": "a: why"}
    assert account.counts == (36, 6, 1)
    account.start_epoch(2)  # again, in a resumed run
    assert account.counts.broken_in_epoch == 1
    with caplog.at_level(logging.WARNING):
        account.report()
        account.report()
    assert [record.getMessage() for record in caplog.records] == [
        "a: a: why",
        "1 clips could not be used and were left out together with their labels",
    ]


def test_many_stop_the_run_after_a_while() -> None:
    account = UnreadableClips(max_share=0.2, judge_after=50)
    for i in range(4):
        account.record(batch(6, f"a{i}", f"b{i}", f"c{i}", f"d{i}"))
        account.judge()
    account.record(batch(6, "a4", "b4", "c4", "d4"))
    with pytest.raises(
        ValueError, match=r"20 of 50 clips cannot be used, more than max_unreadable_fraction 0\.2 .* d4: why"
    ):
        account.judge()


def test_the_share_itself_is_allowed() -> None:
    account = UnreadableClips(max_share=0.2, judge_after=5)
    account.record(batch(4, "a"))
    account.judge()
    with pytest.raises(ValueError, match="max_unreadable_fraction must lie between 0 and 1, got 2"):
        UnreadableClips(2.0)


def test_the_accounts_of_ranks_add_up() -> None:
    ranks = [UnreadableClips(0.5), UnreadableClips(0.5)]
    ranks[0].record(batch(3, "a", "b"), training=True)
    ranks[1].record(batch(4, "b"), training=True)
    total = ranks[0].like()
    for rank in ranks:
        total.add(json.loads(json.dumps(rank.state_dict())))  # plain data
    assert total.counts == (10, 3, 3)
    assert list(total.reasons) == ["a", "b"]
