"""Schedules are pure functions of the number of finished optimizer updates."""

from __future__ import annotations

import math


def linear_anneal(update: int, start: float, end: float, num_updates: int) -> float:
    """From ``start`` to ``end`` in a straight line over ``num_updates``, then constant (EMA decay: data2vec, section 4)."""
    if update >= num_updates:
        return end
    return end - (end - start) * (1 - update / num_updates)


def warmup_cosine(update: int, peak: float, floor: float, warmup_steps: int, max_steps: int) -> float:
    """Learning rate for the update that follows ``update`` finished ones.

    Linear from ``floor`` to ``peak`` over the warm-up, then half a cosine back to ``floor`` at ``max_steps``
    (Loshchilov and Hutter, 2017). The first update of a warm-up from 0 therefore runs at rate 0, as in fairseq.
    """
    if update < warmup_steps:
        return floor + (peak - floor) * update / warmup_steps
    num_updates = max(1, max_steps - warmup_steps)
    done = min(update - warmup_steps, num_updates)
    return floor + 0.5 * (peak - floor) * (1 + math.cos(math.pi * done / num_updates))


def warmup_linear(update: int, peak: float, floor: float, warmup_steps: int, max_steps: int) -> float:
    """As :func:`warmup_cosine`, with a straight line down to ``floor`` (fairseq's ``polynomial_decay``)."""
    if update < warmup_steps:
        return floor + (peak - floor) * update / warmup_steps
    return linear_anneal(update - warmup_steps, peak, floor, max(1, max_steps - warmup_steps))
