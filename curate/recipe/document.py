"""Read YAML as plain values that remember their lines: no tags, no duplicate keys, bounded aliases, every fault at once."""

import re
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from curate.tables import text_fault

Path = tuple[str | int, ...]
"""Where a value stands: keys and list positions (from 0), from the top."""

MAX_BYTES = 256 * 1024  # a recipe is a page of text; a larger file is data given by mistake
MAX_VALUES = 20_000  # after aliases are written out: what stops nested anchors from growing without bound
MAX_DEPTH = 40
MAX_FAULTS = 50  # further ones are left out: the file is broken in one way, many times

EXPONENT = r"(?:[eE][-+]?[0-9]+)?"
NUMBER = rf"[-+]?[0-9][0-9_]*(?:\.[0-9_]*)?{EXPONENT}|[-+]?\.[0-9][0-9_]*{EXPONENT}|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)"
RESOLVERS = [
    ("bool", r"^(?:true|True|TRUE|false|False|FALSE)$", "tTfF"),
    ("int", r"^[-+]?[0-9][0-9_]*$", "-+0123456789"),
    ("float", rf"^(?:{NUMBER})$", "-+.0123456789"),
    ("null", r"^(?:~|null|Null|NULL|)$", ["~", "n", "N", ""]),
    ("merge", r"^(?:<<)$", "<"),
]

WORDS = {"bool": "true or false", "int": "a whole number of reasonable length", "float": "a number"}


class _Loader(yaml.SafeLoader):
    """YAML 1.2's few plain types: `no`, `on`, `12:30` and dates stay text, `1e-3` is a number."""

    yaml_implicit_resolvers: dict[str, Any] = {}


