"""EAT's fine-tuned models: pooling, losses, gradients, and what layer decay and drop path make of the settings."""

from __future__ import annotations

import pytest
import torch
from recipes import log_mel_batch, recipe_input, recipe_state
from reference_data import case_names

from sslam_lightning.checkpoints import Weights, convert, load_classifier, load_state_dict_strict
from sslam_lightning.checkpoints.formats.fairseq import from_fairseq_file, rename
from sslam_lightning.training import FinetuneModule
from sslam_lightning.training.run.optimizers import OptimizerConfig, build_optimizer

_POOLED = case_names("eat_finetune_linear_softmax*")
_SPEECH = case_names("eat_finetune_speech_commands*")
_DECAY = case_names("eat_finetune_layer_decay*")


def _read(case: dict, name: str) -> Weights:
    weights = from_fairseq_file({"model": recipe_state(case["parameters"]), "cfg": case["cfg"]}, name)
    assert not weights.unused
    return weights


def _module(weights: Weights, case: dict, **settings) -> FinetuneModule:
    multi_label = case["cfg"]["task"]["spcv2_eval"] is False
    settings = {"num_classes": case["num_classes"], "multi_label": multi_label, "pooling": weights.pooling, **settings}
    module = FinetuneModule(weights.encoder, **settings)
    load_state_dict_strict(module.encoder, weights.student, "student", weights.source)
    load_state_dict_strict(module.head, weights.head, "head", weights.source)
    return module


def _log_mels(case: dict) -> torch.Tensor:
    return recipe_input(case["seed"], (case["batch"], 1, case["frames"], 128)).squeeze(1)


def _assert_close(ours: torch.Tensor, theirs) -> None:
    theirs = torch.tensor(theirs)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-4 * theirs.abs().max().item())


def _assert_gradients(module: FinetuneModule, norms: dict[str, float]) -> None:
    ours = {"encoder": module.encoder, "head": module.head}
    for public, norm in norms.items():
        ((part, renamed),) = ((p, n) for p, n in rename({public: torch.zeros(())})[0].items() if n)
        gradient = ours[part].get_parameter(next(iter(renamed))).grad
        assert gradient.norm().item() == pytest.approx(norm, rel=1e-3, abs=1e-6), public
    assert len(norms) == sum(1 for _ in module.parameters())


@pytest.mark.parametrize("name", _POOLED)
def test_linear_softmax_pools_the_features(name, reference, monkeypatch):
    """D3: pooled features, logits, loss and gradients; a training step gives the same loss."""
    case, arrays = reference.case(name), reference.arrays(name)
    weights = _read(case, name)
    assert weights.pooling == "linear_softmax"
    module, log_mels, labels = (
        _module(weights, case, bce_reduction="positives"),
        _log_mels(case),
        torch.tensor(case["labels"]),
    )
    _assert_close(module.head.pool(module.encoder(log_mels)), arrays["pooled"])
    _assert_close(module(log_mels), arrays["logits"])

    monkeypatch.setattr(module, "log", lambda *_, **__: None)
    monkeypatch.setattr(module, "augmented", lambda batch: (batch.waveforms, batch.labels, None))
    loss = module.training_step(log_mel_batch(log_mels)._replace(labels=labels), 0)
    loss.backward()
    assert loss.item() == pytest.approx(case["total"], rel=1e-4)
    _assert_gradients(module, case["grad_norm"])


@pytest.mark.parametrize("form", ["safetensors", "fairseq"])
@pytest.mark.parametrize("name", _POOLED)
def test_linear_softmax_in_other_forms(name, form, reference, tmp_path):
    """D3: the logits of the file converted to a form and read again."""
    case, arrays = reference.case(name), reference.arrays(name)
    torch.save({"model": recipe_state(case["parameters"]), "cfg": case["cfg"]}, tmp_path / "public.pt")
    place = convert(tmp_path / "public.pt", tmp_path / form, form).target
    with torch.no_grad():
        _assert_close(load_classifier(place)(_log_mels(case)), arrays["logits"])


@pytest.mark.parametrize("name", _SPEECH)
def test_speech_commands_with_mixup(name, reference):
    """D4: binary cross entropy of mixed clips, divided by clips and without smoothing."""
    case, arrays = reference.case(name), {n: torch.tensor(a) for n, a in reference.arrays(name).items()}
    module = _module(_read(case, name), case, criterion="binary_cross_entropy")
    logits = module(arrays["mixed_input"].squeeze(1))
    _assert_close(logits, arrays["logits_of_mixed"].numpy())
    loss = module.loss(logits, arrays["mixed_targets"])
    loss.backward()
    assert loss.item() == pytest.approx(case["total"], rel=1e-4)
    _assert_gradients(module, case["grad_norm"])


@pytest.mark.parametrize("name", _SPEECH)
def test_speech_commands_in_evaluation_and_without_mixup(name, reference):
    """D4: in evaluation the same criterion; without mixup cross entropy, whose smoothing is training's alone."""
    case = reference.case(name)
    weights, log_mels = _read(case, name), _log_mels(case)
    targets = torch.nn.functional.one_hot(torch.tensor(case["targets"]), case["num_classes"]).float()
    binary = _module(weights, case, criterion="binary_cross_entropy").eval()
    plain = _module(weights, case, label_smoothing=0.1)
    with torch.no_grad():
        logits = binary(log_mels)
        assert binary.loss(logits, targets).item() == pytest.approx(case["evaluation_loss"]["total"], rel=1e-4)
        assert plain.loss(logits, targets).item() == pytest.approx(case["without_mixup"]["total"], rel=1e-4)
        assert plain.eval().loss(logits, targets).item() == pytest.approx(
            torch.nn.functional.cross_entropy(logits, targets).item()
        )


@pytest.mark.parametrize("name", _DECAY)
def test_layer_decay_and_drop_path_with_a_prenet(name, reference):
    """D6: the prenet's blocks count as layers."""
    case = reference.case(name)
    weights = _read(case, name)
    cfg = case["cfg"]["model"]
    weights.encoder.drop_path_end = case["drop_path_rate"]
    optimizer = OptimizerConfig(
        lr=1.0, weight_decay=0.05, decay_all=True, layer_decay=case["layer_decay"], layer_decay_embedding=False
    )
    module = FinetuneModule(weights.encoder, num_classes=cfg["num_classes"], optimizer=optimizer)
    assert (len(module.encoder.prenet), len(module.encoder.blocks)) == (case["prenet_depth"], case["depth"])

    groups = build_optimizer(module.trainable_modules(), optimizer, module.encoder.depth, fused=False).param_groups
    applied = {id(p): (group["lr"], group["weight_decay"]) for group in groups for p in group["params"]}
    ours = {"encoder": module.encoder, "head": module.head}
    for public, expected in case["applied"].items():
        ((part, renamed),) = ((p, n) for p, n in rename({public: torch.zeros(())})[0].items() if n)
        found = applied.pop(id(ours[part].get_parameter(next(iter(renamed)))))
        assert found == pytest.approx((expected["lr"], expected["weight_decay"])), public
    assert not applied

    blocks = {
        **{f"model.modality_encoders.IMAGE.context_encoder.blocks.{i}": b for i, b in enumerate(module.encoder.prenet)},
        **{f"model.blocks.{i}": block for i, block in enumerate(module.encoder.blocks)},
    }
    assert {n: block.drop_path.probability for n, block in blocks.items()} == pytest.approx(case["drop_path"])
