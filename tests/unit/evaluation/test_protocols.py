"""Every protocol against values by hand or by brute force."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer

from sslam_lightning.data import BrokenClip
from sslam_lightning.data.modules.synthetic import SyntheticDataset
from sslam_lightning.evaluation import KNN, AttentiveProbe, ConvexGatedProbe, FineTuning, LinearProbe
from sslam_lightning.evaluation.frozen import FrozenBatch, FrozenClips
from sslam_lightning.evaluation.protocols.finetune import _Scores
from sslam_lightning.evaluation.protocols.knn import knn_probabilities
from sslam_lightning.evaluation.protocols.probe import StandardizedLinear
from sslam_lightning.evaluation.protocols.scoring import loss, probabilities, score
from sslam_lightning.evaluation.protocols.token_probes import AttentivePooling, ConvexGate
from sslam_lightning.evaluation.runs import ClipCounts

# kNN ------------------------------------------------------------------------------------------------------------------


def test_knn_by_brute_force():
    generator = np.random.default_rng(0)
    train, clips = generator.normal(size=(11, 5)), generator.normal(size=(4, 5))
    labels = (generator.random((11, 3)) < 0.4).astype(float)
    wanted = np.zeros((4, 3))
    for i, clip in enumerate(clips):
        similarity = [clip @ row / np.linalg.norm(clip) / np.linalg.norm(row) for row in train]
        nearest = sorted(range(11), key=lambda j: -similarity[j])[:4]
        weights = [math.exp(similarity[j] / 0.3) for j in nearest]
        wanted[i] = sum(w * labels[j] for w, j in zip(weights, nearest, strict=True)) / sum(weights)
    tensors = (torch.from_numpy(rows).float() for rows in (train, labels, clips))
    found = knn_probabilities(*tensors, 4, 0.3)
    np.testing.assert_allclose(found.numpy(), wanted, atol=1e-6)


def test_the_nearest_neighbor_decides_alone():
    train = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
    found = knn_probabilities(train, torch.eye(3), torch.tensor([[0.1, 5.0], [-3.0, 0.0]]), 1, 0.07)
    assert found.tolist() == [[0, 1, 0], [0, 0, 1]]


def test_knn_chooses_on_validation_clips(opened, task_of):
    task = task_of(opened())
    outcome = KNN(neighbors=(3, 100)).run(task)
    assert outcome.chosen["neighbors"] == 3  # there are no 100
    learn, _, judged = task.for_choosing()
    by_pooling = []
    for place in (0, 1):
        pooled, labels = task.train.pooled[:, place], task.train.labels
        by_pooling.append(
            score("mAP", knn_probabilities(pooled[learn], labels[learn], pooled[judged], 3, 0.07), labels[judged])
        )
    assert outcome.notes["validation"] == pytest.approx(max(by_pooling).value)
    place = ("cls", "mean").index(outcome.chosen["pooling"])
    assert by_pooling[place] == max(by_pooling)
    final = knn_probabilities(task.train.pooled[:, place], task.train.labels, task.test.pooled[:, place], 3, 0.07)
    assert outcome.scores == [pytest.approx(score("mAP", final, task.test.labels).value)]
    with pytest.raises(ValueError, match="100 neighbors cannot be found among 18 training clips"):
        KNN(neighbors=[100]).run(task)


def test_without_a_cls_token_there_is_only_the_mean(opened, task_of):
    task = task_of(opened("frames"))
    assert torch.equal(task.train.pooled[:, 0], task.train.pooled[:, 1])
    for protocol in (KNN(neighbors=[3]), LinearProbe(epochs=1)):
        assert protocol.run(task).chosen["pooling"] == "mean"


# Linear ---------------------------------------------------------------------------------------------------------------


def test_features_are_standardized_before_the_linear_layer():
    features = torch.tensor([[1.0, 10.0], [3.0, 10.0]])
    linear = StandardizedLinear(features, 1, place=1)
    with torch.no_grad():
        linear.linear.weight.copy_(torch.tensor([[2.0, 5.0]]))
        linear.linear.bias.fill_(0.25)
    batch = torch.zeros(2, 2, 2)
    batch[:, 1] = features
    found = linear(FrozenBatch(batch, torch.zeros(2, 1)))
    torch.testing.assert_close(found[:, 0], torch.tensor([-1.75, 2.25]))  # a channel that never changes counts for nothing


def test_a_linear_probe_finds_what_is_linear(opened, task_of):
    """Labels that are signs of directions in the features: learned to the end, on clips that it has not seen."""
    task = task_of(opened(num_frames=16), num_train=100, num_val=40)
    generator = torch.Generator().manual_seed(0)
    for clips, count in ((task.train, 100), (task.test, 40)):
        clips.pooled = torch.randn(count, 2, 16, generator=generator) * 3 + 7
        clips.labels = (clips.pooled[:, 1, :4] > 7).float()
    outcome = LinearProbe([1e-2, 3e-2], epochs=30).run(task)
    assert outcome.chosen["pooling"] == "mean"
    assert outcome.scores[-1] > 0.85  # chance: a half
    assert outcome.scores[0] < outcome.scores[-1]
    assert len(outcome.scores) == 30
    assert outcome.notes["scored_classes"] == 4


def test_the_test_clips_choose_nothing(opened, task_of, monkeypatch):
    task = task_of(opened())
    asked = []
    batches = FrozenClips.batches
    monkeypatch.setattr(
        FrozenClips,
        "batches",
        lambda self, level, chosen, size: (
            asked.append((self is task.test, len(chosen))),
            batches(self, level, chosen, size),
        )[1],
    )
    probe = LinearProbe(epochs=2, poolings=["mean"], batch_size=64)
    probe.run(task)
    # Two epochs on what is left of the training clips, then one look at the others; then all of them, and the test clips.
    assert asked == [(False, 18), (False, 18), (False, 6), (False, 24), (True, 8), (False, 24), (True, 8)]
    asked.clear()
    LinearProbe(learning_rates=[0.1], epochs=1, poolings=["mean"]).run(task)  # nothing to choose
    assert asked == [(False, 24), (True, 8)]


def test_a_seed_says_everything_about_a_probe(opened, task_of):
    task = task_of(opened())
    first = AttentiveProbe([1e-2], epochs=2).run(task)
    torch.manual_seed(1)
    assert AttentiveProbe([1e-2], epochs=2).run(task) == first
    assert AttentiveProbe([1e-2], epochs=2).run(replace(task, seed=1)) != first


# Attentive ------------------------------------------------------------------------------------------------------------


def test_attention_sums_to_one_and_leaves_padding_out():
    pooling = AttentivePooling(8, 3, num_heads=2)
    with torch.no_grad():
        pooling.query.mul_(100)
    tokens, padding = torch.randn(2, 5, 8), torch.tensor([[False] * 5, [False] * 3 + [True] * 2])
    weights = pooling.attention(tokens, padding)
    assert weights.shape == (2, 2, 5)
    torch.testing.assert_close(weights.sum(dim=2), torch.ones(2, 2))
    assert weights[1, :, 3:].eq(0).all()
    assert weights[1, :, :3].gt(0).all()
    layers = torch.randn(2, 2, 6, 8)
    changed = layers.clone()
    changed[1, :, 4:] += 1  # padding
    changed[:, 0] += 1  # a lower layer
    changed[:, :, 0] += 1  # the CLS token
    labels = torch.zeros(2, 3)
    assert torch.equal(pooling(FrozenBatch(layers, labels, padding)), pooling(FrozenBatch(changed, labels, padding)))


def test_an_attentive_probe_by_hand():
    """Keys that are the tokens, a query along the first channel: softmax over the tokens' first channels."""
    pooling = AttentivePooling(4, 1)
    pooling.norm = torch.nn.Identity()
    with torch.no_grad():
        for linear in (pooling.keys, pooling.values):
            linear.weight.copy_(torch.eye(4))
            linear.bias.zero_()
        pooling.query.copy_(torch.tensor([[2.0, 0, 0, 0]]))  # times 4 ** -0.5 is 1
        pooling.linear.weight.copy_(torch.tensor([[0.0, 1, 0, 0]]))
        pooling.linear.bias.zero_()
    tokens = torch.tensor([[[9.0, 9, 9, 9], [0, 10, 0, 0], [math.log(3), 20, 0, 0]]]).unsqueeze(1)
    assert pooling(FrozenBatch(tokens, torch.zeros(1, 1))).item() == pytest.approx(10 / 4 + 20 * 3 / 4)
    pooling(FrozenBatch(tokens, torch.zeros(1, 1))).sum().backward()
    # d(softmax . values) / d query_0 = scale * weight_0 weight_1 (key_1 - key_0) (value_1 - value_0)
    assert pooling.query.grad[0, 0].item() == pytest.approx(0.5 * 0.25 * 0.75 * math.log(3) * 10, rel=1e-5)


