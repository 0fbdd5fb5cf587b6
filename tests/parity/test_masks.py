"""Statistics of the block and span masks over many rows."""

from __future__ import annotations

import json

import pytest
import torch
import torch.nn.functional as F
from reference_data import reference_folder

from sslam_lightning.masking import BlockMask, FlexibleInverseBlockMask, InverseBlockMask, InverseSpanMask, SpanMask
from sslam_lightning.random_streams import clip_keys
from sslam_lightning.types import Grid

_FILE = reference_folder() / "cases" / "block_mask_statistics.json"
_STATISTICS = json.loads(_FILE.read_text()) if _FILE.is_file() else {}
_BLOCKS = [name for name in _STATISTICS if name.startswith("audio")]
_SPANS = [name for name in _STATISTICS if name.startswith("waveform")]


@pytest.mark.parametrize("name", _BLOCKS)
def test_block_masks_have_the_public_statistics(name, reference):
    case = reference.case("block_mask_statistics")[name]
    args, rows, grid = case["args"], case["rows"], Grid(*case["args"]["img_shape"])
    kind = BlockMask
    if args["inverse_mask"]:
        kind = FlexibleInverseBlockMask if args.get("flexible_mask") else InverseBlockMask
    sampler = kind(args["mask_prob"], args["mask_length"], args["mask_prob_adjust"])
    kept = ~sampler(clip_keys(torch.arange(rows), seed=0, epoch=0), grid).hidden
    assert kept.sum(dim=1).unique().tolist() == case["keep_count"]

    field = kept.view(rows, 1, *grid).float()
    beside = torch.tensor([[0.0, 1, 0], [1, 0, 1], [0, 1, 0]]).view(1, 1, 3, 3)
    neighbours = F.conv2d(field, beside, padding=1)[field.bool()].view(rows, -1)
    alone = (neighbours == 0).float()
    # Both sides are samples: five standard errors of a difference of two means over rows.
    for ours, theirs in (
        (neighbours.mean(dim=1), case["mean_kept_neighbours"]),
        (alone.mean(dim=1), case["frac_kept_isolated"]),
    ):
        assert ours.mean().item() == pytest.approx(theirs, abs=5 * (2 / rows) ** 0.5 * ours.std().item())
    marginal = torch.tensor(case["marginal_keep"])
    error = (marginal * (1 - marginal) * 2 / rows).sqrt()
    z = (field.mean(dim=(0, 1)) - marginal) / error
    assert z.abs().max() < 5
    # Blocks of 25 patches move together, so of 256 positions about 25 are independent: mean of z^2 is 1 +- sqrt(2 / 25).
    # Over eight seeds it was seen between 0.8 and 1.6. Five deviations:
    assert z.square().mean() < 2.4


@pytest.mark.parametrize("name", _SPANS)
def test_span_masks_have_the_public_statistics(name, reference):
    case = reference.case("block_mask_statistics")[name]
    args, rows = case["args"], case["rows"]
    kind = InverseSpanMask if args["inverse_mask"] else SpanMask
    sampler = kind(args["mask_prob"], args["mask_length"], args["mask_prob_adjust"])
    hidden = sampler(clip_keys(torch.arange(rows), seed=0, epoch=0), Grid(args["length"], 1)).hidden
    assert hidden.sum(dim=1).unique().tolist() == case["masked_count"]

    boundaries = (hidden[:, 1:] != hidden[:, :-1]).sum(dim=1).float()
    # Both sides are samples: five standard errors of a difference of two means over rows.
    error = (2 / rows) ** 0.5 * boundaries.std().item()
    assert boundaries.mean().item() == pytest.approx(case["mean_boundaries_per_row"], abs=5 * error)
    marginal = torch.tensor(case["marginal_masked"])
    z = (hidden.float().mean(dim=0) - marginal) / (marginal * (1 - marginal) * 2 / rows).sqrt()
    assert z.abs().max() < 5
    # Spans of 5 and 10 move together, so of 300 positions at least 30 are independent: five deviations of the mean of z^2.
    assert z.square().mean() < 1 + 5 * (2 / 30) ** 0.5


def test_some_cases_were_found():
    assert _BLOCKS
    assert _SPANS
