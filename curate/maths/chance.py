"""Draw numbers from ids, so that a row draws the same number on every machine and in every shard."""

import numpy as np
import pyarrow as pa

WORD = 8  # bytes hashed at a time
_MASKS = np.array(
    [(1 << (8 * n)) - 1 for n in range(WORD + 1)], dtype=np.uint64
)  # keeps the first n bytes of a little-endian word


def splitmix64(state: np.ndarray) -> np.ndarray:
    """One step of SplitMix64 on each of (N,) uint64: a bijection that spreads every bit.

    Source: Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014.
    """
    z = state + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: np.ndarray = z ^ (z >> np.uint64(31))
    return mixed


def hash_texts(texts: pa.Array | pa.ChunkedArray, seed: int) -> np.ndarray:
    """A number for each text and seed, (N,) uint64; a null counts as the empty text. Made for ids, not for long texts."""
    texts = texts.combine_chunks() if isinstance(texts, pa.ChunkedArray) else texts
    hashes = splitmix64(np.full(len(texts), seed & (2**64 - 1), dtype=np.uint64))
    if not len(texts):
        return hashes
    texts = texts.fill_null("").cast(pa.binary())
    _, offsets, data = texts.buffers()
    starts = np.frombuffer(offsets, dtype=np.int32, count=texts.offset + len(texts) + 1)[texts.offset :].astype(np.int64)
    lengths = np.diff(starts)
    padded = np.frombuffer(bytes(data or b"") + bytes(WORD), dtype=np.uint8)
    # every run of eight bytes as one word, whatever its address
    words = np.ndarray(len(padded) - WORD + 1, dtype="<u8", buffer=padded, strides=(1,))
    for position in range(0, int(lengths.max()), WORD):
        active = np.flatnonzero(lengths > position)
        word = words[starts[active] + position] & _MASKS[np.minimum(lengths[active] - position, WORD)]
        hashes[active] = splitmix64(hashes[active] ^ word)
    return splitmix64(hashes ^ lengths.astype(np.uint64))


def combine(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """A number for each pair of numbers, (N,) uint64; the order of the two matters."""
    return splitmix64(splitmix64(first) ^ second)


def uniform(hashes: np.ndarray) -> np.ndarray:
    """Numbers as (N,) float64, uniform in [0, 1)."""
    shares: np.ndarray = (hashes >> np.uint64(11)).astype(np.float64) * 2.0**-53
    return shares
