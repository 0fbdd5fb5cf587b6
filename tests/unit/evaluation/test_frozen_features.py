from __future__ import annotations

import numpy as np
import pytest
import soundfile
import torch
from front_ends import FRONT_ENDS

from sslam_lightning.data import BrokenClip, SyntheticDataModule
from sslam_lightning.data.loading.dataset import RecordingDataset
from sslam_lightning.data.loading.event_dataset import Annotated, EventDataset
from sslam_lightning.data.manifests.recordings import make_recordings
from sslam_lightning.data.modules.mixtures import MixtureDataset
from sslam_lightning.evaluation.frozen import FeatureStore
from sslam_lightning.evaluation.identity import clip_key, digest_of_clips, known_clips
from sslam_lightning.evaluation.model import all_layers
from sslam_lightning.models import EncoderInput
from sslam_lightning.models.encoder import mean_of_tokens
from sslam_lightning.types import Batch, Event


def _whole(clips) -> torch.Tensor:
    return torch.cat([batch.features for batch in clips.batches("layers", torch.arange(len(clips)), 7)])


@pytest.mark.parametrize("front_end", FRONT_ENDS)
def test_the_last_layer_is_the_encoders_output(front_end, opened):
    model = opened(front_end)
    waveforms = torch.randn(3, 10400) * 0.1
    lengths = torch.tensor([10400, 10400, 6000])
    readings = model.read(Batch(waveforms, lengths, torch.zeros(3, 1), torch.arange(3), ("a", "b", "c")))
    found = all_layers(model.encoder, readings)
    with torch.no_grad():
        wanted = model.encoder(*readings)
    depth = model.encoder.config.depth
    assert found.tokens.shape == (3, depth, 1 + wanted.tokens.shape[1], 16)
    torch.testing.assert_close(found.tokens[:, -1, 0], wanted.cls)
    torch.testing.assert_close(found.tokens[:, -1, 1:], wanted.tokens)
    assert (found.padding is not None) == (front_end == "waveform")  # log-mels are padded as in training
    assert not torch.allclose(found.tokens[:, 0], found.tokens[:, 1])


def test_the_last_layer_of_a_pre_norm_encoder_comes_out_of_its_norm(opened):
    model = opened("patches")
    model.encoder.output_norm = torch.nn.LayerNorm(16, eps=1e-6)
    clips = torch.randn(2, 64, 128)
    assert torch.equal(all_layers(model.encoder, EncoderInput(clips)).tokens[:, -1, 0], model.encoder(clips).cls)


def test_a_mean_leaves_padding_out():
    tokens = torch.tensor([[[1.0], [2.0], [9.0]]])
    assert mean_of_tokens(tokens, torch.tensor([[False, False, True]])).item() == 1.5
    assert mean_of_tokens(tokens, None).item() == 4.0


def test_waveforms_are_padded_and_cut_to_the_common_length(opened):
    model = opened("waveform", num_frames=50)  # 8000 samples
    labels, index = torch.zeros(2, 1), torch.arange(2)
    long, short = (model.read(Batch(torch.ones(2, n), [n, 3000], labels, index, ("a", "b"))) for n in (10400, 4000))
    assert long.clips.shape == short.clips.shape == (2, 8000)
    assert long.padding is not None
    assert short.padding is not None
    assert torch.equal(long.padding[1], short.padding[1])
    with pytest.raises(ValueError, match=r"clips need a common length: set features\.num_frames in the suite"):
        opened("waveform", num_frames=None).read(Batch(torch.ones(2, 4000), [4000, 3000], labels, index, ()))


@pytest.mark.parametrize("front_end", ["patches", "waveform"])
def test_features_are_computed_once_or_anew_and_are_the_same(front_end, opened, task_of, monkeypatch):
    encoded = []
    encode = FeatureStore.encode
    monkeypatch.setattr(
        FeatureStore, "encode", lambda self, batch: (encoded.append(len(batch.names)), encode(self, batch))[1]
    )
    model = opened(front_end)
    kept, anew = task_of(model), task_of(model, max_bytes=1000)
    first = _whole(kept.train)
    assert first.shape[:2] == (24, 2)
    assert sum(encoded) == 24
    assert torch.equal(_whole(kept.train), first)
    assert kept.train.pooled.shape == (24, 2, 16)
    assert sum(encoded) == 24  # once, whoever asks
    second = _whole(anew.train)
    assert sum(encoded) == 24 + 2 * 24  # for what is pooled, then for all layers
    torch.testing.assert_close(first, second, atol=2e-3, rtol=2e-3)  # kept in half precision
    for place, wanted in ((0, second[:, -1, 0]), (1, second[:, -1, 1:].mean(dim=1))):
        torch.testing.assert_close(anew.train.pooled[:, place], wanted, atol=1e-3, rtol=1e-3)  # pooled in float32


