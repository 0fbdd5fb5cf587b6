"""BAT: one block, the decoder, a step of pre-training and four updates, initial weights, through the importer (D10)."""

from __future__ import annotations

import pytest
import torch
from bat_cases import assert_close, bat_arguments, bat_input, bat_module, bat_state
from initial_weights import assert_same_initial_weights
from recipes import log_mel_batch, recipe_input, recipe_mask, recipe_tensor
from reference_data import case_names
from test_trajectories import fit

from sslam_lightning.checkpoints import from_bat, load_state_dict_strict
from sslam_lightning.checkpoints.formats.bat import rename
from sslam_lightning.layers import Block
from sslam_lightning.losses import TeacherTargets
from sslam_lightning.masking import mask_from_hidden
from sslam_lightning.models import TransformerDecoder, TransformerDecoderConfig
from sslam_lightning.training import PretrainModule
from sslam_lightning.training.callbacks import EMATeacher
from sslam_lightning.types import Grid


def parameter(module, public: str) -> torch.nn.Parameter:
    """Of a module, by its public name."""
    ((part, renamed),) = rename({public: torch.zeros(1, 1, 1)}, "a case").items()
    return (module.student if part == "encoder" else module.decoder).get_parameter(next(iter(renamed)))


@pytest.mark.parametrize("name", case_names("bat_gated_block*"))
def test_a_block(name, reference):
    """D10."""
    arrays, case = reference.arrays(name), reference.case(name)
    assert case["variants"]
    for variant, told in case["variants"].items():
        state = {key: recipe_tensor(f"blocks.0.{key}", shape) for key, shape in told["parameters"].items()}
        block = Block(
            case["dim"],
            case["num_heads"],
            case["mlp_ratio"],
            "pre" if told["layer_norm_first"] else "post",
            case["norm_eps"],
            gated=told["use_gate"],
        )
        imported = rename({f"encoder.blocks.0.{key}": value for key, value in state.items()}, name)["encoder"]
        load_state_dict_strict(
            block, {key.removeprefix("blocks.0."): value for key, value in imported.items()}, variant, name
        )
        output = block(recipe_input(case["seed"], tuple(case["input_shape"]))).tokens
        assert_close(output, arrays[f"output_{variant}"])
        loss = output.square().mean()
        loss.backward()
        assert loss.item() == pytest.approx(told["loss"], rel=1e-4)
        for key, norm in told["grad_norm"].items():
            assert block.get_parameter(key).grad.norm().item() == pytest.approx(norm, rel=1e-3, abs=1e-6), (variant, key)


@pytest.mark.parametrize("name", case_names("bat_decoder*"))
def test_the_decoder(name, reference):
    """D10: no norm in front, sine-cosine positions that are learned, no bias behind."""
    arrays, case = reference.arrays(name), reference.case(name)
    grid = Grid(case["num_time_patches"], case["num_freq_patches"])
    state = bat_state({f"decoder.{key}": shape for key, shape in case["parameters"].items()})
    config = TransformerDecoderConfig(
        case["dim"],
        case["depth"],
        case["num_heads"],
        case["mlp_ratio"],
        positions="learned",
        max_tokens=case["n_patches"],
        mel_patches=grid.freq,
        input_norm=False,
        norm_eps=1e-6,
        gated_attention=True,
        projection_bias=False,
        output_projection=True,
    )
    decoder = TransformerDecoder(config, case["in_dim"])
    assert_close(decoder.positions, arrays["initial_positions"])
    load_state_dict_strict(decoder, rename(state, name)["decoder"], "decoder", name)
    visible = recipe_input(case["seed"], (case["rows"], case["n_keep"], case["in_dim"])).requires_grad_()
    hidden = recipe_mask(case["seed"] + 1, case["rows"], case["n_patches"], case["n_patches"] - case["n_keep"])
    mask = mask_from_hidden(hidden, case["n_patches"] - case["n_keep"])
    everything = torch.arange(case["n_patches"]).expand(case["rows"], -1)

    output = decoder(visible, mask._replace(ids_masked=everything), grid)

    assert_close(output, arrays["output"])
    loss = output.square().mean()
    loss.backward()
    assert loss.item() == pytest.approx(case["loss"], rel=1e-4)
    assert visible.grad.norm().item() == pytest.approx(case["input_grad_norm"], rel=1e-3)
    for public, norm in case["grad_norm"].items():
        (ours,) = rename({f"decoder.{public}": torch.zeros(1, 1, 1)}, name)["decoder"]
        assert decoder.get_parameter(ours).grad.norm().item() == pytest.approx(norm, rel=1e-3, abs=1e-6), public


