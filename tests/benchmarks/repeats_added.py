"""A refresh that adds rows: what it embeds and searches for, and its CPU seconds beside those of a whole search.

    python -m tests.benchmarks.repeats_added vectors 1000000
    python -m tests.benchmarks.repeats_added texts 1000000 --added 10000
    python -m tests.benchmarks.repeats_added vectors 1000000 --like crowd

Rows are planted as in tests.benchmarks.repeats, and the added ones drawn among all. One thread; times leave out making the data
and embedding, which a model does that only looks its vectors up.
"""

import argparse
import os
import resource
import tempfile
import time
from collections.abc import Sequence
from typing import Any, cast

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[name] = "1"  # before numpy is loaded

import numpy as np  # noqa: E402
import pyarrow as pa  # noqa: E402

from curate import tables  # noqa: E402
from curate.engine.search import decided  # noqa: E402
from curate.filter.near_duplicate import NearDuplicate  # noqa: E402
from curate.filter.repeats import Repeats  # noqa: E402
from curate.filter.semantic_duplicate import SemanticDuplicate  # noqa: E402
from curate.models.asking import Models  # noqa: E402
from curate.models.numbers import Vectors  # noqa: E402
from curate.store.store import Store  # noqa: E402
from tests.benchmarks.repeats import Pairs, planted_texts, vectors_like  # noqa: E402

SHARD = 50_000


class Looked:
    """A model whose texts are numbers of vectors."""

    likeness = "semantic"

    def __init__(self, given: np.ndarray) -> None:
        self.given, self.asked = given, 0

    def embed(self, key: str) -> "Looked":
        """Itself, whatever the name."""
        return self

    def vectors(self, texts: Sequence[str]) -> Vectors:
        """Those of these numbers."""
        self.asked += len(texts)
        return Vectors(self.given[[int(text) for text in texts]], np.zeros(len(texts), np.float32))


def planted(what: str, count: int, kind: str) -> tuple[list[str], Looked, Pairs]:
    """Texts, the model that embeds them, and the planted pairs; rows in random order."""
    given: Any
    given, truth = vectors_like(kind, count) if what == "vectors" else planted_texts(count)
    order = np.random.default_rng(1).permutation(count)
    place = np.argsort(order)
    pairs = {(min(a, b), max(a, b)) for a, b in ((int(place[i]), int(place[j])) for i, j in truth)}
    if what == "vectors":
        return [str(number) for number in order.tolist()], Looked(given.astype(np.float16)), pairs
    return [given[number] for number in order.tolist()], Looked(np.zeros((0, 0))), pairs


def table_of(texts: list[str], first: int) -> pa.Table:
    messages = tables.structs(tables.MESSAGE, len(texts), role="user", content=texts)
    prompts = pa.ListArray.from_arrays(pa.array(np.arange(len(texts) + 1), pa.int32()), messages)
    ids = pa.array([f"{first + place:032x}" for place in range(len(texts))])
    return tables.conform(pa.table({"prompt": prompts, "prompt_id": ids}), "prompts")


def measured(store: Store, operator: Repeats, texts: list[str], first: int) -> list[tuple[str, int]]:
    """The features of rows in shards, written to the store."""
    parts = [texts[at : at + SHARD] for at in range(0, len(texts), SHARD)]
    return [(store.put_table(operator.features(table_of(part, first + at * SHARD))), len(part)) for at, part in enumerate(parts)]


def run(what: str, count: int, added: int, kind: str) -> None:
    texts, model, pairs = planted(what, count + added, kind)
    semantic = SemanticDuplicate(name="s", model="m").with_models(cast(Models, model))
    operator = semantic if what == "vectors" else NearDuplicate(name="near")
    with tempfile.TemporaryDirectory() as folder:
        store, parts = Store(folder), []
        print(f"{what}, {count:,} rows and {added:,} more; {peak():.2f} GB at the start")
        print(f"{'':<10}{'embedded':>10}{'searched':>10}{'measure':>9}{'decide':>9}{'recall':>9}{'GB peak':>9}")
        for step, first, last in (("whole", 0, count), ("added", count, count + added)):
            model.asked, began = 0, time.process_time()
            parts += measured(store, operator, texts[first:last], first)
            between = time.process_time()
            state, extra = decided(store, operator, "prompts", {}, parts)
            ended = time.process_time()
            wanted = {pair for pair in pairs if first <= pair[1] < last}
            lost = set(np.flatnonzero(state["kept"].is_valid().to_numpy()).tolist())
            share = sum(later in lost for _, later in wanted) / max(len(wanted), 1)
            searched = extra["search"].get("searched", last - first)
            counts = f"{model.asked if what == 'vectors' else '-':>10}{searched:>10}"
            print(f"{step:<10}{counts}{between - began:>9.2f}{ended - between:>9.2f}{share:>9.4f}{peak():>9.2f}", flush=True)


def peak() -> float:
    """Gigabytes this process has held at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["texts", "vectors"])
    parser.add_argument("counts", nargs="+", type=int)
    parser.add_argument("--added", type=int, default=10_000)
    parser.add_argument("--like", choices=["planted", "real", "crowd"], default="planted", help="of vectors")
    given = parser.parse_args()
    for count in given.counts:
        run(given.what, count, given.added, given.like)


if __name__ == "__main__":
    main()
