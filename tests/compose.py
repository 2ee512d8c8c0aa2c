"""docker-compose.yml as Compose reads it, and its services run without Docker: their commands and checks on this machine."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parent.parent
FILE = ROOT / "docker-compose.yml"
VARIABLE = re.compile(r"\$(?:(?P<escaped>\$)|\{(?P<name>\w+)(?:(?P<how>:\?|:-)(?P<word>[^}]*))?\})")
Json = dict[str, Any]


class Missing(Exception):
    """A variable that must be set is not."""


def compose(environment: Mapping[str, str]) -> Json:
    """The file with its variables replaced from an environment. Missing if one without a default is not there."""
    return dict(_filled(yaml.safe_load(FILE.read_text(encoding="utf-8")), environment))


def _filled(value: Any, environment: Mapping[str, str]) -> Any:
    if isinstance(value, dict):
        return {name: _filled(item, environment) for name, item in value.items()}
    if isinstance(value, list):
        return [_filled(item, environment) for item in value]
    return VARIABLE.sub(lambda found: _value(found, environment), value) if isinstance(value, str) else value


def _value(found: re.Match[str], environment: Mapping[str, str]) -> str:
    if found["escaped"]:
        return "$"
    told = environment.get(found["name"], "")
    if told or found["how"] == ":-":
        return told or found["word"]
    raise Missing(f"{found['name']}: {found['word']}")


@dataclass(frozen=True)
class Service:
    """A service as it would run."""

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    check: tuple[str, ...]
    folder: str | None = None

    @staticmethod
    def of(name: str, told: Json, environment: Mapping[str, str]) -> "Service":
        """From the file; a variable without a value is passed on if it is set."""
        passed = {key: environment.get(key) if value is None else value for key, value in told.get("environment", {}).items()}
        kept = {key: value for key, value in passed.items() if value is not None}
        test = told.get("healthcheck", {}).get("test", ["CMD"])
        assert test[0] == "CMD", f"{name}: a check without a shell can be run as it stands"
        command = (*told.get("entrypoint", ()), *told.get("command", ()))
        return Service(name, command, kept, tuple(test[1:]), told.get("working_dir"))

    def moved(self, places: Mapping[str, object]) -> "Service":
        """The same with addresses and folders of a container replaced by those of this machine."""

        def here(text: str) -> str:
            for there, place in places.items():
                text = text.replace(there, str(place))
            return text

        return replace(
            self,
            command=tuple(map(here, self.command)),
            check=tuple(map(here, self.check)),
            environment={name: here(value) for name, value in self.environment.items()},
            folder=here(self.folder) if self.folder else None,
        )


@dataclass(frozen=True)
class Machine:
    """Where services run: a folder for each, and the programs of an environment first on the path."""

    home: Path
    programs: Path
    """Folder with python, prefect, curate."""

    def environment(self, service: Service, **more: str) -> dict[str, str]:
        """Nothing of this process's own, as in a container."""
        path = os.pathsep.join([str(self.programs), *more.pop("also", "").split(os.pathsep), "/usr/bin", "/bin"])
        return {"PATH": path, "HOME": str(self.home), "LANG": "C.UTF-8", **service.environment, **more}

    def once(self, service: Service, words: tuple[str, ...], **more: str) -> subprocess.CompletedProcess[str]:
        """Run a command of the service to its end."""
        folder = service.folder or self.home
        environment = self.environment(service, **more)
        return subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, timeout=300, check=False)

    def healthy(self, service: Service, **more: str) -> bool:
        """Whether the service's own check passes now."""
        return self.once(service, service.check, **more).returncode == 0

    @contextmanager
    def running(self, service: Service, **more: str) -> Iterator[subprocess.Popen[bytes]]:
        """The service in the background; asked to end as Docker asks, with SIGTERM."""
        log = self.home / f"{service.name}.log"
        environment = self.environment(service, **more)
        with log.open("ab") as out:
            process = subprocess.Popen(
                service.command, cwd=self.home, env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=out
            )
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def await_healthy(self, service: Service, process: subprocess.Popen[bytes], seconds: float = 180.0) -> None:
        """Wait until the check passes; the end of its log if it does not."""
        deadline = time.monotonic() + seconds
        while not self.healthy(service):
            said = (self.home / f"{service.name}.log").read_text(errors="replace")[-4000:]
            assert process.poll() is None, f"{service.name} ended: {said}"
            assert time.monotonic() < deadline, f"{service.name} is not healthy after {seconds:.0f} s: {said}"
            time.sleep(0.5)


def this_environment() -> Path:
    """The folder of the programs that these tests run with."""
    return Path(sys.executable).parent
