"""The nearest of other vectors, by exact search."""

import numpy as np

CELLS = 1 << 24  # products held at a time: 64 MB
ALIKE = 1e-6  # products that differ by less differ by rounding alone


def nearest(vectors_ND: np.ndarray, others_MD: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each vector the first of the nearest others, (N,) int64, and the cosine to it, (N,) float32.

    Both of unit length, M > 0. The answer for a vector does not depend on the others that are asked along with it.
    """
    rows = max(CELLS // len(others_MD), 1)
    blocks = (vectors_ND[start : start + rows] @ others_MD.T for start in range(0, len(vectors_ND), rows))
    found = [np.argmax(block >= block.max(axis=1, keepdims=True) - ALIKE, axis=1) for block in blocks]
    index = np.concatenate([*found, np.zeros(0, np.int64)]).astype(np.int64)
    cosine = np.einsum("nd,nd->n", vectors_ND, others_MD[index], dtype=np.float64)
    return index, cosine.astype(np.float32)
