"""What a checkpoint keeps of the clips that it was trained on."""

from __future__ import annotations

from sslam_lightning.data.train_overlap import fingerprint, train_overlap


def test_a_small_set_is_kept_whole():
    kept = fingerprint(f"/data/{n}.wav" for n in range(100))
    assert len(kept) == 100
    assert (kept.diff() > 0).all()
    assert train_overlap(["/data/99.wav", "/data/100.wav", "/data/0.wav"], kept) == ["/data/99.wav", "/data/0.wav"]
    assert train_overlap(["/other/5.wav"], kept) == []


def test_of_a_large_set_a_share_is_kept_that_does_not_depend_on_the_order():
    paths = [f"/data/{n}.wav" for n in range(20_000)]
    kept = fingerprint(paths)
    assert len(kept) == 4096
    assert kept.equal(fingerprint(reversed(paths)))
    known = train_overlap(paths[:5000], kept)
    assert 900 < len(known) < 1150  # 1024 expected, standard deviation 28
    assert set(known) <= set(paths[:5000])


def test_names_that_are_not_utf8():
    name = b"/data/caf\xe9.wav".decode("utf-8", "surrogateescape")
    assert train_overlap([name], fingerprint([name])) == [name]
