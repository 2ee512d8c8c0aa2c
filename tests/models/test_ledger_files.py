"""What kills, damaged disks, full disks, locks and other hosts do to the ledger's files: no answer that was written is lost."""

import os
import random
import signal
import struct
import subprocess
import sys
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from curate.errors import StoreError
from curate.models.ledger import Ledger
from curate.models.ledger_care import check
from curate.models.ledger_reading import Places
from curate.models.ledger_segment import FILE_HEAD, FILE_MARK, Index, file_head, scan, segments_in
from tests.models.test_ledger import ask, keep, said, texts


def fill(root: Path, count: int, first: int = 0, host: str | None = None) -> Path:
    """A ledger's newest segment, with so many answers; not sealed."""
    before = set(segments_in(root))
    ledger = Ledger(root, host=host)
    for number in range(first, first + count):
        keep(ledger, ask(str(number)), said(f"answer {number}"))
    ledger.sync()
    (path,) = set(segments_in(root)) - before
    return path


def numbers(ledger: Ledger, count: int) -> list[int]:
    """Which of the first answers are found."""
    found = texts(ledger, *(ask(str(number)) for number in range(count)))
    assert all(text in (None, f"answer {number}") for number, text in enumerate(found))
    return [number for number, text in enumerate(found) if text is not None]


def ends(path: Path) -> list[int]:
    """Offsets behind the header and each record."""
    entries = scan(path, 0, path.stat().st_size).entries
    return [FILE_HEAD.size, *(entry.offset + entry.length for entry in entries)]


# -- torn and damaged


def test_a_tail_torn_at_any_byte_costs_only_the_record_it_cuts(tmp_path: Path) -> None:
    whole = fill(tmp_path / "whole", 3).read_bytes()
    before, after = ends(segments_in(tmp_path / "whole")[0])[-2:]
    for size in range(before, after + 1):
        root = tmp_path / str(size)
        root.mkdir()
        (root / "a.seg").write_bytes(whole[:size])
        ledger = Ledger(root)
        assert numbers(ledger, 3) == ([0, 1, 2] if size == after else [0, 1])
        assert check(root).torn == ({} if size in (before, after) else {"a.seg": size - before})
        assert check(root).corrupt == {}


def test_a_segment_killed_within_its_header_is_empty(tmp_path: Path) -> None:
    for size in range(FILE_HEAD.size):
        (tmp_path / f"{size}.seg").write_bytes(file_head(b"i" * 16)[:size])
    assert len(Ledger(tmp_path)) == 0
    assert check(tmp_path).corrupt == {}
    assert sum(check(tmp_path).torn.values()) == sum(range(FILE_HEAD.size))


def test_a_damaged_byte_anywhere_costs_at_most_one_record(tmp_path: Path) -> None:
    path = fill(tmp_path, 3)
    whole, places = path.read_bytes(), ends(path)
    for place in range(len(whole)):
        damaged = bytearray(whole)
        damaged[place] ^= 0x55
        path.write_bytes(damaged)
        hit = [number for number in range(3) if places[number] <= place < places[number + 1]]
        assert numbers(Ledger(tmp_path), 3) == [number for number in range(3) if number not in hit]
        # of a damaged header only a format that is a newer one's would matter, and its crc tells; behind the last whole
        # record, damage and a torn tail look the same
        if places[0] <= place < places[2]:
            assert check(tmp_path).corrupt == {path.name: 1}


def test_zeros_after_a_power_cut_are_passed_over(tmp_path: Path) -> None:
    path = fill(tmp_path, 3)
    places = ends(path)
    whole = bytearray(path.read_bytes())
    whole[places[1] : places[2]] = bytes(places[2] - places[1])
    path.write_bytes(whole + bytes(4096))
    assert numbers(Ledger(tmp_path), 3) == [0, 2]
    found = check(tmp_path)
    assert (found.corrupt, found.torn) == ({path.name: 1}, {path.name: 4096})


def test_a_record_whose_index_points_at_damage_is_not_served(tmp_path: Path) -> None:
    with Ledger(tmp_path) as ledger:
        keep(ledger, ask("0"), said("answer 0"))
    (path,) = segments_in(tmp_path)
    damaged = bytearray(path.read_bytes())
    damaged[-1] ^= 1
    path.write_bytes(damaged)
    assert numbers(Ledger(tmp_path), 1) == []


@pytest.mark.parametrize("damage", [b"", b"x", b"curate\xffI" + bytes(100)])
def test_a_damaged_index_is_made_good_by_the_segment(tmp_path: Path, damage: bytes) -> None:
    with Ledger(tmp_path) as ledger:
        keep(ledger, ask("0"), said("answer 0"))
    (index,) = tmp_path.glob("*.idx")
    index.write_bytes(damage)
    assert numbers(Ledger(tmp_path), 1) == [0]