def test_batches_are_the_same_kept_or_anew(opened, task_of):
    model, order = opened(), torch.randperm(24, generator=torch.Generator().manual_seed(0))
    kept, anew = (list(task_of(model, most).train.batches("layers", order, 7)) for most in (1e9, 0))  # data come in fives
    assert [len(batch.labels) for batch in kept] == [len(batch.labels) for batch in anew] == [7, 7, 7, 3]
    for one, other in zip(kept, anew, strict=True):
        assert torch.equal(one.labels, other.labels)
        assert torch.equal(other.features, other.features.half().float())
        torch.testing.assert_close(one.features, other.features, atol=2e-3, rtol=2e-3)  # an ulp of half precision


def test_batches_come_in_the_order_that_is_asked_for(opened, task_of):
    train = task_of(opened()).train
    order = torch.tensor([3, 17, 0, 9])
    for level in ("pooled", "layers"):
        (batch,) = train.batches(level, order, 8)
        assert torch.equal(batch.labels, train.labels[order])
    assert torch.equal(next(train.batches("pooled", order, 8)).features, train.pooled[order])
    assert len(torch.unique(train.pooled[:, 1], dim=0)) == 24


def test_splits_share_the_file_but_not_the_clips(opened, task_of):
    task = task_of(opened())
    train, test = _whole(task.train), _whole(task.test)
    assert torch.equal(_whole(task.train), train)
    assert len(test) == 8
    assert not torch.equal(train[:8], test)


def test_clips_of_one_name_are_encoded_once_where_folds_share_them(opened, task_of, tmp_path):
    task, progress = task_of(opened()), []
    store = FeatureStore(task.model, task.device, tmp_path, 1e9, share_clips=True, progress=progress.append)
    first = store.split(task.data, "train", "1")  # soundscapes are called clip 0, clip 1 and so on in every split
    second = store.split(task.data, "test", "2")
    assert sum(progress) == 24
    assert torch.equal(first.pooled[:8], second.pooled)


@pytest.fixture
def cut_recordings(tmp_path) -> EventDataset:
    """Three clips of one file, each with a tone and a class of its own."""
    tones = [np.sin(2 * np.pi * hz * np.arange(10560) / 16000) for hz in (300, 1000, 3000)]
    soundfile.write(tmp_path / "long.wav", 0.3 * np.concatenate(tones), 16000)
    classes = ["low", "middle", "high"]
    events = [Event(0.66 * number + 0.1, 0.66 * number + 0.5, name) for number, name in enumerate(classes)]
    return EventDataset(tmp_path, [Annotated("long.wav", events)], classes, clip_seconds=0.66)


def test_clips_of_one_recording_are_not_the_same_clip(opened, cut_recordings, tmp_path, monkeypatch):
    data = SyntheticDataModule(num_train=3, batch_size=2, num_workers=0)
    monkeypatch.setattr(data, "dataset", lambda split: cut_recordings)
    store = FeatureStore(opened(), torch.device("cpu"), tmp_path, 1e9, share_clips=True)
    clips = store.split(data, "train", "1")
    assert torch.equal(clips.labels, torch.eye(3))
    assert len(torch.unique(clips.pooled[:, 1], dim=0)) == 3
    assert torch.equal(store.split(data, "test", "2").pooled, clips.pooled)


def test_mixtures_of_the_same_clips_are_told_apart_by_their_levels(tmp_path):
    for number in range(2):
        soundfile.write(tmp_path / f"{number}.wav", np.ones(800) * 0.1, 16000)
    recordings = make_recordings(str(tmp_path), ["0.wav", "1.wav"], [[0], [1]], ["a", "b"])
    mixtures = MixtureDataset(RecordingDataset(recordings), 8)
    assert len({mixtures.name(index) for index in range(8)}) == 2
    assert len({clip_key(mixtures, index) for index in range(8)}) == 8
    assert known_clips(mixtures) == {str(tmp_path / "0.wav"), str(tmp_path / "1.wav")}


def test_a_digest_tells_other_clips_labels_and_events(tmp_path):
    def recordings(names=("a.wav", "b.wav"), classes=((0,), (1,)), words=("dog", "cat")):
        return RecordingDataset(make_recordings(str(tmp_path), names, classes, words))

    def events(onset=0.1, seconds=0.5):
        soundfile.write(tmp_path / "long.wav", np.zeros(16000), 16000)
        return EventDataset(tmp_path, [Annotated("long.wav", [Event(onset, 0.4, "dog")])], ["dog"], clip_seconds=seconds)

    others = [
        recordings(),
        recordings(names=("b.wav", "a.wav")),
        recordings(classes=((1,), (0,))),
        recordings(classes=((0, 1), ())),
        recordings(words=("cat", "dog")),
        MixtureDataset(recordings(), 8),
        MixtureDataset(recordings(words=("cat", "dog")), 8),
        events(),
        events(onset=0.2),
        events(seconds=0.25),
    ]
    digests = [digest_of_clips(each) for each in others]
    assert len(set(digests)) == len(others)
    assert digest_of_clips(recordings()) == digests[0]
    assert digest_of_clips(events()) == digests[7]
    assert [each.partition(", ")[0] for each in digests] == [f"{number} clips" for number in (2, 2, 2, 2, 2, 8, 8, 2, 2, 4)]


