"""Files as plain data that knows where each part stands.

YAML 1.2 without its traps: one document, no duplicate keys, no anchors and aliases, no tags, no
directives, string keys, finite numbers, bounded size. JSON files are read by the JSON reader.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from dpred_sim.errors import InputError

if TYPE_CHECKING:
    from ruamel.yaml.nodes import Node

Path_ = tuple[str | int, ...]
"""Keys and indices from the top of a document to a part of it."""

MAX_YAML_BYTES = 1 << 18
"""Bigger systems come as JSON, which reads a hundred times faster."""
MAX_JSON_BYTES = 1 << 24
MAX_DEPTH = 100
"""Deepest nesting of brackets in YAML."""
SUFFIXES = (".yaml", ".yml", ".json")

_BRACKET = re.compile(r"[\[\]{}]")
_TAG = "tag:yaml.org,2002:"


@dataclass(slots=True)
class Document:
    """Plain data (dict, list, str, int, float, bool, None) with the place of each part.

    `spots` maps a path to the line and column of its key (of its value in a list), `values` to those of
    its value, all from 1. `origins` maps paths that an override has changed to the override's text,
    `moved` parts of the data to where the file has them, `labels` parts to a better name for messages.
    """

    file: str
    data: Any
    description: str = ""
    text: str = field(default="", repr=False)
    spots: dict[Path_, tuple[int, int]] = field(default_factory=dict, repr=False)
    values: dict[Path_, tuple[int, int]] = field(default_factory=dict, repr=False)
    origins: dict[Path_, str] = field(default_factory=dict)
    moved: dict[Path_, Path_] = field(default_factory=dict, repr=False)
    labels: dict[Path_, str] = field(default_factory=dict, repr=False)

    def error(
        self,
        message: str,
        path: Path_ = (),
        *,
        key: bool = False,
        shown: str | None = None,
        found: object = None,
        allowed: object = None,
    ) -> InputError:
        """An InputError that points at a part, or at the nearest part above it that is in the file.

        `key` points at the key rather than at its value; `shown` replaces the path in the message.
        """
        shown = self._shown(path) if shown is None else shown
        origin = next(
            (self.origins[path[:n]] for n in range(len(path), 0, -1) if path[:n] in self.origins), None
        )
        if origin is not None:
            return InputError(message, file=f"--set {origin}", field=shown, found=found, allowed=allowed)
        line, column = self._where(path, key) or (None, None)
        return InputError(
            message,
            file=self.file,
            line=line,
            column=column,
            field=shown or None,
            found=found,
            allowed=allowed,
        )

    def _shown(self, path: Path_) -> str:
        for n in range(len(path), 0, -1):
            if path[:n] in self.labels:
                return dotted((self.labels[path[:n]], *path[n:]))
        return dotted(path)

    def _where(self, path: Path_, key: bool) -> tuple[int, int] | None:
        for n in range(len(path), -1, -1):
            if path[:n] in self.moved:
                path = self.moved[path[:n]] + path[n:]
                break
        if not self.spots and self.text and len(self.text) <= MAX_YAML_BYTES:
            self._locate()
        for n in range(len(path), -1, -1):
            spot = (self.spots if key and n == len(path) else self.values).get(path[:n])
            if spot is not None:
                return spot
        return None

    def _locate(self) -> None:
        """JSON is YAML: find out where everything stands only when somebody asks."""
        try:
            located = parse_yaml(self.text, self.file)
        except InputError:
            self.text = ""
        else:
            self.spots, self.values = located.spots, located.values


def dotted(path: Iterable[str | int]) -> str:
    """A path for people: "nodes.tile.rows", "links[2].width"."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def read_document(path: Path) -> Document:
    """Read a YAML or JSON file; raises InputError with file, line and column for whatever is wrong."""
    if path.suffix not in SUFFIXES:
        raise InputError("a topology file is YAML or JSON", file=path, found=path.suffix, allowed=SUFFIXES)
    json_file = path.suffix == ".json"
    limit = MAX_JSON_BYTES if json_file else MAX_YAML_BYTES
    try:
        with path.open("rb") as stream:
            raw = stream.read(limit + 1)
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror or error}", file=path) from None
    if len(raw) > limit:
        raise InputError("the file is too big for a topology", file=path, allowed=f"at most {limit} bytes")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        column = error.start - (raw.rfind(b"\n", 0, error.start) + 1) + 1
        raise InputError(
            "not UTF-8 text", file=path, line=line, column=column, found=f"byte 0x{raw[error.start]:02x}"
        ) from None
    if not text.strip():
        raise InputError("the file is empty", file=path)
    return parse_json(text, str(path)) if json_file else parse_yaml(text, str(path))


def parse_json(text: str, file: str) -> Document:
    """Parse JSON, refusing duplicate keys and numbers that are not finite."""

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        made = dict(items)
        if len(made) != len(items):
            keys = [key for key, _ in items]
            twice = next(key for key in keys if keys.count(key) > 1)
            raise InputError("the same key twice", file=file, field=twice)
        return made

    def constant(name: str) -> NoReturn:
        raise InputError("not a finite number", file=file, found=name)

    def number(digits: str) -> float:
        value = float(digits)
        return value if math.isfinite(value) else constant(digits)

    try:
        data = json.loads(text, object_pairs_hook=pairs, parse_constant=constant, parse_float=number)
    except json.JSONDecodeError as error:
        raise InputError(f"not JSON: {error.msg}", file=file, line=error.lineno, column=error.colno) from None
    except RecursionError:
        raise InputError("nested too deeply", file=file) from None
    except ValueError:
        raise InputError("a number with too many digits", file=file) from None
    return Document(file, data, text=text)


