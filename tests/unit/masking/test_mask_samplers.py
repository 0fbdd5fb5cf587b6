from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
import torch.nn.functional as F

from sslam_lightning.masking import (
    BlockMask,
    ChunkMask,
    FlexibleInverseBlockMask,
    InverseBlockMask,
    InverseSpanMask,
    MaskSampler,
    RatioMask,
    SpanMask,
    UniformMask,
    shapes,
)
from sslam_lightning.masking.sampler import choose_exactly, mask_from_hidden
from sslam_lightning.rng import clip_keys, fold_in
from sslam_lightning.types import Grid

SAMPLERS = [
    InverseBlockMask(),
    InverseBlockMask(0.75, mask_ratio_adjust=0.1),
    FlexibleInverseBlockMask(),
    BlockMask(),
    BlockMask(0.5, block_size=4),
    UniformMask(),
    SpanMask(),
    SpanMask(0.4, 10, 0.0),
    InverseSpanMask(0.75, 10, 0.04),
    ChunkMask(),
    ChunkMask(0.5, 1, 2),
]
GRIDS = [Grid(64, 8), Grid(13, 8), Grid(3, 8), Grid(7, 5), Grid(1, 8), Grid(2, 3), Grid(128, 1), Grid(100, 16)]


@pytest.mark.parametrize("sampler", SAMPLERS, ids=str)
@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_every_row_hides_the_same_number_and_the_tables_agree(sampler: MaskSampler, grid: Grid, keys: torch.Tensor) -> None:
    mask = sampler(keys, grid)
    num_hidden = sampler.num_hidden(grid)
    assert 0 < num_hidden < grid.num_patches
    assert mask.hidden.shape == (64, grid.num_patches)
    assert (mask.hidden.sum(dim=1) == num_hidden).all()
    assert mask.ids_masked.shape == (64, num_hidden)
    assert mask.ids_keep.shape == (64, grid.num_patches - num_hidden)
    assert mask.hidden.gather(1, mask.ids_masked).all()
    assert not mask.hidden.gather(1, mask.ids_keep).any()
    for index in (mask.ids_masked, mask.ids_keep):
        assert (index.diff(dim=1) > 0).all()  # ascending, so each patch once


@pytest.mark.parametrize(
    ("sampler", "grid", "visible"),
    [
        (InverseBlockMask(0.8), Grid(64, 8), 102),  # EAT base
        (InverseBlockMask(0.75), Grid(64, 8), 128),  # EAT large
        (InverseBlockMask(0.8), Grid(32, 8), 51),
        (InverseBlockMask(0.8), Grid(13, 8), 20),
        (InverseBlockMask(0.8), Grid(3, 8), 4),
        (InverseBlockMask(0.8), Grid(1, 8), 1),
        (FlexibleInverseBlockMask(0.8), Grid(64, 8), 102),
        (BlockMask(0.8), Grid(64, 8), 512 - 409),
        (BlockMask(0.8), Grid(13, 8), 104 - 83),
        (UniformMask(0.75), Grid(64, 8), 128),
        (UniformMask(0.75), Grid(3, 8), 6),
    ],
    ids=str,
)
def test_counts_of_the_recipes(sampler: MaskSampler, grid: Grid, visible: int, keys: torch.Tensor) -> None:
    assert sampler(keys, grid).ids_keep.shape == (64, visible)


@pytest.mark.parametrize("sampler", SAMPLERS, ids=str)
def test_a_clips_key_alone_decides(sampler: MaskSampler, keys: torch.Tensor) -> None:
    grid = Grid(13, 8)
    mask = sampler(keys, grid)
    assert torch.equal(sampler(keys[10:13], grid).hidden, mask.hidden[10:13])
    assert torch.equal(sampler(keys.flip(0), grid).hidden, mask.hidden.flip(0))


@pytest.mark.parametrize("sampler", SAMPLERS, ids=str)
def test_clips_and_epochs_differ(sampler: MaskSampler) -> None:
    grid, index = Grid(64, 8), torch.arange(50)
    first, second = (sampler(clip_keys(index, seed=0, epoch=epoch), grid).hidden for epoch in (0, 1))
    assert first.unique(dim=0).shape[0] == 50
    assert not (first == second).all(dim=1).any()


@pytest.mark.parametrize("sampler", SAMPLERS[:4], ids=str)
def test_blocks_hold_together(sampler: RatioMask) -> None:
    """Neighbors share their fate more often than in a mask of single patches."""
    grid, many = Grid(64, 8), clip_keys(torch.arange(1000), 0, 0)

    def share_equal(mask: MaskSampler) -> float:
        field = mask(many, grid).hidden.view(-1, *grid)
        return (field[:, 1:] == field[:, :-1]).float().mean().item()

    # A third of what BlockMask hides at 0.8 fills up its overlapping blocks patch by patch: 0.74, against 0.68 by chance.
    assert share_equal(sampler) > share_equal(UniformMask(sampler.mask_ratio)) + 0.05