class _Dumper(yaml.SafeDumper):
    """Writes what `_Loader` and YAML 1.1 readers both read back: whatever is no text to either gets quotes."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


for _name, _pattern, _first in RESOLVERS:
    for _class in (_Loader, _Dumper):
        _class.add_implicit_resolver(f"tag:yaml.org,2002:{_name}", re.compile(_pattern), list(_first))

TYPES = {f"tag:yaml.org,2002:{name}" for name in ("bool", "int", "float", "null", "str", "map", "seq", "merge")}


@dataclass(frozen=True)
class Fault:
    """Something wrong at a place of a YAML text."""

    line: int
    text: str


@dataclass(frozen=True)
class Document:
    """The values of a YAML text, and the line each was written on."""

    value: Any
    lines: Mapping[Path, int]
    nodes: Mapping[Path, yaml.Node]
    """Where each value stands in the text (start_mark.index, end_mark.index)."""
    faults: list[Fault] = field(default_factory=list)
    """What is wrong with it as YAML; the value is then what could be read."""


def read(text: str) -> Document:
    """Parse one YAML document. An empty text has the value None; faults are returned, never raised."""
    try:
        node = yaml.compose(text, _Loader)
    except yaml.MarkedYAMLError as error:
        return _unreadable(_syntax_fault(error))
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        return _unreadable(Fault(line, f"character U+{ord(_character(error)):04X} is not allowed in YAML"))
    except RecursionError:
        return _unreadable(Fault(1, "nested too deeply"))
    if node is None:
        return Document(None, {(): 1}, {})
    builder = _Builder()
    value = builder.build(node, ())
    return Document(value, builder.lines, builder.nodes, builder.faults)


def dump(value: Any, flow: bool = False) -> str:
    """The value as YAML that `read` gives back; in the order given. flow: on one line, {a: 1}."""
    width = 10**6 if flow else 130
    text: str = yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, default_flow_style=flow, width=width)
    return text.rstrip("\n") if flow else text


def _unreadable(fault: Fault) -> Document:
    return Document(None, {(): fault.line}, {}, [fault])


def _character(error: yaml.reader.ReaderError) -> str:
    return chr(error.character) if isinstance(error.character, int) else str(error.character)


def _syntax_fault(error: yaml.MarkedYAMLError) -> Fault:
    mark = error.problem_mark or error.context_mark
    line = mark.line + 1 if mark else 1
    problem = error.problem or str(error)
    if "'\\t'" in problem:
        return Fault(line, "a tab where YAML wants spaces; indent with spaces")
    if "expected a single document" in (error.context or ""):
        return Fault(line, "a second document begins here; a recipe is one document")
    context = f" {error.context}" if error.context else ""
    began = ""
    if error.context_mark and error.context_mark.line + 1 != line:
        began = f" (begun on line {error.context_mark.line + 1})"
    return Fault(line, f"not valid YAML: {problem}{context}{began}")


class _Builder:
    """Plain values from nodes, counted so that aliases cannot grow without bound."""

    def __init__(self) -> None:
        self.lines: dict[Path, int] = {}
        self.nodes: dict[Path, yaml.Node] = {}
        self.faults: list[Fault] = []
        self.values = 0
        self.depth = 0
        self.full = False

    def fault(self, node: yaml.Node, text: str) -> None:
        if len(self.faults) < MAX_FAULTS:
            self.faults.append(Fault(node.start_mark.line + 1, text))

    def build(self, node: yaml.Node, path: Path) -> Any:
        self.depth += 1  # not the length of the path: a merge of a mapping into itself stays in one place
        try:
            return self.value(node, path)
        finally:
            self.depth -= 1

    def value(self, node: yaml.Node, path: Path) -> Any:
        self.lines.setdefault(path, node.start_mark.line + 1)
        self.nodes[path] = node
        self.values += 1
        if self.full or self.values > MAX_VALUES or self.depth > MAX_DEPTH:
            self.stop(node, self.depth > MAX_DEPTH)
            return None
        if node.tag not in TYPES:
            self.fault(node, f"tag {node.tag.replace('tag:yaml.org,2002:', '!!')} is not allowed; write plain values")
            return None
        if isinstance(node, yaml.MappingNode):
            return self.mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self.build(item, (*path, i)) for i, item in enumerate(node.value) if not self.full]
        assert isinstance(node, yaml.ScalarNode)
        return self.scalar(node)

    def stop(self, node: yaml.Node, deep: bool) -> None:
        if not self.full:
            many = f"more than {MAX_VALUES:,} values once its aliases are written out"
            self.fault(node, f"nested more than {MAX_DEPTH} deep" if deep else many)
        self.full = True

    def mapping(self, node: yaml.MappingNode, path: Path) -> dict[str, Any]:
        merged: dict[str, Any] = {}
        own: dict[str, Any] = {}
        first: dict[Hashable, int] = {}
        for key_node, value_node in node.value:
            if self.full:
                break
            if key_node.tag == "tag:yaml.org,2002:merge":
                merged = self.merge(value_node, path) | merged
                continue
            key = self.key(key_node)
            if key is None:
                continue
            line = key_node.start_mark.line + 1
            if key in first:
                self.fault(key_node, f"{key} is given twice in one mapping (first on line {first[key]})")
                continue
            first[key] = line
            self.lines[(*path, key)] = line
            own[key] = self.build(value_node, (*path, key))
        return {**{k: v for k, v in merged.items() if k not in own}, **own}

    def merge(self, node: yaml.Node, path: Path) -> dict[str, Any]:
        """What `<<: *anchor` brings in; earlier mappings of a list win."""
        nodes = node.value if isinstance(node, yaml.SequenceNode) else [node]
        merged: dict[str, Any] = {}
        for item in nodes:
            value = self.build(item, path) if isinstance(item, yaml.MappingNode) else None
            if value is None and not self.full:
                self.fault(item, "<<: takes a mapping, or a list of mappings")
            merged = (value or {}) | merged
        return merged

    def key(self, node: yaml.Node) -> str | None:
        if isinstance(node, yaml.ScalarNode) and node.tag.rpartition(":")[2] in ("str", "int", "float"):
            return str(node.value)
        shown = repr(node.value) if isinstance(node, yaml.ScalarNode) else "a list or mapping"
        self.fault(node, f"a key should be text, got {shown}; put it in quotes")
        return None

    def scalar(self, node: yaml.ScalarNode) -> Any:
        kind = node.tag.rpartition(":")[2]
        text = str(node.value)
        try:
            if kind == "bool":
                return {"true": True, "false": False}[text.lower()]
            if kind == "null":
                return None
            if kind == "int":
                return int(text.replace("_", ""))
            if kind == "float":
                return float(text.replace("_", "").lower().replace(".inf", "inf").replace(".nan", "nan"))
        except (KeyError, ValueError):
            self.fault(node, f"{text[:40]!r} is not {WORDS[kind]}")
            return None
        if (fault := text_fault(text)) is not None:
            self.fault(node, f"{fault}, which no text may hold")
            return None
        return text
