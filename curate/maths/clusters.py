"""Find which rows belong together through what they share."""

import numpy as np


def components(rows_E: np.ndarray, keys_E: np.ndarray, total: int) -> np.ndarray:
    """The smallest row connected to each of `total` rows, (total,) int64; a row that shares nothing is its own.

    rows_E, keys_E: E links between a row and a key number; rows with one key belong together, and so do theirs.
    """
    labels = np.arange(total, dtype=np.int64)
    if not len(rows_E):
        return labels
    least_of_key = np.empty(int(keys_E.max()) + 1, dtype=np.int64)
    while True:
        least_of_key.fill(total)
        np.minimum.at(least_of_key, keys_E, labels[rows_E])
        found = labels.copy()
        np.minimum.at(found, rows_E, least_of_key[keys_E])
        np.minimum.at(found, labels, found.copy())  # what a row found holds for the row that stands for it, too
        found = found[found]
        if (found == labels).all():
            return labels
        labels = found