# Convex gate ----------------------------------------------------------------------------------------------------------


def _gate() -> ConvexGate:
    """Two layers, two prototypes along the axes, the second layer three times as heavy."""
    gate = ConvexGate(2, 2, 2, 1)
    with torch.no_grad():
        gate.layer_logits.copy_(torch.tensor([0.0, math.log(3)]))
        gate.prototypes.copy_(torch.tensor([[5.0, 0.0], [0.0, 0.2]]))
    return gate


def test_a_convex_gate_by_hand():
    layers = torch.tensor(
        [  # CLS token, then two patches
            [[[2.0, 0.0], [0.0, 3.0], [1.0, 0.0]], [[4.0, 0.0], [0.0, 1.0], [0.0, 7.0]]],
        ]
    )
    # Unit vectors, then 1/4 of the first layer and 3/4 of the second:
    # clip (1, 0); patches (0, 1) and (1/4, 3/4), not made of length 1 again (D10).
    wanted = torch.tensor([[0.0, 1.0, 0.25, 0.75, 0.0, 1.0]])  # of each prototype minimum, CLS token, maximum
    torch.testing.assert_close(_gate().gathered(layers), wanted)
    mean = _gate()
    mean.summary = "mean"
    wanted[0, 1::3] = torch.tensor([0.125, 0.875])
    torch.testing.assert_close(mean.gathered(layers), wanted)
    gate = _gate()
    with torch.no_grad():
        gate.linear.weight.copy_(torch.tensor([[1.0, 10, 100, 1000, 10000, 100000]]))
        gate.linear.bias.zero_()
    found = gate(FrozenBatch(layers, torch.zeros(1, 1))).item()
    assert found == pytest.approx(10 * 1.0 + 100 * 0.25 + 1000 * 0.75 + 100000, rel=1e-5)


