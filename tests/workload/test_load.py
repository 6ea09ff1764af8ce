"""Which importer a reference goes to, and which arguments are refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from dpred_sim import locate
from dpred_sim.errors import InputError
from dpred_sim.workload.importers import base
from dpred_sim.workload.importers.base import Importer, importer_for
from dpred_sim.workload.load import load_workload

SCRIPT = """
import numpy as np
from dpred_sim.values.tensor import Tensor
from dpred_sim.workload.layer import Layer
from dpred_sim.workload.network import Network
from dpred_sim.workload.workload import Workload

def workload(*, bits, seed):
    network = Network()
    activations = Tensor(np.full((4, 4, 8), seed), bits=bits)
    network.add(Layer.conv2d("conv1", activations, Tensor(np.ones((2, 3, 3, 8), int), bits=bits)))
    return Workload("tiny", network, bits, source="written down")
"""


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.py"
    path.write_text(SCRIPT)
    return path


def test_loads_a_script_with_its_arguments(script: Path) -> None:
    found = load_workload(str(script), bits=8, seed=5)
    assert (found.name, found.bits, len(found.network)) == ("tiny", 8, 1)
    assert found.network.nodes[0].layer.activations.load().values.max() == 5


def test_defaults_are_sixteen_bits_and_seed_zero(script: Path) -> None:
    found = load_workload(script)
    assert found.bits == 16
    assert found.network.nodes[0].layer.activations.load().values.max() == 0


@pytest.mark.parametrize("bits", [0, 4, 12, 32, True, "16", 8.5, None])
def test_refuses_other_widths(script: Path, bits: object) -> None:
    with pytest.raises(InputError, match="bits") as caught:
        load_workload(script, bits=bits)  # type: ignore[arg-type]
    assert caught.value.field == "bits"


@pytest.mark.parametrize("seed", [-1, 1.0, "0", True, None])
def test_refuses_other_seeds(script: Path, seed: object) -> None:
    with pytest.raises(InputError) as caught:
        load_workload(script, seed=seed)  # type: ignore[arg-type]
    assert caught.value.field == "seed"


def test_names_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such workload file") as caught:
        load_workload(tmp_path / "nothing.py")
    assert caught.value.file == str(tmp_path / "nothing.py")


def test_refuses_a_folder_that_holds_nothing_known(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no importer reads such a workload folder.*layers\.json"):
        load_workload(tmp_path)


def test_a_bare_name_is_looked_up_among_the_ready_made(script: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locate, "ready_made", lambda folder: script.parent)
    assert load_workload("tiny").name == "tiny"
    with pytest.raises(InputError, match="did you mean 'tiny'"):
        load_workload("tinny")


def test_an_unknown_suffix_names_the_known_ones(tmp_path: Path) -> None:
    path = tmp_path / "net.prototxt"
    path.write_text("layer {}")
    with pytest.raises(InputError) as caught:
        load_workload(path)
    assert caught.value.found == ".prototxt"
    assert ".py" in caught.value.allowed  # type: ignore[operator]


def test_the_suffix_is_read_in_any_case(script: Path) -> None:
    upper = script.rename(script.with_suffix(".PY"))
    assert load_workload(upper).name == "tiny"


def test_missing_input_files_are_named_before_anything_runs(script: Path, tmp_path: Path) -> None:
    script.write_text("raise RuntimeError('ran')")
    with pytest.raises(InputError, match="no such input file") as caught:
        load_workload(script, inputs=[tmp_path / "photo.png"])
    assert caught.value.file == str(tmp_path / "photo.png")


def test_one_input_that_is_no_list_is_refused(script: Path) -> None:
    with pytest.raises(InputError, match="a list of files"):
        load_workload(script, inputs="photo.png")


def test_two_importers_of_one_suffix_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Other(Importer):
        suffixes = (".py",)

    base.IMPORTERS.names()
    monkeypatch.setitem(base.IMPORTERS._entries, "other", Other)
    with pytest.raises(InputError, match="'other' and 'script'"):
        importer_for(tmp_path / "net.py")
