"""Node-link JSON there and back, GraphML, and the JSON Schema of the format."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path
from typing import Any

import networkx as nx
import pytest
from systems_under_test import EXAMPLE, KINDS, load_checked

from dpred_sim.errors import InputError
from dpred_sim.topology.convert import convert, json_schema, to_node_link
from dpred_sim.topology.document import parse_yaml
from dpred_sim.topology.graph import Topology
from dpred_sim.topology.schema import Bits, Cycles, Hertz, TimePs, format_bits, format_hertz, format_ps

Make = Callable[..., Topology]

ODD = (
    ("clocks: {core: 1 GHz}", "clocks: {core: 1.333333333 GHz, slow: 606 MHz}"),
    ("{between: [dram", "{name: fill, clock: slow, between: [dram"),
    ("width: 256 bit, latency: 4 cycle}\n  - {from: dram", "width: unlimited}\n  - {from: dram"),
    ("port: 4096 bit}", "port: 4095 bit, stores: {codec: dpred, mode: zeros}, converter: {groups: 3}}"),
    ("lanes: 16", "lanes: 8, run_ahead: 2"),
    ("kind: dispatcher", "kind: dispatcher, reuse: none, latency: 0 cycle"),
    ("links:\n", "  hub: {kind: router, delay: 13.75 ns}\nlinks:\n"),
    (
        "links:\n",
        "links:\n  - {from: dram, to: hub, width: 1 bit}\n  - {from: hub, to: dispatcher, width: 1 bit}\n",
    ),
)
ROUTE = "routes:\n  - {from: dram, to: dispatcher, via: [dram->hub, hub->dispatcher]}\n"


def test_node_link_json_is_lossless(make: Make, tmp_path: Path) -> None:
    for system in (make(), make(EXAMPLE + ROUTE, *ODD), make().with_ideal_memory()):
        path = tmp_path / "system.json"
        convert(system, path)
        again = load_checked(path)
        assert again == system
        assert again.description == system.description
        assert to_node_link(again) == to_node_link(system)


def test_networkx_reads_it(make: Make) -> None:
    system = make()
    graph = nx.node_link_graph(to_node_link(system), edges="links")
    assert isinstance(graph, nx.MultiDiGraph)
    assert set(graph.nodes) == set(system.graph.nodes)
    assert set(graph.edges(keys=True)) == set(system.graph.edges(keys=True))


def test_graphml_opens_and_holds_the_scalars(make: Make, tmp_path: Path) -> None:
    path = tmp_path / "system.graphml"
    system = make(EXAMPLE + ROUTE, *ODD)
    convert(system, path)
    ElementTree.parse(path)
    graph = nx.read_graphml(path, force_multigraph=True)
    assert set(graph.nodes) == set(system.graph.nodes)
    assert graph.number_of_edges() == system.graph.number_of_edges()
    assert graph.nodes["tile.0"]["lanes"] == 8
    assert json.loads(graph.nodes["activations"]["stores"]) == {"codec": "dpred", "mode": "zeros"}


def test_only_known_forms_are_written(make: Make, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such form"):
        convert(make(), tmp_path / "a.yaml")
    with pytest.raises(InputError, match="cannot be written"):
        convert(make(), tmp_path / "missing" / "a.json")


def broken(make: Make, tmp_path: Path, change: Callable[[dict[str, Any]], object]) -> InputError:
    data = to_node_link(make())
    change(data)
    path = tmp_path / "broken.json"
    path.write_text(json.dumps(data, indent=1))
    with pytest.raises(InputError) as caught:
        load_checked(path)
    return caught.value


NODE, EDGE = "nodes", "links"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: d.pop("graph"), "mapping 'graph'"),
        (lambda d: d["graph"].pop("schema"), "'schema' is missing"),
        (lambda d: d["graph"].update(schema="x"), "not a format"),
        (lambda d: d["graph"].update(mesh=1), "unknown key"),
        (lambda d: d["graph"].update(description=3), "not a text"),
        (lambda d: d["graph"].update(clocks={"core": 1}), "needs a unit"),
        (lambda d: d.update(extra=1), "not a key of node-link"),
        (lambda d: d.pop(EDGE), "list of edges"),
        (lambda d: d[NODE].append(3), "mapping with an id"),
        (lambda d: d[NODE].append(d[NODE][0]), "the same id twice"),
        (lambda d: d[NODE][0].update(kind="dramm"), "unknown component kind"),
        (lambda d: d[NODE][0].pop("kind"), "'kind' is missing"),
        (lambda d: d[NODE][0].update(size=3), "unknown key"),
        (lambda d: d[NODE][0].update(parameters=3), "parameters are a mapping"),
        (lambda d: d[NODE][0]["parameters"].update(count=3), "not a parameter"),
        (lambda d: d[NODE][0]["parameters"].update(bus="64"), "not a quantity"),
        (lambda d: d[NODE][0]["parameters"].update(level="idael"), "should be"),
        (lambda d: d[NODE][0].update(id="a b"), "not a name"),
        (lambda d: d[EDGE].append(3), "an edge is a mapping"),
        (lambda d: d[EDGE][0].pop("source"), "has a source"),
        (lambda d: d[EDGE][0].pop("order"), "'order'"),
        (lambda d: d[EDGE][0].update(order=True), "'order'"),
        (lambda d: d[EDGE][0].update(source="nobody"), "no such node"),
        (lambda d: d[EDGE][0].update(width="3"), "not a quantity"),
        (lambda d: d[EDGE][0].pop("width"), "'width' is missing"),
        (lambda d: d[NODE][-1].update(medium="buss"), "'bus'"),
        (
            lambda d: d.update({EDGE: [e for e in d[EDGE] if e["source"] != "dispatcher"]}),
            "nothing goes from",
        ),
        (lambda d: d[EDGE].append({"source": d[NODE][-1]["id"], "target": d[NODE][-2]["id"]}), "between two"),
    ],
)
def test_broken_node_link_data(
    make: Make, tmp_path: Path, change: Callable[[dict[str, Any]], object], words: str
) -> None:
    error = broken(make, tmp_path, change)
    assert words in str(error)
    assert error.file is not None and error.file.endswith("broken.json")


def test_mistakes_in_json_have_a_line(make: Make, tmp_path: Path) -> None:
    error = broken(make, tmp_path, lambda d: d[NODE][1]["parameters"].update(size="4 MHz"))
    lines = (tmp_path / "broken.json").read_text().splitlines()
    assert error.line is not None and '"size": "4 MHz"' in lines[error.line - 1]
    assert error.field == "nodes.activations.size"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "not JSON"),
        ('{"nodes": [], "nodes": []}', "the same key twice"),
        ('{"nodes": NaN}', "not a finite number"),
        ('{"nodes": 1e999}', "not a finite number"),
        ('{"nodes": ' + "9" * 5000 + "}", "too many digits"),
        ("[" * 100_000, "nested too deeply"),
        ("[]", "a topology is a mapping"),
        ('{"nodes": [{}]}', "mapping 'graph'"),
    ],
)
def test_what_is_no_json_topology(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "system.json"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        load_checked(path)
    assert words in str(caught.value)


def test_the_schema_describes_every_key_of_the_models() -> None:
    schema = json_schema(KINDS)
    json.dumps(schema)
    for name, model in KINDS.items():
        made = schema["$defs"][f"kind_{name}"]
        assert set(made["properties"]) == {"kind", "count", *model.model_fields}
        required = {key for key, field in model.model_fields.items() if field.is_required()}
        assert set(made["required"]) == {"kind", *required}
        assert made["additionalProperties"] is (name == "tile") or made["additionalProperties"]
    assert schema["properties"]["nodes"]["additionalProperties"]["properties"]["kind"]["enum"] == sorted(
        KINDS
    )


def test_the_schema_accepts_the_example_and_refuses_mistakes() -> None:
    schema = json_schema(KINDS)
    document = parse_yaml(EXAMPLE, "example").data
    assert not list(complaints(document, schema, schema))
    for change in (
        lambda d: d.update(mesh=1),
        lambda d: d["nodes"]["activations"].update(size="4 MHz"),
        lambda d: d["nodes"]["activations"].update(size=4),
        lambda d: d["nodes"]["activations"].pop("port"),
        lambda d: d["nodes"]["tile"].update(count=0),
        lambda d: d["nodes"]["dispatcher"].update(kind="dispatch"),
        lambda d: d["links"][0].update(to="dram"),
        lambda d: d["links"][1].pop("from"),
        lambda d: d["clocks"].update(core="1"),
    ):
        broken = parse_yaml(EXAMPLE, "example").data
        change(broken)
        assert list(complaints(broken, schema, schema))


def complaints(value: Any, schema: dict[str, Any], top: dict[str, Any]) -> list[str]:
    """A validator of the part of JSON Schema that the format uses."""
    if "$ref" in schema:
        return complaints(value, top["$defs"][schema["$ref"].rpartition("/")[2]], top)
    found: list[str] = []
    kinds = {
        "object": dict,
        "array": list,
        "string": str,
        "integer": int,
        "boolean": bool,
        "null": type(None),
    }
    kinds["number"] = (int, float)  # type: ignore[assignment]
    named = schema.get("type", [])
    allowed = [kinds[name] for name in ([named] if isinstance(named, str) else named)]
    if allowed and not any(isinstance(value, kind) for kind in allowed):
        return [f"{value!r} is no {named}"]
    if "const" in schema and value != schema["const"]:
        found.append(f"{value!r} is not {schema['const']!r}")
    if "enum" in schema and value not in schema["enum"]:
        found.append(f"{value!r} is not one of {schema['enum']}")
    if "pattern" in schema and not re.search(schema["pattern"], value):
        found.append(f"{value!r} does not match {schema['pattern']}")
    if "minimum" in schema and value < schema["minimum"]:
        found.append(f"{value!r} is too small")
    for key in ("anyOf", "oneOf"):
        if key in schema:
            passed = sum(not complaints(value, part, top) for part in schema[key])
            if passed == 0 or (key == "oneOf" and passed > 1):
                found.append(f"{value!r}: {passed} of {key}")
    if "not" in schema and not complaints(value, schema["not"], top):
        found.append(f"{value!r} is what it must not be")
    for part in schema.get("allOf", []):
        if "if" not in part:
            found += complaints(value, part, top)
        elif not complaints(value, part["if"], top):
            found += complaints(value, part["then"], top)
    if isinstance(value, dict):
        properties = schema.get("properties", {})
        found += [f"{key} is missing" for key in schema.get("required", []) if key not in value]
        extra = schema.get("additionalProperties", True)
        for key, item in value.items():
            if key in properties:
                found += complaints(item, properties[key], top)
            elif extra is False:
                found.append(f"{key} is too much")
            elif isinstance(extra, dict):
                found += complaints(item, extra, top)
    if isinstance(value, list):
        items = schema.get("items", {})
        found += [text for item in value for text in complaints(item, items, top)]
        if len(value) < schema.get("minItems", 0):
            found.append("too few items")
    return found


@pytest.mark.parametrize(
    "bits", [1, 8, 255, 4096, 1 << 17, (1 << 17) + 8, 3 << 20, 4 << 23, 1 << 33, 5 << 33]
)
def test_quantities_are_written_exactly(bits: int) -> None:
    from pydantic import TypeAdapter

    assert TypeAdapter(Bits).validate_python(format_bits(bits)) == bits
    assert TypeAdapter(Hertz).validate_python(format_hertz(bits)) == bits
    assert TypeAdapter(TimePs).validate_python(format_ps(bits)) == bits
    assert TypeAdapter(Cycles).validate_python(f"{bits % 1000} cycle") == bits % 1000