def test_padding_is_neither_the_smallest_nor_the_largest():
    layers = torch.tensor([[[[1.0, 0.0], [1.0, 1.0], [0.0, 1.0]]] * 2])
    found = _gate().gathered(layers, torch.tensor([[False, True]]))
    half = math.sqrt(0.5)
    torch.testing.assert_close(found, torch.tensor([[half, 1.0, half, half, 0.0, half]]))


def test_layers_prototypes_and_the_linear_layer_all_learn():
    gate = ConvexGate(4, 3, 5, 2)
    gate(FrozenBatch(torch.randn(2, 3, 6, 4), torch.zeros(2, 2))).square().sum().backward()
    for name, parameter in gate.named_parameters():
        assert parameter.grad.abs().max() > 0, name
    assert len(list(gate.parameters())) == 4


def test_a_convex_gated_probe_learns_the_same_from_kept_and_from_fresh_features(opened, task_of):
    model, probe = opened(), ConvexGatedProbe([1e-2, 3e-2], epochs=2, num_prototypes=16, batch_size=6)
    kept, anew = (probe.run(task_of(model, max_bytes)) for max_bytes in (1e9, 0))
    assert len(kept.scores) == 2
    assert kept.chosen["learning_rate"] in (1e-2, 3e-2)
    assert anew.chosen == kept.chosen
    assert anew.scores == pytest.approx(kept.scores, abs=1e-3)
    assert anew.notes == pytest.approx(kept.notes, abs=1e-3)


# Scores and settings --------------------------------------------------------------------------------------------------


