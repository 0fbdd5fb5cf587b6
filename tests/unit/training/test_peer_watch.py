"""Who is to blame, from what the processes tell of themselves; real processes are in the integration tests."""

from __future__ import annotations

import pytest

from sslam_lightning.training.callbacks import PeerWatch
from sslam_lightning.training.callbacks.peer_watch import Judge, Sign


def judge(*moments: tuple[float, list[Sign]]) -> list[str | None]:
    """Verdicts of a judge with limits of 5 and 10 seconds who looks at these moments."""
    judge = Judge(len(moments[0][1]), 5.0, 10.0, 0.0)
    return [judge.verdict(signs, now) for now, signs in moments]


def test_a_sign_survives_the_way() -> None:
    for sign in (Sign(), Sign(3, 7, 40, "backward"), Sign(1, 2, 3, "failed no such file: a b")):
        assert Sign.read(str(sign)) == sign
    assert Sign(1, 2, 3, "failed no such file: a b").failure == "no such file: a b"
    assert Sign().failure == ""


def test_who_lives_and_moves_is_left_alone() -> None:
    moments = [(float(now), [Sign(now, now, 0, "data"), Sign(now, now, 0, "forward")]) for now in range(0, 60, 4)]
    assert judge(*moments) == [None] * len(moments)
    waiting = [(float(now), [Sign(now, now, 0, "update"), Sign(now, 1, 0, "data")]) for now in range(0, 60, 4)]
    assert judge(*waiting) == [None] * len(waiting)  # somebody moves


def test_the_dead_are_named() -> None:
    signs = [(float(now), [Sign(now, now, 0, "data"), Sign(0, 2, 0, "backward")]) for now in (0, 4, 5, 6)]
    told = "rank 1 has given no sign of life for 6 s: it was last in batch 3 (backward)"
    assert judge(*signs) == [None, None, None, told]


@pytest.mark.parametrize(
    ("places", "told"),
    [
        ([(3, 9, "forward"), (3, 8, "forward")], "rank 1 stands still in batch 4 (forward), and the others wait"),
        ([(3, 9, "backward"), (2, 9, "data"), (3, 9, "backward")], "rank 1 stands still in batch 3 (data), and the others"),
        ([(3, 9, "data"), (3, 9, "data"), (3, 9, "forward")], "ranks 0, 1 stand still in batch 4 (data), and the others"),
        ([(3, 9, "update"), (3, 9, "update")], "ranks 0, 1 stand still in batch 4 (update)"),
        ([(3, 9, "update"), (5, 9, "done")], "rank 0 stands still in batch 4 (update)"),
    ],
)
def test_who_the_others_wait_for_is_named(places: list[tuple[int, int, str]], told: str) -> None:
    moments = [(float(now), [Sign(now, *place) for place in places]) for now in (0, 4, 8, 10, 12)]
    verdicts = judge(*moments)
    assert verdicts[:-1] == [None] * 4
    assert verdicts[-1] is not None
    assert verdicts[-1].startswith(f"nothing has moved for 10 s: {told}")
    if "others" not in told:
        assert verdicts[-1].endswith(told)


def test_failures_are_passed_on_and_who_is_done_is_not_missed() -> None:
    assert judge((0.0, [Sign(0, 3, 9, "data"), Sign(0, 3, 9, "failed no such file")])) == ["rank 1 failed: no such file"]
    done = Sign(0, 3, 9, "done")
    assert judge(*((float(now), [done, done]) for now in (0, 10, 100))) == [None] * 3


def test_limits_out_of_order() -> None:
    with pytest.raises(ValueError, match="dead_after_seconds <= hung_after_seconds, got 2, 1 and 9"):
        PeerWatch(9.0, 1.0, 2.0)
