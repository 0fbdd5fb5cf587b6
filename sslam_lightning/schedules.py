"""Schedules are pure functions of the number of finished optimizer updates."""

from __future__ import annotations

import math


def linear_anneal(update: int, start: float, end: float, num_updates: int) -> float:
    """From ``start`` to ``end`` in a straight line over ``num_updates``, then constant (EMA decay: data2vec, section 4)."""
    if update >= num_updates:
        return end
    return end - (end - start) * (1 - update / num_updates)


def warmup_cosine(update: int, peak: float, floor: float, warmup_updates: int, max_updates: int) -> float:
    """Learning rate for the update that follows ``update`` finished ones.

    Linear from ``floor`` to ``peak`` over the warm-up, then half a cosine back to ``floor`` at ``max_updates``
    (Loshchilov and Hutter, 2017). The first update of a warm-up from 0 therefore runs at rate 0, as in fairseq.
    """
    if update < warmup_updates:
        return floor + (peak - floor) * update / warmup_updates
    num_updates = max(1, max_updates - warmup_updates)
    done = min(update - warmup_updates, num_updates)
    return floor + 0.5 * (peak - floor) * (1 + math.cos(math.pi * done / num_updates))


def warmup_linear(update: int, peak: float, floor: float, warmup_updates: int, max_updates: int) -> float:
    """As :func:`warmup_cosine`, with a straight line down to ``floor`` (fairseq's ``polynomial_decay``)."""
    if update < warmup_updates:
        return floor + (peak - floor) * update / warmup_updates
    return linear_anneal(update - warmup_updates, peak, floor, max(1, max_updates - warmup_updates))