@pytest.mark.parametrize("name", case_names("bat_pretraining_step*"))
def test_losses_gradients_targets_and_positions(name, reference, monkeypatch):
    """D10: with the losses and targets of the recipe."""
    arrays, case = reference.arrays(name), reference.case(name)
    module, log_mels, logged, seen = bat_module(case), bat_input(case), {}, {}
    assert_close(log_mels[0, ::4, ::4], arrays["log_mels_first"])
    monkeypatch.setattr(module, "log", lambda key, value, **_: logged.update({key: float(value)}))
    monkeypatch.setattr(type(module), "current_epoch", 0)
    targets, guess = module.teacher_targets, module.predict_masked
    monkeypatch.setattr(module, "teacher_targets", lambda *a: seen.setdefault("targets", targets(*a)))
    monkeypatch.setattr(module, "predict_masked", lambda *a: seen.setdefault("predictions", guess(*a)))

    total = module.training_step(log_mel_batch(log_mels), 0)
    total.backward()

    assert total.item() == pytest.approx(case["total"], rel=1e-4)
    assert logged["train/loss/regression"] == pytest.approx(case["local_loss"], rel=1e-4)
    assert logged["train/loss/utterance"] == pytest.approx(case["global_loss"], rel=1e-4)
    for public, norm in case["grad_norm"].items():
        assert parameter(module, public).grad.norm().item() == pytest.approx(norm, rel=1e-3, abs=1e-6), public
    assert_close(seen["targets"].patches[:, ::3], arrays["targets_sub"])
    assert_close(seen["predictions"].cls, arrays["student_clip"])
    nothing = torch.zeros(1, *log_mels.shape[1:])
    assert_close(module.student.embed(nothing)[0] - module.student.front_end.proj.bias, arrays["encoder_positions"])


@pytest.mark.parametrize("name", case_names("bat_pretraining_step*"))
def test_whole_updates(name, reference, tmp_path):
    """D10: AdamW on everything, unclipped, the rate held at its minimum, the teacher's first decay."""
    case = reference.case(name)
    updates = case["updates"]
    steps = updates["steps"]
    module = bat_module(case, len(steps))
    student = {public: parameter(module, public).detach().clone() for public in updates["student_change_norm"]}
    teacher = bat_module(case).teacher.encoder.state_dict()

    recorder = fit(module, [log_mel_batch(bat_input(case, i)) for i in range(len(steps))], tmp_path, updates["clip_norm"])

    assert recorder.rates == [[pytest.approx(step["lr"])] for step in steps]
    ema = next(callback for callback in module.trainer.callbacks if isinstance(callback, EMATeacher))
    for decay, step in zip([*recorder.decays[1:], ema.decay], steps, strict=True):
        assert decay == pytest.approx(step["ema_decay"], abs=1e-7)  # the public table is in float32
    for found, step in zip(recorder.steps, steps, strict=True):
        assert found["train/loss/utterance"] == pytest.approx(step["global_loss"], rel=1e-4)
        assert found["train/loss/regression"] == pytest.approx(step["local_loss"], rel=1e-4)
    for public, norm in updates["student_change_norm"].items():
        change = parameter(module, public) - student[public]
        assert without_keys(public, change).norm().item() == pytest.approx(norm, rel=1e-3), public
    for public, norm in updates["teacher_change_norm"].items():
        (ours,) = rename({public: torch.zeros(1, 1, 1)}, name)["encoder"]
        change = module.teacher.encoder.state_dict()[ours] - teacher[ours]
        assert without_keys(public, change).norm().item() == pytest.approx(norm, rel=1e-3), public


def without_keys(public: str, change: torch.Tensor) -> torch.Tensor:
    """The gradient of the keys' biases is rounding noise."""
    if not public.endswith("qkv.bias"):
        return change
    query, _, value = change.chunk(3)
    return torch.cat([query, value])


@pytest.mark.parametrize("name", case_names("initial_weights_bat*"))
def test_initial_weights_are_drawn_as_published(name, reference):
    """D10."""
    case = reference.case(name)
    cfg = case["cfg"]
    shapes = {public: told["shape"] for public, told in case["per_parameter"].items()}
    time_patches = cfg["input_shape"][0] // cfg["patch_size"][0]
    arguments = bat_arguments({**cfg, "decoder_mlp_ratio": 4})
    weights = from_bat(bat_state(shapes, time_patches=time_patches), arguments, name)

    def construct() -> dict[str, torch.Tensor]:
        module = PretrainModule(weights.encoder, decoder=weights.decoder_config, targets=TeacherTargets(2))
        for key, value in module.teacher.encoder.named_parameters():
            assert torch.equal(value, module.student.get_parameter(key)), key
        found = {public: parameter(module, public) for public in shapes if public != "encoder.pos_embed"}
        found["encoder.pos_embed"] = module.student.front_end._positions(torch.zeros(shapes["encoder.pos_embed"]))[None]
        return {public: value.view(shapes[public]) for public, value in found.items()}

    assert_same_initial_weights(case, construct)
