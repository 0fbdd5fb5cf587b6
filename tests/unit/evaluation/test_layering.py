from __future__ import annotations

from sslam_lightning.evaluation.settings import deep_merge


def test_tables_are_merged_and_anything_else_is_replaced():
    under = {"encoder": {"dim": 32, "front_end": {"kind": "bat", "depth": 2}}, "list": [1, 2], "table": {"a": 1}}
    over = {"encoder": {"front_end": {"depth": 3}}, "list": [3], "table": None, "new": {"b": 2}}
    assert deep_merge(under, over) == {
        "encoder": {"dim": 32, "front_end": {"kind": "bat", "depth": 3}},
        "list": [3],
        "table": None,
        "new": {"b": 2},
    }
    assert under["encoder"] == {"dim": 32, "front_end": {"kind": "bat", "depth": 2}}
