"""Every key of a foreign configuration is honored, refused by its name, or without effect."""

from __future__ import annotations

import pytest

from sslam_lightning.checkpoints.keys.config import HONORED, NO_EFFECT, Only, Same, check_keys
from sslam_lightning.checkpoints.keys.tables import DATA2VEC2_KEYS

_TABLE = {
    "depth": HONORED,
    "seed": NO_EFFECT,
    "norm": Only((True,)),
    "heads": Only((Same("depth"), 1)),
    "part.noise": Only((0,), ("training",)),
    "part.drop": NO_EFFECT,
}


def _check(cfg, purpose="inference", **options):
    check_keys(cfg, _TABLE, "a.pt: cfg.model", purpose, **options)


def test_values_that_are_computed_pass_for_every_purpose():
    for purpose in ("inference", "init_from", "training"):
        _check({"_name": "m", "depth": 2, "norm": True, "heads": 2, "part": {"_name": None, "noise": 0.0}}, purpose)


@pytest.mark.parametrize("heads", [1, 2, "${model.depth}"])
def test_a_value_may_be_that_of_another_key(heads):
    _check({"depth": 2, "heads": heads})


def test_a_value_that_is_not_computed_is_refused_by_the_names_of_all_such_keys():
    match = r"^a\.pt: cfg\.model\.norm is False, only True is computed here; heads is 3, only 2 or 1 is computed here$"
    with pytest.raises(ValueError, match=match):
        _check({"depth": 2, "norm": False, "heads": 3})


@pytest.mark.parametrize("noise", [0.5, None, "0", "${other.noise}", [0]])
def test_a_key_is_refused_for_the_purposes_that_it_matters_to(noise):
    cfg = {"part": {"noise": noise}}
    _check(cfg, "inference")
    _check(cfg, "init_from")
    match = r"model\.part\.noise is .*, only 0 is computed here for training \(it can be opened for inference and init_from"
    with pytest.raises(ValueError, match=match):
        _check(cfg, "training")


def test_values_of_a_section_that_the_file_does_not_use_play_no_part_but_its_keys_must_be_known():
    _check({"part": {"noise": 1}}, "training", unused=("part",))
    with pytest.raises(ValueError, match=r"cfg\.model\.part\.nosie is no configuration key .*, did you mean part\.noise\?"):
        _check({"part": {"nosie": 0}}, "training", unused=("part",))


def test_an_unknown_key_is_refused_by_its_name():
    with pytest.raises(ValueError, match=r"^a\.pt: cfg\.model\.dpeth is no configuration key .*, did you mean depth\?$"):
        _check({"dpeth": 2})
    with pytest.raises(ValueError, match=r"cfg\.model\.zzzzzz is no configuration key of the public code$"):
        _check({"zzzzzz": 2})


def test_a_section_may_be_none_but_nothing_else_than_a_table():
    _check({"part": None})
    with pytest.raises(ValueError, match=r"cfg\.model\.part is no configuration key"):
        _check({"part": 3})


def test_a_configuration_that_contains_itself_ends():
    circle: dict = {"depth": 2}
    circle["part"] = circle
    with pytest.raises(ValueError, match=r"cfg\.model\.part\.depth is no configuration key"):
        _check(circle)


def test_the_lists_of_data2vec2_hold_all_three_modalities():
    assert {path.split(".")[1] for path in DATA2VEC2_KEYS if path.startswith("modalities.")} == {"image", "audio", "text"}


@pytest.mark.parametrize("section", ["audio", "text"])
def test_a_decoder_of_three_linear_layers_is_refused_by_its_name(section):
    """D2: of a decoder in one dimension; one in two dimensions has one, whatever is said."""
    for number, refused in ((1, False), (2, False), (3, True)):
        cfg = {"modalities": {section: {"decoder": {"projection_layers": number}}}}
        if refused:
            with pytest.raises(ValueError, match=rf"{section}\.decoder\.projection_layers is 3, only 1 or 2 is computed"):
                check_keys(cfg, DATA2VEC2_KEYS, "a.pt", "training")
        else:
            check_keys(cfg, DATA2VEC2_KEYS, "a.pt", "training")
    check_keys({"modalities": {"image": {"decoder": {"projection_layers": 3}}}}, DATA2VEC2_KEYS, "a.pt", "training")
