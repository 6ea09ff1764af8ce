"""Sizes counted by hand, refused parameters, damaged containers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from dpred_sim.codecs.base import CODECS, codec
from dpred_sim.errors import InputError
from dpred_sim.values.tensor import LazyTensor, Tensor

ALL = [
    codec("raw"),
    codec("per_layer"),
    codec("zero_rle"),
    codec("zero_rle", run_bits=5),
    codec("bitmap"),
    codec("bdi"),
    codec("apack"),
    *(codec("dpred", mode=mode) for mode in ("plain", "zeros", "adaptive", "auto", "offline")),
]


def bits_of(encoded) -> str:
    """The payload as text, padding cut off."""
    return "".join(f"{byte:08b}" for byte in encoded.payload)[: encoded.size_bits]


def test_built_in_codecs() -> None:
    assert {"raw", "per_layer", "zero_rle", "bitmap", "bdi", "apack", "dpred"} <= set(CODECS.names())


def test_dpred_plain_by_hand() -> None:
    x = Tensor(np.array([5, 0, 3, 1, 0, 0]), 8, False)
    made = codec("dpred", group_size=4, mode="plain")
    # Width 3: prefix 010; then width 1: prefix 000 and a short group.
    assert bits_of(made.encode(x)) == "010" + "101000011001" + "000" + "00"
    assert made.group_bits(x).tolist() == [15, 5]
    assert made.size_bits(x) == 20


def test_dpred_zeros_by_hand() -> None:
    x = Tensor(np.array([-2, 0, 3, 0, 0, 0]), 16, True)
    made = codec("dpred", group_size=4, mode="zeros")
    # Width 3: prefix 0010, flags, two fields; then width 2 (a signed zero): prefix 0001 and flags.
    assert bits_of(made.encode(x)) == "00101010110011" + "000100"
    assert made.group_bits(x).tolist() == [14, 6]


def test_dpred_adaptive_by_hand() -> None:
    x = Tensor(np.array([7, 7, 7, 7, 0, 0, 0, 100]), 8, False)
    made = codec("dpred", group_size=4, mode="adaptive")
    assert bits_of(made.encode(x)) == "0010111111111111" + "111000011100100"
    assert made.group_bits(x).tolist() == [16, 15]


def test_dpred_adaptive_prefers_plain_when_both_are_as_long() -> None:
    x = Tensor(np.array([9, 9, 9, 0]), 8, False)  # 3 + 4 * 4 = 3 + 4 + 3 * 4
    encoded = codec("dpred", group_size=4, mode="adaptive").encode(x)
    assert bits_of(encoded) == "00111001100110010000"


def test_dpred_offline_records_the_tensor_s_choice() -> None:
    dense = Tensor(np.full(16, 3), 8, False)
    sparse = Tensor(np.eye(1, 16, dtype=int)[0] * 200, 8, False)
    made = codec("dpred", mode="offline")
    assert bits_of(made.encode(dense))[0] == "0"
    assert bits_of(made.encode(sparse))[0] == "1"
    assert made.size_bits(dense) == 1 + 3 + 32
    assert made.size_bits(sparse) == 1 + 3 + 16 + 8
    assert made.header_bits(dense) == 1


def test_auto_decides_weights_offline_and_activations_group_by_group() -> None:
    x = Tensor(np.arange(32).reshape(2, 16), 8, False)
    auto = codec("dpred", group_size=8, mode="auto")
    assert auto.chosen_for(x, "weights") == codec("dpred", group_size=8, mode="offline")
    assert auto.chosen_for(x, "activations") == codec("dpred", group_size=8, mode="adaptive")
    assert auto.encode(x) == codec("dpred", group_size=8, mode="adaptive").encode(x)
    for made in ALL:
        if getattr(made, "mode", "") != "auto":
            assert made.chosen_for(x, "weights") is made


def test_per_layer_by_hand() -> None:
    x = Tensor(np.array([5, 0, 3]), 8, False, precision=3)
    assert bits_of(codec("per_layer").encode(x)) == "010101000011"
    y = Tensor(np.array([-4, 3]), 16, True, precision=3)
    assert bits_of(codec("per_layer").encode(y)) == "0010100011"
    assert codec("per_layer").header_bits(y) == 4


def test_per_layer_one_bit_two_s_complement() -> None:
    made = codec("per_layer")
    fits = Tensor(np.array([0, -1, 0]), 8, True, precision=1)
    assert bits_of(made.encode(fits)) == "000010"
    assert made.decode(made.encode(fits)).values.tolist() == [0, -1, 0]
    with pytest.raises(InputError, match="wider"):
        made.size_bits(Tensor(np.array([0, 1]), 8, True, precision=1))


def test_per_layer_refuses_values_wider_than_the_precision() -> None:
    x = Tensor(np.array([8]), 8, False, precision=3)
    for ask in (codec("per_layer").encode, codec("per_layer").size_bits, codec("per_layer").group_bits):
        with pytest.raises(InputError, match=r"found '4 bits'; allowed: 3 bits"):
            ask(x)


def test_zero_rle_by_hand() -> None:
    values = np.zeros(48, int)
    values[[0, 3, 19, 37]] = 1, 2, 3, 4
    x = Tensor(values, 8, False)
    made = codec("zero_rle")
    # Zeros before the values: 0, 2, 15 (fits), 17 (a filler of 16 and 1 more); 10 at the end are free.
    tokens = [(0, 1), (2, 2), (15, 3), (15, 0), (1, 4)]
    assert bits_of(made.encode(x)) == "".join(f"{run:04b}{value:08b}" for run, value in tokens)
    assert made.group_bits(x).tolist() == [24, 12, 24]


def test_zero_rle_of_zeros_is_empty() -> None:
    x = Tensor(np.zeros((4, 40), int), 16, True)
    encoded = codec("zero_rle").encode(x)
    assert (encoded.payload, encoded.size_bits) == (b"", 0)
    assert not codec("zero_rle").decode(encoded).values.any()


def test_zero_rle_of_long_runs_over_many_chunks(monkeypatch) -> None:
    monkeypatch.setattr("dpred_sim.codecs.zero_rle.CHUNK", 100)
    values = np.zeros((3, 1000), int)
    values[0, 7], values[2, 990], values[2, 999] = 1, -2, 3
    x = Tensor(values, 16, True)
    made = codec("zero_rle", run_bits=2)
    gap = 2990 - 7 - 1
    assert made.size_bits(x) == (2 + gap // 4 + 1 + 2 + 1) * 18 == made.encode(x).size_bits
    assert int(made.group_bits(x)[2, 990 // 16]) == (gap // 4 + 1) * 18
    assert (made.decode(made.encode(x)).values == values).all()


def test_bitmap_by_hand() -> None:
    x = Tensor(np.array([5, 0, 0, 255, 0, 0]), 8, False)
    made = codec("bitmap", group_size=4)
    assert bits_of(made.encode(x)) == "1001" + "00000101" + "11111111" + "00"
    assert made.group_bits(x).tolist() == [20, 2]


def test_bdi_by_hand() -> None:
    groups = [
        ([0] * 4, "0111" + "00000000"),
        ([1, 3, 2, 0], "0000" + "00000000" + "01111000"),  # values of 2 bits
        ([200, 199, 201, 198], "0001" + "11001000" + "00110110"),  # differences 0, -1, 1, -2
        ([0, 255, 0, 1], "0110" + "00000000" + "11111111" + "00000000" + "00000001"),
    ]
    x = Tensor(np.array([values for values, _ in groups]), 8, False)
    made = codec("bdi", group_size=4)
    assert bits_of(made.encode(x)) == "".join(text for _, text in groups)
    assert made.group_bits(x)[:, 0].tolist() == [12, 20, 20, 36]


def test_bdi_takes_the_values_where_both_fit() -> None:
    x = Tensor(np.array([-1, 1, 0, -2, 5]), 16, True)
    assert bits_of(codec("bdi", group_size=4).encode(x))[:4] == "0000"
    assert codec("bdi", group_size=4).group_bits(x).tolist() == [4 + 16 + 8, 4 + 16]
    far = Tensor(np.array([-32768, 32767, 0, 0]), 16, True)  # a difference of 17 bits
    assert codec("bdi").size_bits(far) == 4 + 64


def test_raw_is_big_endian() -> None:
    assert codec("raw").encode(Tensor(np.array([1, -2]), 16, True)).payload == b"\x00\x01\xff\xfe"
    assert codec("raw").size_bits(Tensor(np.array([1, 2, 3]), 8)) == 24


@pytest.mark.parametrize("made", ALL, ids=str)
@pytest.mark.parametrize(
    ("bits", "signed", "extremes"),
    [(8, True, [-128, 127]), (8, False, [0, 255]), (16, True, [-32768, 32767]), (16, False, [0, 65535])],
)
def test_extremes_and_zeros_survive(made, bits, signed, extremes) -> None:
    for values in ([*extremes] * 20, [extremes[0]] * 33, [extremes[1]], [0] * 40):
        x = Tensor(np.array(values), bits, signed)
        encoded = made.encode(x)
        assert encoded.size_bits == made.size_bits(x)
        assert made.decode(encoded).values.tolist() == values


@pytest.mark.parametrize("made", ALL, ids=str)
def test_images_and_depthwise_weights_keep_their_order(made) -> None:
    rng = np.random.default_rng(1)
    for shape, leading in (((9, 11, 3), (9, 3)), ((50, 3, 2, 1), (3, 2, 4)), ((4, 3, 3, 3), (4, 3, 1))):
        x = Tensor(rng.integers(0, 200, shape), 8, False)
        assert made.group_bits(x).shape == leading
        assert (made.decode(made.encode(x)).values == x.values).all()


def test_many_groups_cross_chunks(monkeypatch) -> None:
    for module in ("bits", "groups", "zero_rle", "per_layer"):
        monkeypatch.setattr(f"dpred_sim.codecs.{module}.CHUNK", 64)
    rng = np.random.default_rng(2)
    x = Tensor(rng.integers(-300, 300, (40, 37)) * (rng.random((40, 37)) < 0.5), 16, True)
    for made in ALL:
        assert (made.decode(made.encode(x)).values == x.values).all()


def test_sizes_of_a_tensor_that_is_not_loaded_twice() -> None:
    made = []

    def make() -> Tensor:
        made.append(1)
        return Tensor(np.arange(640).reshape(10, 64) % 50, 8, False)

    x = LazyTensor((10, 64), 8, 8, False, make)
    other = LazyTensor((1,), 8, 8, False, lambda: Tensor(np.array([1]), 8, False))
    sizes = []
    for mode in ("plain", "zeros", "adaptive", "offline"):
        sizes.append(codec("dpred", mode=mode).size_bits(x))
        other.load()
    assert made == [1]
    assert len(set(sizes)) == 4


@pytest.mark.parametrize(
    ("name", "parameters", "text"),
    [
        ("dpred", {"mode": "zero"}, "mode: mode; found 'zero'; allowed: plain, zeros, adaptive"),
        ("dpred", {"group_size": 0}, "group_size"),
        ("dpred", {"group_size": 2.0}, "group_size"),
        ("raw", {"group_size": -1}, "group_size"),
        ("per_layer", {"group_size": "16"}, "group_size"),
        ("zero_rle", {"group_size": 0}, "group_size"),
        ("bitmap", {"group_size": 0}, "group_size"),
        ("bdi", {"group_size": True}, "group_size"),
        ("apack", {"group_size": 0}, "group_size"),
        ("apack", {"table": 3}, "table: not a table of value ranges; found '3'"),
        ("zero_rle", {"run_bits": 0}, "run_bits"),
        ("zero_rle", {"run_bits": 17}, "run_bits"),
        ("zero_rle", {"run_bits": "4"}, "run_bits"),
        ("dpred", {"groupsize": 16}, "did you mean 'group_size'"),
        ("dpredd", {}, "did you mean 'dpred'"),
    ],
)
def test_what_is_refused(name, parameters, text) -> None:
    with pytest.raises(InputError, match=text):
        codec(name, **parameters)


@pytest.mark.parametrize("made", ALL, ids=str)
def test_damaged_containers(made) -> None:
    x = Tensor(np.arange(1, 101).reshape(4, 25), 8, False)
    encoded = made.encode(x)
    for broken in (
        replace(encoded, payload=encoded.payload[:-1]),
        replace(encoded, payload=encoded.payload + b"\0"),
        replace(encoded, payload=b""),
        replace(encoded, payload=encoded.payload[:-2], size_bits=encoded.size_bits - 16),
        replace(encoded, payload=encoded.payload + b"\0\0", size_bits=encoded.size_bits + 16),
        replace(encoded, shape=(3, 25)),
        replace(encoded, shape=(5, 25)),
    ):
        if type(made).__name__ == "ZeroRle" and broken.shape == (5, 25):
            continue  # more zeros at the end: a container like any other
        with pytest.raises(InputError, match="damaged container"):
            made.decode(broken)