def test_losses_and_scores_by_hand():
    logits = torch.tensor([[math.log(3.0), 0.0], [0.0, 0.0]])
    one_class = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    assert loss("accuracy", logits, one_class).item() == pytest.approx((math.log(4 / 3) + math.log(2)) / 2)
    several = torch.tensor([[1.0, 1.0], [0.0, 0.0]])
    assert loss("mAP", logits, several).item() == pytest.approx((math.log(4 / 3) + 3 * math.log(2)) / 2)
    torch.testing.assert_close(probabilities("accuracy", logits), torch.tensor([[0.75, 0.25], [0.5, 0.5]]))
    torch.testing.assert_close(probabilities("mAP", logits), torch.tensor([[0.75, 0.5], [0.5, 0.5]]))
    assert score("accuracy", torch.tensor([[0.9, 0.1], [0.8, 0.2]]), one_class) == (0.5, 2)
    ranked = torch.tensor([[0.9, 0.5], [0.8, 0.5], [0.7, 0.5]])
    assert score("mAP", ranked, torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 0.0]])) == (0.5, 1)
    with pytest.raises(ValueError, match="mAP has nothing to score: none of 3 clips has a label"):
        score("mAP", ranked, torch.zeros(3, 2))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: KNN(neighbors=[0]), r"knn: neighbors must be whole numbers from 1, got \[0\]"),
        (lambda: KNN(poolings=["max"]), r"knn: poolings are cls and mean, got \['max'\]"),
        (lambda: KNN(temperature=0), "knn: temperature must be positive, got 0"),
        (lambda: LinearProbe(poolings=[]), r"linear: poolings are cls and mean, got \[\]"),
        (lambda: LinearProbe(learning_rates=[-1.0]), r"LinearProbe: learning_rates must be positive, got \[-1\.0\]"),
        (lambda: LinearProbe(epochs=0), "LinearProbe: epochs and batch_size must be at least 1 .* got 0, 64 and 0"),
        (lambda: AttentiveProbe(num_heads=0), "attentive: num_heads must be at least 1, got 0"),
        (lambda: AttentivePooling(8, 2, 3), "attentive: the encoder's width 8 is no multiple of num_heads 3"),
        (lambda: ConvexGatedProbe(num_prototypes=0), "convex_gated: num_prototypes must be at least 1, got 0"),
        (lambda: FineTuning(updates=5, evaluations=6), "finetune: .* evaluations between 1 and updates, got 5, 48 and 6"),
        (
            lambda: FineTuning(model={"encoder": {}}),
            r"finetune: model\.encoder is not set here: it comes from the checkpoint",
        ),
        (lambda: FineTuning(model={"poling": "mean"}), "finetune: .*poling"),
    ],
)
def test_impossible_settings(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_clip_protocols_refuse_other_metrics(opened, task_of):
    task = replace(task_of(opened()), metric="event F1")
    for protocol in (KNN(), LinearProbe(), FineTuning()):
        with pytest.raises(ValueError, match="scores clips by accuracy or mAP, not by event F1: name it in the suite's"):
            protocol.run(task)


# Fine-tuning ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("evaluations", "behind"), [(2, [3, 5]), (3, [2, 4, 5]), (4, [2, 4, 5]), (5, [1, 2, 3, 4, 5])])
def test_fine_tuning_is_scored_no_more_often_than_asked_for(evaluations, behind, opened, task_of, monkeypatch):
    found, end = [], _Scores.on_validation_end
    noted = lambda self, trainer, module: (found.append(trainer.global_step), end(self, trainer, module))  # noqa: E731
    monkeypatch.setattr(_Scores, "on_validation_end", noted)
    model = {"frozen_encoder": True, "pooling": "mean"}
    tuning = FineTuning(updates=5, batch_size=6, evaluations=evaluations, model=model)
    assert len(tuning.run(task_of(opened())).scores) == len(behind)
    assert found == behind


def test_fine_tuning_counts_and_names_what_it_leaves_out(opened, task_of, monkeypatch):
    good = SyntheticDataset.__getitem__

    def broken(self, key):
        index = key if isinstance(key, int) else key[1]
        return BrokenClip(f"{self.split} {index}", "no sound") if index < 2 else good(self, key)

    monkeypatch.setattr(SyntheticDataset, "__getitem__", broken)
    task = task_of(opened(), max_unreadable_fraction=0.5)
    tuning = FineTuning(updates=8, batch_size=6, evaluations=2, model={"frozen_encoder": True, "pooling": "mean"})
    notes = tuning.run(task).notes  # every training clip comes twice, and every test clip
    assert [notes[name] for name in ClipCounts._fields] == [8, 2, 2]
    assert task.store.broken == dict.fromkeys(["train 0", "train 1", "test 0", "test 1"], "no sound")


def test_fine_tuning_is_scored_on_the_test_clips_now_and_at_the_end(opened, task_of, monkeypatch):
    seen = {}
    fit = Trainer.fit

    def watched(self, module, datamodule):
        seen.update(module=module, clips=len(datamodule.val_dataloader().dataset), seed=datamodule.seed)
        fit(self, module, datamodule=datamodule)

    monkeypatch.setattr(Trainer, "fit", watched)
    model = {"frozen_encoder": True, "frozen_drop_path": True, "optimizer": {"lr": 1e-3}, "pooling": "mean"}
    outcome = FineTuning(updates=5, batch_size=6, evaluations=2, drop_path=0.3, model=model).run(
        task_of(opened(), validation="val", num_val=8)
    )
    assert len(outcome.scores) == 2  # behind 3 updates, and at the end
    module = seen["module"]
    assert (module.frozen_drop_path, module.encoder.config.drop_path_end, module.num_classes) == (True, 0.3, 4)
    assert module.optimizer_config.lr == 1e-3
    assert seen["clips"] == 8
    assert all(0 <= value <= 1 for value in outcome.scores)


@pytest.mark.parametrize(
    "protocol", [KNN([1]), LinearProbe([1e-2], epochs=1), FineTuning(updates=2, batch_size=6, evaluations=1)]
)
def test_an_mAP_comes_with_the_number_of_its_classes(protocol, opened, task_of):
    """Two clips for testing, which have fewer classes than there are: counted from the labels."""
    task = task_of(opened(), num_train=12, num_val=2, num_classes=9)
    wanted = int((task.test.labels > 0).any(dim=0).sum())
    assert 1 <= wanted < task.num_classes
    assert protocol.run(task).notes["scored_classes"] == wanted