def parse_yaml(text: str, file: str) -> Document:
    """Parse YAML 1.2 with the restrictions of this module."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    _refuse_directives(text, file)
    _refuse_depth(text, file)
    yaml = YAML(typ="safe", pure=True)
    try:
        top = yaml.compose(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (None, None) if mark is None else (mark.line + 1, mark.column + 1)
        raise InputError(
            f"not YAML: {error.problem or error.context}", file=file, line=line, column=column
        ) from None
    except YAMLError as error:
        raise InputError(f"not YAML: {' '.join(str(error).split())}", file=file) from None
    except RecursionError:
        raise InputError("nested too deeply", file=file) from None
    except Exception as error:  # the parser is not ours, and hostile text brings out more than its own errors
        raise InputError(f"not YAML: {type(error).__name__}: {error}", file=file) from None
    document = Document(file, None, leading_comment(text), text)
    if top is None:
        raise InputError("the file says nothing", file=file)
    try:
        document.data = _Plain(document).value(top, ())
    except RecursionError:
        raise InputError("nested too deeply", file=file) from None
    return document


def leading_comment(text: str) -> str:
    """The comment that a file starts with, without editors' instructions."""
    lines = []
    for line in text.splitlines():
        if not line.startswith("#"):
            break
        comment = line[1:].strip()
        if not comment.startswith("yaml-language-server:"):
            lines.append(comment)
    return "\n".join(lines).strip()


def _refuse_directives(text: str, file: str) -> None:
    for number, line in enumerate(text.splitlines(), 1):
        if line.startswith("%"):
            raise InputError(
                "YAML directives are not allowed", file=file, line=number, column=1, found=line[:40]
            )
        if line.strip() and not line.lstrip().startswith("#"):
            return


def _refuse_depth(text: str, file: str) -> None:
    """The parser takes seconds to fail on thousands of open brackets."""
    depth = 0
    for match in _BRACKET.finditer(text):
        depth += 1 if match.group() in "[{" else -1
        if depth > MAX_DEPTH:
            line = text.count("\n", 0, match.start()) + 1
            raise InputError("nested too deeply", file=file, line=line, allowed=f"{MAX_DEPTH} brackets")


class _Plain:
    """Turns composed YAML nodes into plain data, noting where they stand."""

    def __init__(self, document: Document) -> None:
        self.document = document

    def value(self, node: Node, path: Path_) -> Any:
        self.document.values[path] = (node.start_mark.line + 1, node.start_mark.column + 1)
        if node.anchor is not None:
            raise self._refused(node, path, "anchors and aliases are not allowed", f"&{node.anchor}")
        tag = str(node.tag)
        short = tag.removeprefix(_TAG)
        if isinstance(node.value, str):
            return self._scalar(node, path, short)
        if short == "map":
            return self._mapping(node, path)
        if short == "seq":
            return self._sequence(node, path)
        raise self._refused(node, path, "tags are not allowed", tag)

    def _mapping(self, node: Node, path: Path_) -> dict[str, Any]:
        made: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node.value, str) or key_node.tag != f"{_TAG}str" or key_node.anchor:
                found = key_node.value if isinstance(key_node.value, str) else "a list or mapping"
                raise self._refused(key_node, path, "a key is a word, without tag or anchor", found)
            key = key_node.value
            here = (*path, key)
            if key in made:
                raise self._refused(key_node, here, "the same key twice", key)
            self.document.spots[here] = (key_node.start_mark.line + 1, key_node.start_mark.column + 1)
            made[key] = self.value(value_node, here)
        return made

    def _sequence(self, node: Node, path: Path_) -> list[Any]:
        made = []
        for index, item in enumerate(node.value):
            here = (*path, index)
            self.document.spots[here] = (item.start_mark.line + 1, item.start_mark.column + 1)
            made.append(self.value(item, here))
        return made

    def _scalar(self, node: Node, path: Path_, tag: str) -> Any:
        text: str = node.value
        if tag in ("str", "timestamp"):
            return text
        if tag == "null":
            return None
        if tag == "bool" and text.lower() in ("true", "false"):
            return text.lower() == "true"
        if tag in ("int", "float"):
            return self._number(node, path, tag)
        raise self._refused(node, path, "tags are not allowed", f"!!{tag}")

    def _number(self, node: Node, path: Path_, tag: str) -> int | float:
        text = node.value.replace("_", "")
        try:
            if tag == "int":
                unsigned = text.lstrip("+-")
                base = {"0x": 16, "0o": 8, "0b": 2}.get(unsigned[:2].lower(), 10)
                return int(text, base)
            value = float(text)
        except ValueError:
            raise self._refused(node, path, "not a finite number", node.value) from None
        if not math.isfinite(value):
            raise self._refused(node, path, "not a finite number", node.value)
        return value

    def _refused(self, node: Node, path: Path_, message: str, found: object) -> InputError:
        mark = node.start_mark
        return InputError(
            message,
            file=self.document.file,
            line=mark.line + 1,
            column=mark.column + 1,
            field=dotted(path) or None,
            found=found,
        )
