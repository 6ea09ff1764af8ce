"""Legacy torch files without torch: written here byte by byte, read back; wicked ones are refused."""

from __future__ import annotations

import io
import os
import pickle
import struct
import subprocess
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dpred_sim.errors import InputError
from dpred_sim.workload.trained.torch_legacy import MAGIC, PROTOCOL, read_torch_legacy


class Named:
    """Pickles as the global `module.name`, as a class of torch would."""

    def __init__(self, module: str, name: str) -> None:
        self.module, self.name = module, name


class Rebuilt:
    """A tensor: pickles as a call of torch._utils._rebuild_tensor_v2."""

    def __init__(self, key: str, storage: str, count: int, offset: int, shape: Any, strides: Any) -> None:
        self.storage = (key, storage, count)
        self.view = (offset, shape, strides)


class Storage:
    def __init__(self, key: str, kind: str, count: int) -> None:
        self.saved = ("storage", Named("torch", kind), key, "cpu", count, None)


class Writer(pickle._Pickler):  # type: ignore[name-defined]
    """Python's own pickler, taught to write names of modules that are not installed."""

    dispatch = pickle._Pickler.dispatch.copy()  # type: ignore[attr-defined]

    def persistent_id(self, thing: Any) -> Any:
        return thing.saved if isinstance(thing, Storage) else None

    def save_named(self, thing: Named) -> None:
        self.write(pickle.GLOBAL + f"{thing.module}\n{thing.name}\n".encode())

    def save_rebuilt(self, thing: Rebuilt) -> None:
        self.save(Named("torch._utils", "_rebuild_tensor_v2"))
        self.save((Storage(*thing.storage), *thing.view, False, OrderedDict()))
        self.write(pickle.REDUCE)

    dispatch[Named] = save_named
    dispatch[Rebuilt] = save_rebuilt


def packed(thing: Any) -> bytes:
    stream = io.BytesIO()
    Writer(stream, 2).dump(thing)
    return stream.getvalue()


def saved(path: Path, thing: Any, storages: Mapping[str, Any]) -> Path:
    parts = [packed(MAGIC), packed(PROTOCOL), packed({"little_endian": True}), packed(thing)]
    parts.append(packed(list(storages)))
    for values in storages.values():
        parts.append(struct.pack("<q", len(values)) + values.tobytes())
    path.write_bytes(b"".join(parts))
    return path


FLOATS = np.arange(24, dtype="<f4") / 7
LONGS = np.array([3, -5], "<i8")


def good(path: Path) -> Path:
    thing = OrderedDict(
        whole=Rebuilt("1", "FloatStorage", 24, 0, (2, 3, 4), (12, 4, 1)),
        turned=Rebuilt("1", "FloatStorage", 24, 4, (4, 2), (1, 12)),
        state={"steps": Rebuilt("0", "LongStorage", 2, 0, (2,), (1,)), "name": "ignored"},
        scalar=Rebuilt("1", "FloatStorage", 24, 7, (), ()),
    )
    return saved(path, thing, {"0": LONGS, "1": FLOATS})


def test_tensors_are_views_of_their_storages(tmp_path: Path) -> None:
    found = read_torch_legacy(good(tmp_path / "net.pt"))
    assert set(found) == {"whole", "turned", "state.steps", "scalar"}
    assert np.array_equal(found["whole"], FLOATS.reshape(2, 3, 4))
    # By hand: rows are values 4, 5, 6, 7 of the storage, columns twelve apart.
    assert np.array_equal(found["turned"], [[FLOATS[4 + i], FLOATS[16 + i]] for i in range(4)])
    assert np.array_equal(found["state.steps"], LONGS) and found["scalar"] == FLOATS[7]


class Wicked:
    def __init__(self, call: Any, *arguments: Any) -> None:
        self.call = (call, arguments)

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize(
    "thing",
    [
        Wicked(os.system, "touch TOUCHED"),
        Wicked(subprocess.getoutput, "touch TOUCHED"),
        Wicked(eval, "open('TOUCHED', 'w')"),
        Wicked(getattr, 1, "real"),
        Named("torch", "load"),
        Named("builtins", "exec"),
        Named("dpred_sim.cache", "write_atomic"),
    ],
)
@pytest.mark.parametrize("place", [0, 2, 3, 4])
def test_nothing_in_a_file_is_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, thing: Any, place: int
) -> None:
    monkeypatch.chdir(tmp_path)
    parts = [packed(MAGIC), packed(PROTOCOL), packed({}), packed({}), packed([])]
    parts[place] = packed(thing)
    Path("net.pt").write_bytes(b"".join(parts))
    with pytest.raises(InputError, match="names something that weights do not need") as caught:
        read_torch_legacy(Path("net.pt"))
    assert caught.value.exit_code == 2 and not Path("TOUCHED").exists()


@pytest.mark.parametrize(
    "view",
    [
        ("1", "FloatStorage", 24, 20, (5,), (1,)),
        ("1", "FloatStorage", 24, 0, (2, 3), (1,)),
        ("1", "FloatStorage", 24, 24, (2,), (-1,)),
        ("1", "FloatStorage", 24, -1, (2,), (1,)),
        ("1", "FloatStorage", "many", 0, (2,), (1,)),
        ("1", "FloatStorage", 24, 0, (1 << 40, 1 << 40), (0, 1)),
    ],
)
def test_a_tensor_that_its_storage_does_not_hold_is_refused(tmp_path: Path, view: Any) -> None:
    path = saved(tmp_path / "net.pt", {"x": Rebuilt(*view)}, {"1": FLOATS})
    with pytest.raises(InputError, match="not a legacy torch file, or a damaged one"):
        read_torch_legacy(path)


def test_a_file_cut_anywhere_is_refused(tmp_path: Path) -> None:
    data = good(tmp_path / "net.pt").read_bytes()
    for end in [*range(0, len(data), 7), len(data) - 1]:
        (tmp_path / "cut.pt").write_bytes(data[:end])
        with pytest.raises(InputError):
            read_torch_legacy(tmp_path / "cut.pt")
    with pytest.raises(InputError, match="cannot be read"):
        read_torch_legacy(tmp_path / "none.pt")
    (tmp_path / "zip.pt").write_bytes(b"PK\3\4" + data)
    with pytest.raises(InputError, match="not a legacy torch file"):
        read_torch_legacy(tmp_path / "zip.pt")