def test_an_index_of_another_segment_is_not_believed(tmp_path: Path) -> None:
    for name in ("a", "b"):
        with Ledger(tmp_path / name) as ledger:
            keep(ledger, ask(name), said(name if name == "b" else "a" * 40))
    (one,), (other,) = ((tmp_path / name).glob("*.idx") for name in ("a", "b"))
    one.write_bytes(other.read_bytes())
    assert texts(Ledger(tmp_path / "a"), ask("a")) == ["a" * 40]


def test_an_unsealed_segment_is_indexed_by_whoever_reads_it(tmp_path: Path) -> None:
    writer = Ledger(tmp_path)
    noise = random.Random(1)
    for number in range(40):
        keep(writer, ask(str(number)), said(f"answer {number}", reasoning=noise.randbytes(30_000).hex()))
    assert numbers(Ledger(tmp_path), 40) == list(range(40))
    assert len(list(tmp_path.glob("*.idx"))) == 1
    keep(writer, ask("40"), said("answer 40"))
    assert numbers(Ledger(tmp_path), 41) == list(range(41))


# -- formats


def test_a_newer_format_is_one_clear_sentence_and_asks_nobody_to_delete(tmp_path: Path) -> None:
    head = struct.pack("<8sB3xI16s", FILE_MARK, 9, zlib.crc32(b"\x09" + b"i" * 16), b"i" * 16)
    (tmp_path / "new.seg").write_bytes(head + b"whatever comes then")
    with pytest.raises(StoreError) as raised:
        Ledger(tmp_path)
    said_so = str(raised.value)
    assert "new.seg is in format 9 of the ledger, and this version of curate reads up to 1: update curate" in said_so
    assert said_so.endswith("the answers in the file are safe") and "delete" not in said_so and "remove" not in said_so
    assert (tmp_path / "new.seg").read_bytes() == head + b"whatever comes then"


def test_a_newer_format_that_appears_later_stops_rather_than_pays_again(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, refresh_seconds=0)
    head = struct.pack("<8sB3xI16s", FILE_MARK, 9, zlib.crc32(b"\x09" + b"i" * 16), b"i" * 16)
    (tmp_path / "new.seg").write_bytes(head)
    for _ in range(2):
        with pytest.raises(StoreError, match="update curate"):
            texts(ledger, ask("0"))


SAMPLE_BYTES = 785
SAMPLE_KEYS = ["d52b3565", "af587d59", "e1fc45aa"]


def test_format_1_is_read_as_it_was_first_written() -> None:
    """A file of format 1, byte by byte: its reader must stay when there are newer formats."""
    sample = Path(__file__).parent / "ledger_format_1.seg"
    assert sample.stat().st_size == SAMPLE_BYTES
    found = scan(sample, 0, SAMPLE_BYTES)
    assert [entry.key.hex()[:8] for entry in found.entries] == SAMPLE_KEYS and found.end == SAMPLE_BYTES


def test_the_sample_of_format_1_is_served(tmp_path: Path) -> None:
    (tmp_path / "old.seg").write_bytes((Path(__file__).parent / "ledger_format_1.seg").read_bytes())
    assert texts(Ledger(tmp_path), ask("Ça va ?"), ask("refused"), ask("long", 50)) == ["Oui – ça va 🙂", None, "cut of"]


# -- kills and processes

WRITER = """
import sys, time
from pathlib import Path
from curate.models.ledger import Ledger
from tests.models.test_ledger import ask, keep, said
root, first, count = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
ledger = Ledger(root, segment_bytes=20_000)
print("ready", flush=True)
sys.stdin.readline()
for number in range(first, first + count):
    keep(ledger, ask(str(number)), said(f"answer {number}"))
    print(number, flush=True)
if count < 10_000:
    ledger.close()
"""


def start(root: Path, first: int, count: int) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", WRITER, str(root), str(first), str(count)]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parent.parent.parent
    )
    return process


def go(process: "subprocess.Popen[str]") -> None:
    assert process.stdin and process.stdout
    assert process.stdout.readline() == "ready\n"
    process.stdin.write("go\n")
    process.stdin.flush()


@pytest.mark.slow
def test_every_record_whose_write_returned_survives_kill_9(tmp_path: Path) -> None:
    chance = random.Random(5)
    written = 0
    for _ in range(6):
        process = start(tmp_path, written, 100_000)
        go(process)
        time.sleep(chance.uniform(0.0, 0.3))
        process.send_signal(signal.SIGKILL)
        told, _ = process.communicate(timeout=60)
        lines = told.split("\n")[:-1]  # behind the last newline is what the kill cut off
        written = max([written, *(int(line) + 1 for line in lines)])
        assert numbers(Ledger(tmp_path), written) == list(range(written))
    assert written > 100
    assert check(tmp_path).corrupt == {}


