"""BAT's probes on all layers, and a whole model on a clip longer than its table of positions (D10)."""

from __future__ import annotations

import pytest
import torch
from bat_cases import assert_close, bat_state
from recipes import recipe_input, recipe_tensor
from reference_data import case_names

from sslam_lightning.checkpoints import from_bat, open_encoder
from sslam_lightning.evaluation.frozen import FrozenBatch
from sslam_lightning.evaluation.model import all_layers
from sslam_lightning.evaluation.protocols.token_probes import ConvexGate, LayerMix
from sslam_lightning.models import EncoderInput

CASES = case_names("bat_convex_gated_probe*")
PUBLIC = {
    "prototype_vectors": "prototypes",
    "block_attention": "layer_logits",
    "fc.weight": "linear.weight",
    "fc.bias": "linear.bias",
}


def convex_gate(shapes: dict[str, list[int]], summary: str = "cls") -> ConvexGate:
    """With the recipe's weights."""
    state = {PUBLIC[name]: recipe_tensor(f"head.{name}", shape) for name, shape in shapes.items()}
    state["prototypes"] = state["prototypes"].flatten(1)
    prototypes, dim = state["prototypes"].shape
    gate = ConvexGate(dim, len(state["layer_logits"]), prototypes, len(state["linear.bias"]), summary)
    gate.load_state_dict(state)
    return gate


@pytest.mark.parametrize("name", CASES)
def test_the_probes_on_stored_layers(name, reference):
    """D10: the mixture of the layers is not normalized a second time."""
    case = reference.case(name)
    tokens = 1 + case["time_patches"] * case["mel_patches"]
    stored = recipe_input(case["seed"], (case["num_layers"], case["batch"], tokens, case["dim"]))
    batch = FrozenBatch(stored.transpose(0, 1), torch.zeros(case["batch"], case["num_classes"]))
    wanted = case["logits"]
    gate = convex_gate(case["parameters"])
    logits = gate(batch)
    assert_close(logits, wanted["clip_token"])
    assert_close(convex_gate(case["parameters"], "mean")(batch), wanted["patch_mean"])
    assert_close(gate.frame_logits(batch.features, case["mel_patches"]), wanted["frame_wise"])
    loss = logits.square().mean()
    loss.backward()
    assert loss.item() == pytest.approx(case["loss"], rel=1e-4)
    for public, norm in case["grad_norm"].items():
        assert gate.get_parameter(PUBLIC[public]).grad.norm().item() == pytest.approx(norm, rel=1e-3), public
    for summary, told in (("cls", "linear_layer_mix_clip_token"), ("mean", "linear_layer_mix_patch_mean")):
        mix = LayerMix(case["dim"], case["num_layers"], case["num_classes"], summary, norm=False)
        shapes = {"block_attention": [case["num_layers"]], "fc.weight": list(mix.linear.weight.shape)}
        shapes["fc.bias"] = [case["num_classes"]]
        mix.load_state_dict({PUBLIC[key]: recipe_tensor(f"head.{key}", shape) for key, shape in shapes.items()})
        assert_close(mix(batch), wanted[told])


@pytest.mark.parametrize("name", CASES)
def test_a_clip_longer_than_the_table_is_encoded_in_pieces(name, reference):
    """D10: through the importer; the CLS tokens of the pieces are averaged layer by layer."""
    case = reference.case(name)
    long = case["long_clip"]
    shapes = long["parameters"]
    state = bat_state({key: shape for key, shape in shapes.items() if not key.startswith("head.")})
    arguments = {key: long[key] for key in ("dim", "depth", "num_heads", "mlp_ratio")}
    weights = from_bat({f"encoder.{key}": value for key, value in state.items()}, arguments, name)
    encoder = open_encoder(weights).eval()
    assert long["frames"] > 16 * encoder.config.max_time_patches
    log_mels = recipe_input(long["seed"], (long["batch"], 1, long["frames"], 128)).squeeze(1)

    layers = all_layers(encoder, EncoderInput(log_mels))

    gate = convex_gate({key.removeprefix("head."): shape for key, shape in shapes.items() if key.startswith("head.")})
    logits = gate(FrozenBatch(layers.tokens, torch.zeros(long["batch"], 0)))
    assert_close(logits, long["logits"])
    with torch.no_grad():
        encoded = encoder(log_mels)
    assert_close(torch.cat([encoded.cls.unsqueeze(1), encoded.tokens], dim=1), layers.tokens[:, -1])
