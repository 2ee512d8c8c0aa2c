"""Draws from ids, against the published sequence and a slow version."""

import numpy as np
import pyarrow as pa

from curate.maths.chance import combine, hash_texts, splitmix64, uniform


def test_splitmix64_gives_the_published_sequence():
    # the first outputs of the reference implementation for the state 0
    states = np.arange(3, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    assert [int(value) for value in splitmix64(states)] == [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]


def mix(state):
    state = (state + 0x9E3779B97F4A7C15) % 2**64
    state = (state ^ (state >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    state = (state ^ (state >> 27)) * 0x94D049BB133111EB % 2**64
    return state ^ (state >> 31)


def slow_hash(text, seed):
    data = (text or "").encode()
    state = mix(seed)
    for start in range(0, len(data), 8):
        state = mix(state ^ int.from_bytes(data[start : start + 8], "little"))
    return mix(state ^ len(data))


TEXTS = ["", "a", "12345678", "123456789", "é" * 9, None, "x" * 32, "x" * 31]


def test_hashes_agree_with_the_slow_version():
    assert hash_texts(pa.array(TEXTS), 7).tolist() == [slow_hash(text, 7) for text in TEXTS]


def test_a_slice_and_a_chunk_hash_as_the_whole():
    whole = hash_texts(pa.array(TEXTS), 0)
    assert (hash_texts(pa.array(TEXTS).slice(3, 4), 0) == whole[3:7]).all()
    assert (hash_texts(pa.chunked_array([TEXTS[:2], TEXTS[2:]]), 0) == whole).all()
    assert len(hash_texts(pa.array([], pa.string()), 0)) == 0


def test_order_matters_in_a_couple():
    one, two = np.array([1], dtype=np.uint64), np.array([2], dtype=np.uint64)
    assert combine(one, two) != combine(two, one)


def test_draws_fill_the_unit_interval_evenly():
    shares = uniform(hash_texts(pa.array([f"{number:032x}" for number in range(20_000)]), 1))
    assert shares.min() >= 0 and shares.max() < 1
    counts, _ = np.histogram(shares, 20, (0, 1))
    assert counts.min() > 850 and counts.max() < 1150  # 1000 expected, standard deviation 31