def test_uniform_masks_hide_every_patch_equally_often() -> None:
    grid, rows = Grid(13, 8), 5000
    share = UniformMask(0.75)(clip_keys(torch.arange(rows), 0, 0), grid).hidden.float().mean(dim=0)
    error = (0.75 * 0.25 / rows) ** 0.5
    assert (share - 0.75).abs().max() < 5 * error


def covered(monkeypatch: pytest.MonkeyPatch, sampler: shapes.ShapesMask, center: int, grid: Grid) -> list[tuple[int, int]]:
    """The (time, mel) of all patches under one block around a known center."""
    monkeypatch.setattr(shapes, "integers", lambda keys, count, high: torch.full((len(keys), 1), center))
    field = sampler.covered(torch.zeros(1, dtype=torch.long), grid, 0.5).view(*grid)
    return [(int(time), int(mel)) for time, mel in field.nonzero()]


@pytest.mark.parametrize(
    ("size", "center", "times", "mels"),
    [
        (5, (6, 4), range(4, 9), range(2, 7)),
        (5, (0, 0), range(3), range(3)),  # what sticks out falls onto the border
        (5, (12, 7), range(10, 13), range(5, 8)),
        (5, (6, 1), range(4, 9), range(4)),
        (4, (6, 4), range(4, 8), range(2, 6)),  # an even block reaches further back
        (1, (6, 4), range(6, 7), range(4, 5)),
    ],
)
def test_blocks_lie_around_their_center(
    monkeypatch: pytest.MonkeyPatch, size: int, center: tuple[int, int], times: range, mels: range
) -> None:
    found = covered(monkeypatch, BlockMask(0.5, size), center[0] * 8 + center[1], Grid(13, 8))
    assert found == [(time, mel) for time in times for mel in mels]


def test_flexible_blocks_lie_around_their_center(monkeypatch: pytest.MonkeyPatch) -> None:
    found = covered(monkeypatch, FlexibleInverseBlockMask(shapes=((8, 3),)), 6 * 8 + 4, Grid(13, 8))
    assert found == [(time, mel) for time in range(4, 12) for mel in range(2, 5)]


@pytest.mark.parametrize(("center", "first", "end"), [(20, 18, 23), (0, 0, 3), (59, 57, 60)])
def test_spans_lie_around_their_center(monkeypatch: pytest.MonkeyPatch, center: int, first: int, end: int) -> None:
    found = covered(monkeypatch, SpanMask(0.5, 5), center, Grid(60, 1))
    assert found == [(time, 0) for time in range(first, end)]


def test_flexible_masks_draw_each_of_their_shapes() -> None:
    # One block of one of three shapes; a mask with as many visible patches shows it as it is.
    sampler = FlexibleInverseBlockMask(0.95, mask_ratio_adjust=0.0, shapes=((25, 1), (1, 25), (5, 5)))
    grid = Grid(30, 30)
    rows = sampler.covered(clip_keys(torch.arange(900), 0, 0), grid, 1 / 36).view(900, *grid)
    tall, wide = rows.any(dim=2).sum(dim=1), rows.any(dim=1).sum(dim=1)
    # At the border a block is squeezed, but to no fewer than three patches.
    kinds = [wide == 1, tall == 1, (tall > 1) & (wide > 1)]
    counts = torch.stack(kinds).sum(dim=1)
    assert counts.sum() == 900
    assert (counts - 300).abs().max() < 5 * (900 * 2 / 9) ** 0.5


def test_flexible_masks_of_a_clip_have_one_shape(keys: torch.Tensor) -> None:
    """D13: keys in two dimensions are those of a clip's masks, keys in one those of clips."""
    sampler, grid = FlexibleInverseBlockMask(0.95, mask_ratio_adjust=0.0, shapes=((25, 1), (1, 25))), Grid(30, 30)
    many = fold_in(keys.unsqueeze(1), torch.arange(4))
    for drawn, masks in ((many, 4), (many.flatten(), 1)):
        stands = sampler.covered(drawn, grid, 1 / 36).view(-1, masks, *grid).any(dim=2).sum(dim=-1) == 1
        assert (stands == stands[:, :1]).all()
        assert 0.3 < stands.float().mean() < 0.7
    assert torch.equal(sampler(many, grid).hidden[::4], sampler(many[:, 0], grid).hidden)  # the first draws the shape