@pytest.mark.slow
def test_eight_processes_write_at_once_and_one_reads_meanwhile(tmp_path: Path) -> None:
    processes = [start(tmp_path, first, 200) for first in range(0, 1600, 200)]
    reader = Ledger(tmp_path, refresh_seconds=0)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(go, processes))
        ended = list(pool.map(lambda process: process.communicate(timeout=120), processes, timeout=120))
        assert [out.split()[-1] for out, _ in ended] == [str(first + 199) for first in range(0, 1600, 200)]
    assert numbers(reader, 1600) == list(range(1600))
    assert numbers(Ledger(tmp_path), 1600) == list(range(1600))
    found = check(tmp_path)
    assert (found.records, found.torn, found.corrupt) == (1600, {}, {})
    assert found.segments > 8, "segments are small here, and sealed on the way"


def test_many_threads_share_a_ledger(tmp_path: Path) -> None:
    with Ledger(tmp_path, segment_bytes=5000) as ledger:

        def work(first: int) -> list[str | None]:
            for number in range(first, first + 50):
                keep(ledger, ask(str(number)), said(f"answer {number}"))
            return texts(ledger, *(ask(str(number)) for number in range(first, first + 50)))

        with ThreadPoolExecutor(8) as pool:
            found = list(pool.map(work, range(0, 400, 50)))
    assert found == [[f"answer {number}" for number in range(first, first + 50)] for first in range(0, 400, 50)]
    assert numbers(Ledger(tmp_path), 400) == list(range(400))


def test_what_a_process_wrote_itself_is_not_read_again(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    for number in range(5):
        keep(ledger, ask(str(number)), said(f"answer {number}"))
    ledger.close()
    ledger.refresh()
    assert len(ledger) == 5


def test_closing_while_others_record_loses_nothing_and_ends(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)

    def work(first: int) -> None:
        for number in range(first, first + 30):
            keep(ledger, ask(str(number)), said(f"answer {number}"))
            if number % 10 == 5:
                ledger.close()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(0, 120, 30)))
    ledger.close()
    assert numbers(ledger, 120) == numbers(Ledger(tmp_path), 120) == list(range(120))
    assert len(segments_in(tmp_path)) == len(list(tmp_path.glob("*.idx"))) > 1, "each segment is sealed"


def test_a_forked_child_writes_a_file_of_its_own(tmp_path: Path) -> None:
    code = """
import os, sys
from pathlib import Path
from curate.models.ledger import Ledger
from tests.models.test_ledger import ask, keep, said
ledger = Ledger(Path(sys.argv[1]), refresh_seconds=0)
keep(ledger, ask("0"), said("answer 0"))
if child := os.fork():
    os.waitpid(child, 0)
    keep(ledger, ask("2"), said("answer 2"))
    ledger.close()
else:
    keep(ledger, ask("1"), said("answer 1"))
    ledger.close()
    os._exit(0)
"""
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, cwd=Path(__file__).parent.parent.parent)
    assert numbers(Ledger(tmp_path), 3) == [0, 1, 2]
    assert len(segments_in(tmp_path)) == 2 and check(tmp_path).corrupt == {}


def test_two_hosts_with_one_process_number_write_two_files(tmp_path: Path) -> None:
    paths = [fill(tmp_path, 5, first=5 * number, host=host) for number, host in enumerate(("node-1", "../node/2"))]
    assert sorted(path.name.split("-")[0] for path in paths) == ["_node_2", "node_1"]
    assert numbers(Ledger(tmp_path), 10) == list(range(10))


NO_LOCKS = """
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <dlfcn.h>
static int refuse(void) { errno = ENOLCK; return -1; }
int flock(int fd, int how) { return refuse(); }
int lockf(int fd, int how, off_t length) { return refuse(); }
int lockf64(int fd, int how, off_t length) { return refuse(); }
static int locks(int how) {
    return how == F_SETLK || how == F_SETLKW || how == F_GETLK || how == F_OFD_SETLK || how == F_OFD_SETLKW || how == F_OFD_GETLK;
}
#define WRAP(name) int name(int fd, int how, ...) { \\
    va_list rest; va_start(rest, how); void *value = va_arg(rest, void *); va_end(rest); \\
    if (locks(how)) return refuse(); \\
    return ((int (*)(int, int, ...))dlsym(RTLD_NEXT, #name))(fd, how, value); }
WRAP(fcntl)
WRAP(fcntl64)
"""