def test_unreadable_clips_leave_with_their_labels(opened, task_of, monkeypatch):
    task = task_of(opened())
    dataset = task.data.dataset("train")
    good = type(dataset).__getitem__
    broken = lambda self, key: BrokenClip("x", "no sound") if key in (2, 11) else good(self, key)  # noqa: E731
    monkeypatch.setattr(type(dataset), "__getitem__", broken)
    whole = task.train
    monkeypatch.undo()
    assert len(whole) == 22
    assert task.store.broken == {"x": "no sound"}
    assert task.clip_counts() == (8, 0, 2)
    kept = [index for index in range(24) if index not in (2, 11)]
    assert torch.equal(whole.labels, torch.stack([dataset[index].labels for index in kept]))
    assert len(_whole(whole)) == 22


def test_too_many_unreadable_clips_no_clips_and_no_numbers(opened, task_of, monkeypatch):
    task = task_of(opened(), num_val=0)
    with pytest.raises(ValueError, match="SyntheticDataModule has no test clips"):
        _ = task.test
    kind = type(task.data.dataset("train"))
    with monkeypatch.context() as patch:
        patch.setattr(kind, "__getitem__", lambda self, key: BrokenClip(f"clip {key}", "no sound"))
        with pytest.raises(ValueError, match="none of the 24 train clips of SyntheticDataModule can be read"):
            _ = task.train
        many = task_of(opened(), num_train=60)
        with pytest.raises(ValueError, match=r"clips cannot be used, more than max_unreadable_fraction 0\.2 allows"):
            _ = many.train
    model = opened()
    with torch.no_grad():
        model.encoder.blocks[1].mlp.fc2.bias.fill_(float("nan"))
    with pytest.raises(ValueError, match="none: the encoder's outputs are not finite numbers"):
        _ = task_of(model).train


def test_validation_clips_are_training_clips_or_those_of_the_data(opened, task_of):
    learn, held_out, judged = task_of(opened()).for_choosing()
    assert sorted([*learn.tolist(), *judged.tolist()]) == list(range(24))
    assert len(judged) == 6
    task = task_of(opened(), validation="val")
    learn, held_out, judged = task.for_choosing()
    assert learn.tolist() == list(range(24))
    assert judged.tolist() == list(range(8))
    assert not torch.equal(held_out.pooled, task.test.pooled)
    with pytest.raises(ValueError, match=r"24 training clips are too few to choose settings on 0\.99 of them"):
        task_of(opened(), validation=0.99).for_choosing()


def test_settings_are_not_chosen_on_test_clips(opened, task_of, cut_recordings, monkeypatch):
    task = task_of(opened(), validation="val")
    monkeypatch.setattr(task.data, "dataset", lambda split: cut_recordings)
    with pytest.raises(
        ValueError, match="validation is val, but 3 clips of SyntheticDataModule's val split are test clips"
    ):
        task.for_choosing()


def test_a_full_disk_leaves_the_store_as_it_was(opened, task_of, monkeypatch):
    model = opened()
    wanted, task = _whole(task_of(model).train), task_of(model)
    write, written = FeatureStore._write, []

    def full(self, found, place):
        written.append(place)
        if len(written) == 3:
            self._file.seek(0, 2)
            self._file.write(b"half of a cl")
            raise OSError("No space left on device")
        return write(self, found, place)

    with monkeypatch.context() as patch:
        patch.setattr(FeatureStore, "_write", full)
        with pytest.raises(OSError, match="No space left"):
            _ = task.train
    assert torch.equal(_whole(task.train), wanted)
    assert written == [0, 5, 10]


def test_features_too_large_for_half_precision_are_refused_where_they_are_kept(opened, task_of):
    model = opened()
    with torch.no_grad():
        model.encoder.output_norm = torch.nn.LayerNorm(16)
        model.encoder.output_norm.bias.fill_(1e5)
    pooled = task_of(model, max_bytes=0).train
    assert pooled.pooled.min() > 65504
    told = r"not finite numbers within half precision \(65504\)"
    with pytest.raises(ValueError, match=told):
        _ = task_of(model).train
    with pytest.raises(ValueError, match=told):
        _whole(pooled)
