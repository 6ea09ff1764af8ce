"""Scripts: what they may be, and how their mistakes are told."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from dpred_sim.errors import InputError, MissingExtra
from dpred_sim.workload.load import load_workload
from dpred_sim.workload.workload import Workload

IMPORTS = """
import numpy as np
from dpred_sim.errors import InputError, MissingExtra
from dpred_sim.values.tensor import Tensor
from dpred_sim.workload.layer import Layer
from dpred_sim.workload.network import Network
from dpred_sim.workload.workload import Workload

def made(name, bits):
    network = Network()
    weights = Tensor(np.ones((2, 3, 3, 8), int), bits=bits)
    network.add(Layer.conv2d("conv1", Tensor(np.ones((4, 4, 8), int), bits=bits), weights))
    return Workload(name, network, bits, source="written down")
"""
LINES = IMPORTS.count("\n")


def load(folder: Path, body: str, **options: object) -> Workload:
    path = folder / "net.py"
    path.write_text(IMPORTS + body)
    return load_workload(path, **options)  # type: ignore[arg-type]


def fails(folder: Path, body: str, **options: object) -> InputError:
    with pytest.raises(InputError) as caught:
        load(folder, body, **options)
    assert caught.value.file == str(folder / "net.py")
    return caught.value


def test_an_exception_names_type_text_file_and_the_line_in_the_script(tmp_path: Path) -> None:
    error = fails(
        tmp_path,
        "def workload(*, bits, seed):\n    helper()\ndef helper():\n    np.zeros((2, 2)).reshape(5)\n",
    )
    assert error.message == "ValueError: cannot reshape array of size 4 into shape (5,)"
    assert error.line == LINES + 4


def test_an_exception_at_module_level_names_its_line(tmp_path: Path) -> None:
    error = fails(tmp_path, "x = 1\nx / 0\n")
    assert (error.message, error.line) == ("ZeroDivisionError: division by zero", LINES + 2)


def test_an_exception_without_text_is_told_by_its_type(tmp_path: Path) -> None:
    assert fails(tmp_path, "raise KeyError\n").message == "KeyError"


def test_an_input_error_keeps_its_parts_and_gets_the_place(tmp_path: Path) -> None:
    error = fails(
        tmp_path,
        "def workload(*, bits, seed):\n"
        "    return Layer.conv2d('c', Tensor(np.ones((4, 4, 8), int)), Tensor(np.ones((2, 3, 3, 7), int)))\n",
    )
    assert error.message == "shapes do not fit"
    assert error.field == "layer 'c': weights"
    assert error.line == LINES + 2


def test_an_input_error_about_another_file_stays_as_it_is(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="damaged") as caught:
        load(tmp_path, "raise InputError('damaged', file='model.onnx')\n")
    assert (caught.value.file, caught.value.line) == ("model.onnx", None)


def test_a_missing_extra_stays_one(tmp_path: Path) -> None:
    with pytest.raises(MissingExtra, match="pip install"):
        load(tmp_path, "raise MissingExtra('onnx', 'a real network')\n")


@pytest.mark.parametrize(("call", "text"), [("exit(3)", "SystemExit: 3"), ("exit()", "SystemExit")])
def test_a_script_that_exits_does_not_end_the_program(tmp_path: Path, call: str, text: str) -> None:
    error = fails(tmp_path, f"import sys\nsys.{call}\n")
    assert (error.message, error.line) == (text, LINES + 2)


def test_an_interrupt_passes(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        load(tmp_path, "raise KeyboardInterrupt\n")


def test_a_syntax_error_gives_its_line(tmp_path: Path) -> None:
    error = fails(tmp_path, "def workload(*, bits, seed)\n    pass\n")
    assert error.message.startswith("SyntaxError: expected")
    assert error.line == LINES + 1


def test_a_syntax_error_in_a_helper_names_the_helper(tmp_path: Path) -> None:
    (tmp_path / "broken_helper.py").write_text("\n\nx = = 1\n")
    with pytest.raises(InputError, match="SyntaxError") as caught:
        load(tmp_path, "import broken_helper\n")
    assert (caught.value.file, caught.value.line) == (str(tmp_path / "broken_helper.py"), 3)


def test_a_syntax_error_of_evaluated_text_names_the_script(tmp_path: Path) -> None:
    assert fails(tmp_path, "eval('1 +')\n").line == LINES + 1


@pytest.mark.parametrize(
    ("data", "text", "line"),
    [
        (b"", "empty", None),
        (b" \n\n", "empty", None),
        (b"\x7fELF\0\0", "binary", None),
        (b"# ok\nx = '\xe9'\n", "not UTF-8", 2),
    ],
)
def test_files_that_are_no_script(tmp_path: Path, data: bytes, text: str, line: int | None) -> None:
    path = tmp_path / "net.py"
    path.write_bytes(data)
    with pytest.raises(InputError, match=text) as caught:
        load_workload(path)
    assert (caught.value.file, caught.value.line) == (str(path), line)


def test_a_byte_order_mark_is_no_mistake(tmp_path: Path) -> None:
    path = tmp_path / "net.py"
    path.write_bytes(
        b"\xef\xbb\xbf" + IMPORTS.encode() + b"def workload(*, bits, seed): return made('x', bits)\n"
    )
    assert load_workload(path).name == "x"


def test_a_script_without_the_function(tmp_path: Path) -> None:
    assert "no function workload" in fails(tmp_path, "def wrkload(*, bits, seed): pass\n").message


def test_a_name_that_is_no_function(tmp_path: Path) -> None:
    assert "not a function" in fails(tmp_path, "workload = made('x', 16)\n").message


def test_a_function_without_the_keywords(tmp_path: Path) -> None:
    error = fails(tmp_path, "\ndef workload(bits): return made('x', bits)\n")
    assert "seed" in error.message
    assert error.line == LINES + 2


def test_a_function_that_returns_something_else(tmp_path: Path) -> None:
    error = fails(tmp_path, "def workload(*, bits, seed): return made('x', bits).network\n")
    assert (error.found, error.line) == ("Network", LINES + 1)


def test_a_function_that_ignores_the_width(tmp_path: Path) -> None:
    error = fails(tmp_path, "def workload(*, bits, seed): return made('x', 8)\n")
    assert (error.field, error.found, error.allowed) == ("bits", 8, 16)


def test_inputs_and_quantise_reach_a_function_that_takes_them(tmp_path: Path) -> None:
    photo = tmp_path / "photo.png"
    photo.write_bytes(b"x")
    body = (
        "def workload(*, bits, seed, inputs, quantise): return made(f'{quantise} {inputs[0].name}', bits)\n"
    )
    assert load(tmp_path, body, inputs=[photo], quantise="full_range").name == "full_range photo.png"
    body = "def workload(**options): return made(' '.join(sorted(options)), options['bits'])\n"
    assert load(tmp_path, body).name == "bits inputs quantise seed"


def test_inputs_and_quantise_are_never_ignored(tmp_path: Path) -> None:
    body = "def workload(*, bits, seed): return made('x', bits)\n"
    assert load(tmp_path, body).name == "x"
    photo = tmp_path / "photo.png"
    photo.write_bytes(b"x")
    assert fails(tmp_path, body, inputs=[photo]).field == "inputs"
    assert fails(tmp_path, body, quantise="full_range").field == "quantise"


def test_the_script_is_no_main_program_and_leaves_nothing_behind(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before, path = set(sys.modules), list(sys.path)
    (tmp_path / "shared_part.py").write_text("NAME = 'from a helper'\n")
    body = (
        "from dataclasses import dataclass\n"
        "import shared_part\n"
        "@dataclass\n"
        "class Part:\n"
        "    size: 'int'\n"
        "print('hello')\n"
        "if __name__ == '__main__': raise SystemExit\n"
        "def workload(*, bits, seed): return made(shared_part.NAME, bits)\n"
    )
    assert load(tmp_path, body).name == "from a helper"
    left = {name for name in set(sys.modules) - before if not name.startswith("dpred_sim.")}
    assert "shared_part" not in left
    assert not [name for name in left if "workload" in name]
    assert sys.path == path
    assert sorted(p.name for p in tmp_path.glob("__pycache__/net*")) == []
    printed = capsys.readouterr()
    assert (printed.out, printed.err) == ("", "hello\n")


def test_two_scripts_do_not_share_names(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "part_of_it.py").write_text(f"NAME = {folder!r}\n")
    body = "import part_of_it\ndef workload(*, bits, seed): return made(part_of_it.NAME, bits)\n"
    assert [load(tmp_path / folder, body).name for folder in ("a", "b", "a")] == ["a", "b", "a"]


def test_an_edited_script_is_read_again(tmp_path: Path) -> None:
    for name in ("one", "two"):
        assert load(tmp_path, f"def workload(*, bits, seed): return made({name!r}, bits)\n").name == name


def test_a_script_that_loads_itself(tmp_path: Path) -> None:
    error = fails(tmp_path, "from dpred_sim.workload.load import load_workload\nload_workload(__file__)\n")
    assert "loads itself" in error.message
