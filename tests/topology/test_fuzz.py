"""Whatever a file holds, loading it gives a system or an InputError and nothing else."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from systems_under_test import EXAMPLE, KINDS, load_checked

from dpred_sim.errors import InputError
from dpred_sim.locate import ready_made
from dpred_sim.topology.convert import to_node_link
from dpred_sim.topology.graph import Topology
from dpred_sim.topology.load import load

TEXTS = [EXAMPLE, *(path.read_text() for path in sorted(ready_made("topologies").glob("*.yaml")))]
WORDS = [
    *(
        "1",
        "0",
        "-1",
        "4096",
        "1e309",
        ".nan",
        "~",
        "true",
        "''",
        "[]",
        "{}",
        "[[]]",
        "{a: b}",
        "&a x",
        "*a",
        "!!int x",
    ),
    *(
        "4 MiB",
        "1 GHz",
        "8 bit",
        "4 cycle",
        "1e99 bit",
        "dram",
        "tile[*]",
        "tile[i]",
        "weights[0..3]",
        "tile.1",
    ),
    *(
        "kind",
        "count",
        "stores",
        "from",
        "to",
        "between",
        "medium",
        "bus",
        "\t",
        "#",
        ":",
        "-",
        "\x00",
        "\u2028",
        "\ud7ff",
    ),
]
quick = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def survives(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8", newline="")
    try:
        assert isinstance(load_checked(path), Topology)
    except InputError as error:
        assert str(path) in str(error)
        assert "\n" not in str(error)


@quick
@given(
    st.sampled_from(TEXTS),
    st.lists(st.tuples(st.sampled_from("dcsx"), st.integers(0, 60), st.integers(0, 60)), max_size=4),
)
def test_lines_lost_doubled_and_swapped(tmp_path: Path, text: str, edits: list[tuple[str, int, int]]) -> None:
    lines = text.splitlines()
    for edit, first, second in edits:
        a, b = first % len(lines), second % len(lines)
        if edit == "d" and len(lines) > 1:
            del lines[a]
        elif edit == "c":
            lines.insert(a, lines[b])
        elif edit == "s":
            lines[a], lines[b] = lines[b], lines[a]
        elif edit == "x":
            lines[a] = lines[a][: second % (len(lines[a]) + 1)]
    survives(tmp_path / "fuzz.yaml", "\n".join(lines) + "\n")


@quick
@given(st.sampled_from(TEXTS), st.integers(0, 2**32), st.integers(1, 3))
def test_words_replaced(tmp_path: Path, text: str, seed: int, times: int) -> None:
    chosen = random.Random(seed)
    for _ in range(times):
        parts = text.split(" ")
        parts[chosen.randrange(len(parts))] = chosen.choice(WORDS)
        text = " ".join(parts)
    survives(tmp_path / "fuzz.yaml", text)


@quick
@given(st.sampled_from(TEXTS), st.integers(0, 2000), st.binary(min_size=0, max_size=4), st.integers(0, 3))
def test_bytes_replaced(tmp_path: Path, text: str, at: int, new: bytes, gone: int) -> None:
    raw = text.encode()
    path = tmp_path / "fuzz.yaml"
    path.write_bytes(raw[:at] + new + raw[at + gone :])
    try:
        load_checked(path)
    except InputError as error:
        assert str(path) in str(error)


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-5, 5000)
    | st.floats()
    | st.sampled_from(WORDS)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(WORDS), inner, max_size=3),
    max_leaves=6,
)


@settings(quick, max_examples=40)
@given(st.data())
def test_values_of_node_link_data_replaced(tmp_path: Path, data: st.DataObject) -> None:
    import json

    example = tmp_path / "example.yaml"
    example.write_text(EXAMPLE)
    document = to_node_link(load_checked(example))
    part = document
    for _ in range(data.draw(st.integers(0, 4))):
        keys = list(part) if isinstance(part, dict) else list(range(len(part)))
        key = data.draw(st.sampled_from(keys)) if keys else None
        if key is None or not isinstance(part[key], dict | list):
            break
        part = part[key]
    keys = list(part) if isinstance(part, dict) else list(range(len(part)))
    if keys:
        part[data.draw(st.sampled_from(keys))] = data.draw(values)
    survives(tmp_path / "fuzz.json", json.dumps(document))


@quick
@given(
    st.sampled_from(["nodes", "links", "clocks", "name", ""]),
    st.lists(
        st.sampled_from(
            ["tile", "dram", "dram->activations", "core", "stores", "codec", "0", "size", "count"]
        ),
        max_size=3,
    ),
    st.sampled_from([word for word in WORDS if word.isprintable()]),
)
def test_any_override(tmp_path: Path, top: str, path: list[str], value: str) -> None:
    file = tmp_path / "example.yaml"
    file.write_text(EXAMPLE)
    try:
        load_checked(file, [".".join([top, *path]) + "=" + value])
    except InputError as error:
        assert "--set" in str(error) or str(file) in str(error)


@pytest.mark.parametrize("kinds", [{}, {"tile": KINDS["tile"]}])
def test_a_package_without_kinds(tmp_path: Path, kinds: dict[str, type]) -> None:
    path = tmp_path / "example.yaml"
    path.write_text(EXAMPLE)
    with pytest.raises(InputError, match="unknown component kind"):
        load(path, kinds)