def test_a_file_system_without_locks_will_do(tmp_path: Path) -> None:
    source, library = tmp_path / "nolocks.c", tmp_path / "nolocks.so"
    source.write_text(NO_LOCKS)
    try:
        subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True, capture_output=True)
    except (FileNotFoundError, subprocess.CalledProcessError):
        pytest.skip("no C compiler to build a library that refuses locks")
    code = """
import errno, fcntl, sys
try:
    fcntl.flock(sys.stdout, fcntl.LOCK_EX)
except OSError as error:
    assert error.errno == errno.ENOLCK
else:
    sys.exit("locks work here")
from pathlib import Path
from tests.models.test_ledger_files import fill, numbers
from curate.models.ledger import Ledger
fill(Path(sys.argv[1]), 5)
assert numbers(Ledger(Path(sys.argv[1])), 5) == [0, 1, 2, 3, 4]
"""
    environment = {**os.environ, "LD_PRELOAD": str(library)}
    place = Path(__file__).parent.parent.parent
    ended = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "l")], env=environment, cwd=place, text=True, capture_output=True
    )
    assert ended.returncode == 0, ended.stderr


# -- full disks

FULL = """
import resource, signal, sys
from pathlib import Path
from curate.errors import StoreError
from curate.models.ledger import Ledger
from tests.models.test_ledger import ask, keep, said
root, limit = Path(sys.argv[1]), int(sys.argv[2])
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
ledger = Ledger(root)
kept, most = [], resource.getrlimit(resource.RLIMIT_FSIZE)[1]
if limit:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, most))
for number in range(100_000):
    try:
        keep(ledger, ask(str(number)), said(f"answer {number}"))
    except StoreError as error:
        assert "Answers recorded before are safe" in str(error), error
        print(error)
        break
    kept.append(number)
else:
    sys.exit("the disk took everything")
if limit:
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
else:
    (root.parent / "ballast").unlink()
keep(ledger, ask("after"), said("room again"))
ledger.close()
print(len(kept))
"""


def test_a_disk_that_takes_a_part_of_a_record_keeps_all_before_and_after(tmp_path: Path) -> None:
    """A limit on the size of files refuses writes as a full disk does, after taking what fits."""
    place = Path(__file__).parent.parent.parent
    for limit in (2000, 2001, 2002, FILE_HEAD.size - 1):
        root = tmp_path / str(limit)
        command = [sys.executable, "-c", FULL, str(root), str(limit)]
        ended = subprocess.run(command, text=True, capture_output=True, cwd=place)
        assert ended.returncode == 0, ended.stderr
        count = int(ended.stdout.split()[-1])
        assert numbers(Ledger(root), count + 1) == list(range(count))
        assert texts(Ledger(root), ask("after")) == ["room again"]
        assert (check(root).torn, check(root).corrupt) == ({}, {})


def test_a_full_disk_says_so(tmp_path: Path) -> None:
    """On a small disk that only the test's own process sees."""
    small = tmp_path / "small"
    small.mkdir()
    private = ["unshare", "-rm", "sh", "-c", 'mount -t tmpfs -o size=256k tmpfs "$0" && exec "$@"', str(small)]
    try:
        subprocess.run([*private, "true"], check=True, capture_output=True)
    except (FileNotFoundError, subprocess.CalledProcessError):
        pytest.skip("not allowed to mount a small disk")
    begin = f"from pathlib import Path\nPath({str(small / 'ballast')!r}).write_bytes(bytes(100_000))\n"
    end = "from tests.models.test_ledger_files import numbers\nprint(numbers(Ledger(root), len(kept) + 1) == kept)\n"
    command = [*private, sys.executable, "-c", begin + FULL + end, str(small / "ledger"), "0"]
    ended = subprocess.run(command, text=True, capture_output=True, cwd=Path(__file__).parent.parent.parent)
    assert ended.returncode == 0, ended.stderr
    assert "No space left on device" in ended.stdout
    assert ended.stdout.endswith("True\n")


# -- places


def test_places_agree_with_a_dictionary_through_every_way_in() -> None:
    draw = np.random.default_rng(3)
    places, plain = Places(), {}
    for number in range(6):
        size = (5, 3000)[number % 2]
        prefixes = np.sort(draw.integers(0, 500, size, dtype=np.uint64)) * np.uint64(1 << 55)
        offsets, lengths = np.arange(size, dtype=np.uint32), np.full(size, number, np.uint32)
        places.add_all([(number, Index(0, 0, prefixes, offsets, lengths))])
        for prefix, offset in zip(prefixes.tolist(), offsets.tolist(), strict=True):
            plain.setdefault(prefix, set()).add((number, offset, number))
        places.add(7 << 55, (9, number, 1))
        plain.setdefault(7 << 55, set()).add((9, number, 1))
    keys = [(number << 55).to_bytes(8, "big") + bytes(24) for number in range(510)]
    found = places.find(keys)
    assert [set(many) for many in found] == [plain.get(number << 55, set()) for number in range(510)]
    assert [len(many) for many in found] == [len(set(many)) for many in found]
    assert len(places) == sum(map(len, plain.values()))
