"""Statistics of the block and span masks over many rows."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from reference_data import case_names, reference_folder

from sslam_lightning.losses import TeacherTargets
from sslam_lightning.masking import BlockMask, FlexibleInverseBlockMask, InverseBlockMask, InverseSpanMask, SpanMask
from sslam_lightning.models import ConvDecoderConfig, EncoderConfig
from sslam_lightning.rng import clip_keys
from sslam_lightning.training import PretrainModule
from sslam_lightning.types import Grid

_STATISTICS = [
    (case, name)
    for case in case_names("block_mask_statistics*")
    for name in json.loads((reference_folder() / "cases" / f"{case}.json").read_text())
]
_BLOCKS = [(case, name) for case, name in _STATISTICS if name.startswith("audio")]
_SPANS = [(case, name) for case, name in _STATISTICS if name.startswith("waveform")]
_PER_CLIP = case_names("flexible_mask_*")


@pytest.mark.parametrize(("case", "name"), _BLOCKS)
def test_block_masks_have_the_public_statistics(case, name, reference):
    case = reference.case(case)[name]
    args, rows, grid = case["args"], case["rows"], Grid(*case["args"]["img_shape"])
    kind = BlockMask
    if args["inverse_mask"]:
        kind = FlexibleInverseBlockMask if args.get("flexible_mask") else InverseBlockMask
    sampler = kind(args["mask_prob"], args["mask_length"], args["mask_prob_adjust"])
    kept = ~sampler(clip_keys(torch.arange(rows), seed=0, epoch=0), grid).hidden
    assert kept.sum(dim=1).unique().tolist() == case["keep_count"]

    field = kept.view(rows, 1, *grid).float()
    beside = torch.tensor([[0.0, 1, 0], [1, 0, 1], [0, 1, 0]]).view(1, 1, 3, 3)
    neighbors = F.conv2d(field, beside, padding=1)[field.bool()].view(rows, -1)
    alone = (neighbors == 0).float()
    # Both sides are samples: five standard errors of a difference of two means over rows.
    for ours, theirs in (
        (neighbors.mean(dim=1), case["mean_kept_neighbours"]),
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


@pytest.mark.parametrize(("case", "name"), _SPANS)
def test_span_masks_have_the_public_statistics(case, name, reference):
    case = reference.case(case)[name]
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


@pytest.mark.parametrize("name", _PER_CLIP)
def test_flexible_masks_of_a_clip_have_blocks_of_one_shape(name, reference):
    """D13: told by how much more kept patches stand next to each other in time than in mel, which the shape decides."""
    case = reference.case(name)
    args, clips, copies = case["args"], case["clips"], case["clones"]
    sampler = FlexibleInverseBlockMask(args["mask_prob"], args["mask_length"], args["mask_prob_adjust"])
    encoder = EncoderConfig(dim=16, depth=1, num_heads=1)
    settings = {"decoder": ConvDecoderConfig(dim=16, depth=1), "targets": TeacherTargets(1), "masks_per_clip": copies}
    grid, keys = Grid(*args["img_shape"]), clip_keys(torch.arange(clips), seed=0, epoch=0)

    def measured(masking: FlexibleInverseBlockMask) -> torch.Tensor:
        kept = ~PretrainModule(encoder, masking=masking, **settings).draw_masks(keys, grid).hidden
        assert kept.sum(dim=1).unique().tolist() == case["keep_count"]
        field = kept.view(-1, *grid)
        in_time, in_mel = (field[:, 1:] & field[:, :-1]), (field[:, :, 1:] & field[:, :, :-1])
        return ((in_time.sum((1, 2)) - in_mel.sum((1, 2))) / kept.sum(dim=1)).view(clips, copies)

    # All tolerances are five standard errors of a difference: of means over clips, of deviations, of correlations.
    by_shape = case["time_minus_mel_pairs_by_shape"]
    for shape, public in by_shape.items():
        time, mel = map(int, shape.split("x"))
        alone = measured(replace(sampler, shapes=((time, mel),)))
        error = 5 * (1 / alone.numel() + 1 / public["rows"]) ** 0.5 * public["std"]
        assert alone.mean().item() == pytest.approx(public["mean"], abs=error), shape
        assert alone.std().item() == pytest.approx(public["std"], abs=error), shape

    drawn = measured(sampler)
    mean = sum(public["mean"] * public["rows"] for public in by_shape.values()) / (clips * copies)
    error = 5 * (2 / clips) ** 0.5
    assert drawn.mean().item() == pytest.approx(mean, abs=error * case["std_of_clip_means"])
    assert drawn.mean(dim=1).std().item() == pytest.approx(case["std_of_clip_means"], rel=error)
    between, within = copies * drawn.mean(dim=1).var(), drawn.var(dim=1).mean()
    correlation = ((between - within) / (between + (copies - 1) * within)).item()
    public = case["intraclass_correlation_of_time_minus_mel_pairs"]
    spread = (1 - public) * (1 + (copies - 1) * public) / (copies * (copies - 1)) ** 0.5
    assert correlation == pytest.approx(public, abs=error * 2**0.5 * spread)
