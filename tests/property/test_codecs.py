"""Every codec against an oracle that counts and decodes one value at a time."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpred_sim.codecs.base import codec
from dpred_sim.values.tensor import Tensor
from tests.property import codec_oracle as oracle

GROUP_SIZES = (1, 3, 8, 16, 32, 256)
SHAPES = st.one_of(
    st.tuples(st.integers(1, 300)),
    st.tuples(st.integers(1, 5), st.integers(1, 60)),
    st.tuples(st.integers(1, 4), st.integers(1, 6), st.integers(1, 20)),
    st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 3), st.integers(1, 20)),
    st.tuples(st.integers(1, 40), st.integers(1, 3), st.integers(1, 3), st.just(1)),
)
NAMES = st.sampled_from(["raw", "per_layer", "zero_rle", "bitmap", "bdi", "apack", "dpred", "dpred"])
MODES = st.sampled_from(["plain", "zeros", "adaptive", "auto", "offline"])
limited = settings(max_examples=80, deadline=None)


@st.composite
def tensors(draw) -> Tensor:
    """Any shape and format; values of all widths, extremes, and few to many zeros."""
    shape = draw(SHAPES)
    bits, signed = draw(st.sampled_from([8, 16])), draw(st.booleans())
    precision = draw(st.integers(1 + signed, bits))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    magnitude = precision - signed
    low, high = (-(2**magnitude) if signed else 0), 2**magnitude - 1
    values = rng.integers(low, high, shape, np.int64, endpoint=True)
    values >>= rng.integers(0, precision, shape)
    values[rng.random(shape) < draw(st.sampled_from([0.0, 0.3, 0.9, 0.99, 1.0]))] = 0
    if draw(st.booleans()):
        values.flat[rng.integers(values.size)] = low
        values.flat[rng.integers(values.size)] = high
    return Tensor(values, bits, signed, precision)


@st.composite
def codecs(draw):
    """(codec, name, the parameter that matters)."""
    name, size = draw(NAMES), draw(st.sampled_from(GROUP_SIZES))
    if name == "dpred":
        mode = draw(MODES)
        return codec(name, group_size=size, mode=mode), name, mode
    if name == "zero_rle":
        run_bits = draw(st.sampled_from([1, 2, 4, 5]))
        return codec(name, group_size=size, run_bits=run_bits), name, run_bits
    return codec(name, group_size=size), name, None


def expected_bits(x: Tensor, name: str, size: int, parameter) -> tuple[int, list[int]]:
    """(header, bits of each group) by the oracle."""
    if name == "dpred":
        return oracle.dpred_bits(x, size, parameter)
    if name == "zero_rle":
        return 0, oracle.zero_rle_bits(x, size, parameter)
    if name in ("bitmap", "bdi"):
        return 0, {"bitmap": oracle.bitmap_bits, "bdi": oracle.bdi_bits}[name](x, size)
    if name == "apack":
        return apack_bits(x, size)
    header, per_value = (0, x.bits) if name == "raw" else ({8: 3, 16: 4}[x.bits], x.precision)
    return header, [per_value * len(group) for group in oracle.groups(x, size)]


def apack_bits(x: Tensor, size: int) -> tuple[int, list[int]]:
    """(header, bits of each group), with the table that stands in the container."""
    encoded = codec("apack").encode(x)
    read = oracle.Bits(encoded.payload, encoded.size_bits)
    table = oracle.apack_table(read, x.bits)
    groups = oracle.groups(x, size)
    values = [value for group in groups for value in group]
    cost: list[int] = []
    for start in range(0, len(values), 1024):
        part = values[start : start + 1024]
        shifts, _, _ = oracle.apack_steps(part, table, x.bits)
        offsets = [[r for r in table if r[0] <= value % 2**x.bits][-1][1] for value in part]
        cost += [shift + offset for shift, offset in zip(shifts, offsets, strict=True)]
        cost[start] += 16 + 2
    ends = np.cumsum([len(group) for group in groups])
    return read.place, np.diff(np.cumsum([0, *cost])[[0, *ends]]).tolist()


@limited
@given(x=tensors(), made=codecs())
def test_sizes_are_those_of_the_oracle_and_of_the_container(x, made) -> None:
    codec, name, parameter = made
    header, groups = expected_bits(x, name, codec.group_size, parameter)
    assert codec.group_bits(x).ravel().tolist() == groups
    assert codec.header_bits(x) == header
    encoded = codec.encode(x)
    assert codec.size_bits(x) == encoded.size_bits == header + sum(groups)
    assert 0 <= 8 * len(encoded.payload) - encoded.size_bits < 8


@limited
@given(x=tensors(), made=codecs())
def test_decode_undoes_encode(x, made) -> None:
    codec, _, _ = made
    back = codec.decode(codec.encode(x))
    assert (back.values == x.values).all()
    assert (back.shape, back.bits, back.signed, back.precision) == (x.shape, x.bits, x.signed, x.precision)
    assert back.values.dtype == x.values.dtype


@limited
@given(x=tensors(), mode=MODES, size=st.sampled_from(GROUP_SIZES))
def test_dpred_containers_are_read_by_a_slow_decoder(x, mode, size) -> None:
    encoded = codec("dpred", group_size=size, mode=mode).encode(x)
    assert oracle.decode_dpred(encoded, size, mode) == oracle.groups(x, size)


@limited
@given(x=tensors(), run_bits=st.integers(1, 16), size=st.sampled_from(GROUP_SIZES))
def test_zero_rle_containers_are_read_by_a_slow_decoder(x, run_bits, size) -> None:
    encoded = codec("zero_rle", group_size=size, run_bits=run_bits).encode(x)
    expected = [value for group in oracle.groups(x, size) for value in group]
    assert oracle.decode_zero_rle(encoded, size, run_bits) == expected


@limited
@given(x=tensors(), size=st.sampled_from(GROUP_SIZES))
def test_bitmap_and_bdi_containers_are_read_by_slow_decoders(x, size) -> None:
    groups = oracle.groups(x, size)
    assert oracle.decode_bitmap(codec("bitmap", group_size=size).encode(x), size) == groups
    assert oracle.decode_bdi(codec("bdi", group_size=size).encode(x), size) == groups


@limited
@given(x=tensors(), size=st.sampled_from(GROUP_SIZES))
def test_apack_containers_are_read_by_a_slow_decoder(x, size) -> None:
    expected = [value for group in oracle.groups(x, size) for value in group]
    assert oracle.decode_apack(codec("apack", group_size=size).encode(x)) == expected


@limited
@given(x=tensors(), made=codecs(), data=st.data())
def test_a_slice_of_runs_is_a_difference_of_prefix_sums(x, made, data) -> None:
    codec, name, _ = made
    if (
        len(x.shape) < 2
        or len(oracle.runs(x.shape, codec.group_size)[0]) == x.values.size
        or x.shape[-1] == 1
    ):
        return
    if getattr(codec, "mode", "") == "offline" or name in ("per_layer", "apack"):  # by all values
        return
    rows = data.draw(st.integers(1, x.shape[0]))
    leading = Tensor(x.values[:rows], x.bits, x.signed, x.precision)
    bits = codec.group_bits(x)
    assert codec.size_bits(leading) == codec.header_bits(x) + int(bits[:rows].sum())
    # As long as the bits in front of what follows, and the same bits.
    front, whole = codec.encode(leading), codec.encode(x)
    full = front.size_bits // 8
    assert whole.payload[:full] == front.payload[:full]


@limited
@given(x=tensors(), size=st.sampled_from(GROUP_SIZES))
def test_adaptive_is_never_far_from_the_smaller_one(x, size) -> None:
    plain, zeros, adaptive, offline = (
        codec("dpred", group_size=size, mode=mode).size_bits(x)
        for mode in ("plain", "zeros", "adaptive", "offline")
    )
    groups = len(oracle.groups(x, size))
    assert adaptive <= min(plain, zeros) + groups
    assert offline == min(plain, zeros) + 1


@limited
@given(x=tensors(), mode=MODES, size=st.sampled_from(GROUP_SIZES), cut=st.integers(1, 40))
def test_a_container_cut_short_is_refused(x, mode, size, cut) -> None:
    from dataclasses import replace

    from dpred_sim.errors import InputError

    made = codec("dpred", group_size=size, mode=mode)
    encoded = made.encode(x)
    less = max(0, encoded.size_bits - cut)
    with pytest.raises(InputError, match="damaged"):
        made.decode(replace(encoded, size_bits=less, payload=encoded.payload[: -(-less // 8)]))


@limited
@given(x=tensors(), made=codecs(), seed=st.integers(0, 1000))
def test_noise_is_refused_or_decoded_but_never_crashes(x, made, seed) -> None:
    from dataclasses import replace

    from dpred_sim.errors import InputError

    codec, _, _ = made
    encoded = codec.encode(x)
    payload = np.random.default_rng(seed).integers(0, 256, len(encoded.payload), np.uint8).tobytes()
    try:
        back = codec.decode(replace(encoded, payload=payload))
    except InputError:
        return
    assert back.shape == x.shape
    Tensor(back.values, x.bits, x.signed)  # in range
