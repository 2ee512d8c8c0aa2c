"""A PostgreSQL cluster of the tests' own: on 127.0.0.1, on a free port, with a password, gone when they end."""

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import pytest

USER = "curate"
PASSWORD = "p@ss/w:rd%$ é'\""
"""One that must be quoted wherever it is written."""
INSTALL = Path(__file__).with_name("system_packages.sh")
HOST = "127.0.0.1"
SETTINGS = {"fsync": "off", "full_page_writes": "off", "max_connections": "200", "shared_buffers": "32MB"}


@dataclass(frozen=True)
class Cluster:
    """A running cluster with one database."""

    programs: Path
    """Folder of initdb, pg_ctl, pg_isready, psql."""
    port: int
    folder: Path
    password: str = PASSWORD
    database: str = USER

    @property
    def address(self) -> str:
        """postgresql://USER:PASSWORD@HOST:PORT/NAME"""
        return self.address_of(self.database)

    def address_of(self, database: str) -> str:
        """The same of another database."""
        return f"postgresql://{USER}:{quote(self.password, safe='')}@{HOST}:{self.port}/{database}"

    def ask(self, statement: str) -> str:
        """What a statement answers, one row a line, columns apart by |."""
        done = subprocess.run(
            [self.programs / "psql", "-XAtq", "-v", "ON_ERROR_STOP=1", "-d", self.address, "-c", statement],
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
        return done.stdout.strip()

    def start(self) -> None:
        """Start it, also after `stop`, and wait until it answers."""
        settings = {"listen_addresses": HOST, "port": self.port, "unix_socket_directories": self.folder} | SETTINGS
        options = " ".join(f"-c {name}={value}" for name, value in settings.items())
        _run(self.programs / "pg_ctl", "start", "-w", "-D", self.folder / "data", "-l", self.folder / "log", "-o", options)

    def stop(self) -> None:
        """Stop it, cutting connections."""
        if (self.folder / "data" / "postmaster.pid").exists():
            _run(self.programs / "pg_ctl", "stop", "-w", "-m", "immediate", "-D", self.folder / "data")


@contextmanager
def private_cluster() -> Iterator[Cluster]:
    """Start a cluster and end it. Without PostgreSQL the test is skipped by name, or fails where CI=true."""
    programs = programs_folder()
    folder = Path(tempfile.mkdtemp(prefix="curate-postgres-"))
    cluster = Cluster(programs, free_port(), folder)
    try:
        (folder / "password").write_text(cluster.password, encoding="utf-8")
        _give(folder)
        words = ["--pgdata", folder / "data", "--username", USER, "--pwfile", folder / "password", "--auth", "scram-sha-256"]
        _run(programs / "initdb", *words, "--encoding", "UTF8", "--no-locale", "--no-sync")
        cluster.start()
        _run(programs / "psql", "-Xq", "-d", cluster.address_of("postgres"), "-c", f"CREATE DATABASE {cluster.database}")
        yield cluster
    finally:
        cluster.stop()
        shutil.rmtree(folder, ignore_errors=True)


def programs_folder() -> Path:
    """Where PostgreSQL's programs are; Debian keeps those of the server off the path. Installed where CI=true."""
    if os.environ.get("CI") == "true":
        subprocess.run(["bash", str(INSTALL)], check=True)
    places = [*sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True), *map(Path, os.get_exec_path())]
    for place in places:
        if all((place / name).is_file() for name in ("initdb", "pg_ctl", "pg_isready", "psql")):
            return place
    reason = "PostgreSQL missing: run tests/system_packages.sh as root"
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def _as_nobody_special() -> Sequence[str]:
    """PostgreSQL refuses to run as root: then as the user that its package made."""
    return ["runuser", "-u", "postgres", "--"] if os.getuid() == 0 else []


def _give(folder: Path) -> None:
    if os.getuid() == 0:
        owner = pwd.getpwnam("postgres")
        for path in (folder, *folder.iterdir()):
            os.chown(path, owner.pw_uid, owner.pw_gid)


def _run(*words: object) -> None:
    command = [*_as_nobody_special(), *map(str, words)]
    # to a file, not a pipe: the server inherits it and lives on
    with tempfile.TemporaryFile() as said:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=said, stderr=said, check=False, timeout=120, cwd="/")
        said.seek(0)
        assert done.returncode == 0, f"{words[0]}: {said.read().decode(errors='replace')}"