@pytest.mark.parametrize("sampler", SAMPLERS, ids=str)
def test_keys_in_two_dimensions_give_rows_clip_by_clip(sampler: MaskSampler, keys: torch.Tensor) -> None:
    many, grid = fold_in(keys.unsqueeze(1), torch.arange(3)), Grid(13, 8)
    hidden = sampler(many, grid).hidden
    assert torch.equal(hidden[6:9], sampler(many[2:3], grid).hidden)  # a clip's own
    if not isinstance(sampler, FlexibleInverseBlockMask):
        assert torch.equal(hidden, sampler(many.flatten(), grid).hidden)
    assert sampler(many[:0], grid).hidden.shape == (0, grid.num_patches)


@pytest.mark.parametrize(("count", "expected"), [(2, {1, 4}), (1, {4}), (3, {1, 4, 3}), (5, {0, 1, 2, 3, 4})])
def test_choosing_takes_candidates_first_and_then_by_tie_breaks(count: int, expected: set[int]) -> None:
    candidates = torch.tensor([[False, True, False, False, True]])
    tie_breaks = torch.tensor([[0.1, 0.0, 0.5, 0.999, 0.3]])
    chosen = choose_exactly(candidates, tie_breaks, count)
    assert set(chosen[0].nonzero().flatten().tolist()) == expected


def test_mask_from_hidden_by_hand() -> None:
    mask = mask_from_hidden(torch.tensor([[True, False, True, False, False], [False, False, False, True, True]]), 2)
    assert mask.ids_masked.tolist() == [[0, 2], [3, 4]]
    assert mask.ids_keep.tolist() == [[1, 3, 4], [0, 1, 2]]


