"""FinetuneModule on a model of transformers: rates by layer, a frozen encoder, and what does not go together."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from sslam_lightning.augment import Mixup
from sslam_lightning.features import LogMels
from sslam_lightning.models import Encoder, EncoderConfig, HuggingFaceConfig, TransformerDecoderConfig
from sslam_lightning.training import FinetuneModule
from sslam_lightning.training.run.optimizers import OptimizerConfig, build_optimizer
from sslam_lightning.training.run.sharding import ShardedStrategy

transformers = pytest.importorskip("transformers")

SIZE = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
VIT = HuggingFaceConfig("vit", {**SIZE, "image_size": 16, "patch_size": 4})
AST = HuggingFaceConfig("audio-spectrogram-transformer", {**SIZE, "max_length": 32, "time_stride": 16})
TEXT = HuggingFaceConfig("roberta", {**SIZE, "vocab_size": 40})


def module(encoder: HuggingFaceConfig = VIT, **settings: Any) -> FinetuneModule:
    torch.manual_seed(0)
    return FinetuneModule(hugging_face=encoder, **{"features": None, "num_classes": 3, "pooling": "mean", **settings})


def test_rates_fall_towards_the_input() -> None:
    made = module()
    optimizer = build_optimizer(
        made.trainable_modules(), OptimizerConfig(lr=1.0, layer_decay=0.5), made.encoder.depth, False
    )
    rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    model = made.encoder.model
    for part, rate in (
        (model.embeddings, 0.125),
        (model.layers[0], 0.25),
        (model.layers[1], 0.5),
        (model.layernorm, 1.0),
        (made.head, 1.0),
    ):
        assert {rates.pop(id(p)) for p in part.parameters() if p.requires_grad} == {rate}
    assert rates == {}


def test_a_frozen_encoder_stays_as_it_is() -> None:
    made = module(frozen_encoder=True).train()
    assert not any(part.training for part in made.encoder.modules())
    assert {name.split(".")[0] for name, p in made.named_parameters() if p.requires_grad} == {"head"}
    assert not any(p.requires_grad for name, p in module().named_parameters() if "pooler" in name)


def test_the_prediction_is_made_from_the_clip_s_own_tokens() -> None:
    made, tokens = module(TEXT).eval(), torch.randint(4, 40, (2, 7))
    padding = torch.arange(7) >= torch.tensor([[7], [3]])
    with torch.no_grad():
        plain = made.encoder.model(tokens[1:, :3]).last_hidden_state.mean(dim=1)
        expected = made.head.linear(made.head.norm(plain))
        tokens[1, 3:] = 1
        torch.testing.assert_close(made(tokens, padding)[1:], expected)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"features": LogMels()}, r"this model of transformers reads no log-mels: set model\.features to null"),
        ({"encoder": AST}, r"expects 128 mels of 32 frames, the features have no mels"),
        (
            {"encoder": AST, "features": LogMels(num_frames=64)},
            r"expects 128 mels of 32 frames, the features have 128 mels of 64 frames",
        ),
        (
            {"encoder": TEXT, "mixup": Mixup()},
            r"mixup blends log-mels or images, the HuggingFaceReader front-end reads neither",
        ),
    ],
)
def test_what_does_not_go_together(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        module(**settings)


def test_weights_that_are_not_for_this_module(tmp_path: Path) -> None:
    transformers.ViTModel(VIT.resolve()).save_pretrained(tmp_path / "vit")
    with pytest.raises(ValueError, match=r"holds a vit of transformers, the configured encoder is one of this project"):
        FinetuneModule(EncoderConfig(dim=32, depth=1, num_heads=2)).load_pretrained(str(tmp_path / "vit"))
    decoder = TransformerDecoderConfig(dim=16, depth=1, num_heads=2)
    with pytest.raises(ValueError, match=r"vit holds no decoder: set model\.decoder to null"):
        module(decoder=decoder, pooling="mean").load_pretrained(str(tmp_path / "vit"))
    own = FinetuneModule(EncoderConfig(dim=32, depth=1, num_heads=2), LogMels(num_frames=32))
    assert isinstance(own.encoder, Encoder)
    checkpoint = {"state_dict": own.state_dict(), "hyper_parameters": dict(own.hparams), "pytorch-lightning_version": "2"}
    own.on_save_checkpoint(checkpoint)
    torch.save(checkpoint, tmp_path / "own.ckpt")
    with pytest.raises(
        ValueError, match=r"holds an encoder of this project, the configured one is a model of transformers"
    ):
        module().load_pretrained(str(tmp_path / "own.ckpt"))


def test_no_sharding(monkeypatch: pytest.MonkeyPatch) -> None:
    made = module()
    made._trainer = SimpleNamespace(strategy=ShardedStrategy.__new__(ShardedStrategy))
    with pytest.raises(ValueError, match=r"do not train with FSDP here: train with --trainer\.strategy=ddp"):
        made.configure_model()