def test_a_new_kind_of_mask_takes_two_methods(keys: torch.Tensor) -> None:
    @dataclass(frozen=True)
    class SecondHalf(MaskSampler):
        def num_hidden(self, grid: Grid) -> int:
            return grid.num_patches // 2

        def hidden(self, keys: torch.Tensor, grid: Grid) -> torch.Tensor:
            return (torch.arange(grid.num_patches) >= grid.num_patches // 2).expand(len(keys), -1)

    assert SecondHalf()(keys[:1], Grid(2, 2)).ids_masked.tolist() == [[2, 3]]
    with pytest.raises(TypeError, match="abstract"):
        MaskSampler()  # type: ignore[abstract]


@pytest.mark.parametrize("kind", [BlockMask, InverseBlockMask, FlexibleInverseBlockMask, UniformMask])
@pytest.mark.parametrize("ratio", [0.0, 1.0, -0.5, 80.0])
def test_ratio_must_hide_something(kind: type, ratio: float) -> None:
    with pytest.raises(ValueError, match=rf"mask_ratio must lie between 0 and 1, got {ratio}"):
        kind(ratio)


def test_blocks_must_have_a_size() -> None:
    with pytest.raises(ValueError, match="block_size must be at least 1, got 0"):
        InverseBlockMask(0.8, 0)


@pytest.mark.parametrize(
    ("sampler", "grid", "message"),
    [
        (InverseBlockMask(0.8), Grid(1, 4), r"InverseBlockMask\(.*\) hides 4 of the 4 patches of a clip of 1 x 4"),
        (BlockMask(0.1), Grid(1, 8), "hides 0 of the 8 patches of a clip of 1 x 8: use longer clips or another ratio"),
        (UniformMask(0.75), Grid(1, 1), "hides 1 of the 1 patches"),
    ],
    ids=str,
)
def test_a_clip_too_small_for_a_mask(sampler: MaskSampler, grid: Grid, message: str, keys: torch.Tensor) -> None:
    assert not sampler.fits(grid)
    with pytest.raises(ValueError, match=message):
        sampler(keys, grid)


@pytest.mark.parametrize("sampler", SAMPLERS, ids=str)
def test_padding_stays_visible_and_the_shortest_clip_says_how_much_is_hidden(sampler: MaskSampler, keys) -> None:
    padding = torch.arange(60) >= torch.tensor([60, 45, 20, 33]).repeat(16).unsqueeze(1)
    grid = Grid(60, 1)
    mask = sampler(keys, grid, padding)
    assert not (mask.hidden & padding).any()
    assert mask.hidden.sum(dim=1).unique().tolist() == [sampler.num_hidden(Grid(20, 1))]
    would = sampler(keys, grid).hidden
    longest = padding.sum(dim=1) == 0
    assert not (mask.hidden & ~would)[longest].any()  # some are shown again, none are added
    alone = sampler(keys[1:2], grid, padding[1:2])  # with clips of its own length it hides what they can spare
    assert alone.hidden.sum() == sampler.num_hidden(Grid(45, 1))


@pytest.mark.parametrize(("sampler", "fewest"), [(SpanMask(0.5), 2), (SpanMask(0.3), 4), (UniformMask(0.75), 4)], ids=str)
def test_the_shortest_clip_of_which_something_is_hidden_and_something_visible(sampler: MaskSampler, fewest: int) -> None:
    assert [sampler.fits(Grid(tokens, 1)) for tokens in range(1, 7)] == [tokens >= fewest for tokens in range(1, 7)]


def test_clips_too_short_to_hide_anything_are_refused_by_their_true_length(keys) -> None:
    padding = torch.arange(60) >= torch.tensor([60, 1] * 32).unsqueeze(1)
    with pytest.raises(ValueError, match=r"hides 0 of the 1 patches of a clip of 1 x 1"):
        SpanMask()(keys, Grid(60, 1), padding)


def test_spans_hold_together(keys) -> None:
    """A span of 10 has two borders, ten single tokens have up to twenty."""
    borders = [
        (sampler(keys, Grid(300, 1)).hidden.diff(dim=1)).sum(dim=1).float().mean()
        for sampler in (InverseSpanMask(0.75, 10), SpanMask(0.25, 10), UniformMask(0.25))
    ]
    assert borders[0] < 30 < 100 < borders[2]
    assert borders[1] < 30


def test_chunks_are_whole_squares_but_for_the_last() -> None:
    """With one chunk's worth of patches to hide, they are one square of the row's own size, cut at the border."""
    grid, rows = Grid(20, 20), clip_keys(torch.arange(200), 0, 0)
    hidden = ChunkMask(9 / 400, 3, 3)(rows, grid).hidden.view(-1, 20, 20)
    whole = 0
    for field in hidden:
        time, mel = field.nonzero().unbind(1)
        whole += int(time.max() - time.min() == 2 and mel.max() - mel.min() == 2)
    # 18 x 18 of the 22 x 22 corners are far enough from the border: 134 of 200, less five deviations of 6.7.
    assert whole > 100
    sizes = {int(field.sum()) for field in hidden}
    assert sizes == {ChunkMask(9 / 400, 3, 3).num_hidden(grid)}


@pytest.mark.parametrize("grid", [Grid(64, 8), Grid(16, 16), Grid(7, 5), Grid(40, 1), Grid(1, 40)], ids=str)
def test_chunks_hide_every_mel_and_every_time_step_equally_often(grid: Grid) -> None:
    sampler, rows = ChunkMask(0.75), 3000
    field = sampler(clip_keys(torch.arange(rows), 0, 0), grid).hidden.view(rows, *grid).float()
    wanted = sampler.num_hidden(grid) / grid.num_patches
    for band in (field.mean(dim=1), field.mean(dim=2)):  # of every row, the share of each mel and of each time step
        # Rows are independent, so a mean over them has this error, or none at the only mel. Five of them, and one more
        # because the exact count takes from the borders: less than 0.01, seen in 24 000 masks.
        error = band.std(dim=0) / rows**0.5
        assert ((band.mean(dim=0) - wanted).abs() < 6 * error + 1e-6).all()


@pytest.mark.parametrize("grid", [Grid(64, 8), Grid(16, 16), Grid(100, 1)], ids=str)
@pytest.mark.parametrize("ratio", [0.5, 0.75, 0.9])
def test_chunks_alone_hide_enough(grid: Grid, ratio: float) -> None:
    """All that is hidden lies under whole squares, cut at the border, but for what is left of the last one."""
    hidden = ChunkMask(ratio, 3, 3)(clip_keys(torch.arange(300), 0, 0), grid).hidden.view(-1, 1, *grid).float()
    beyond = F.pad(hidden, (2, 2, 2, 2), value=1.0)
    squares = 1 - F.max_pool2d(1 - beyond, 3, stride=1)  # at every corner, those in front of the border too
    under = F.max_pool2d(F.pad(squares, (2, 2, 2, 2)), 3, stride=1)[..., 2:-2, 2:-2]
    assert under.shape == hidden.shape
    assert (hidden - under).sum(dim=(1, 2, 3)).max() <= 8


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SpanMask(1.0), r"mask_ratio must lie between 0 and 1, got 1.0"),
        (lambda: SpanMask(0.5, 0), r"span_tokens must be at least 1, got 0"),
        (lambda: ChunkMask(0.0), r"mask_ratio must lie between 0 and 1, got 0.0"),
        (lambda: ChunkMask(0.5, 4, 3), r"1 <= smallest <= largest must hold, got 4 and 3"),
    ],
)
def test_impossible_spans_and_chunks(make, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
