"""Streams and rows: usable when the last byte is there, not one byte before; freed when nobody needs them."""

from __future__ import annotations

import numpy as np
import pytest
from simpy import Environment

from dpred_sim.components.buffer import Buffer, BufferParameters, Room
from dpred_sim.components.rows import RowSource
from dpred_sim.components.stream import ReadStream
from dpred_sim.errors import InvariantBroken

ROWS, ROW_BYTES, ROW_BITS = 8, 100, 1600


def room_of(bits: int = 1 << 20) -> Room:
    parameters = BufferParameters(holds=["activations"], size=f"{bits} bit", port="64 bit")
    return Room(Buffer("b", parameters, 1000), bits, lambda: None)


def stream_of(room: Room, start_row: int = 0, request: int = 256, address: int = 0) -> ReadStream:
    marks = np.arange(ROWS - start_row + 1, dtype=np.int64)
    env = Environment()
    return ReadStream(
        env,
        "activations",
        0,
        address,
        marks * ROW_BYTES,
        marks * ROW_BITS,
        marks * ROW_BITS,
        room,
        request,
        64,
    )


def deliver(stream: ReadStream, index: int) -> None:
    """What the DMA does with one request."""
    stream.room.take(stream.rooms[index + 1] - stream.rooms[index])
    stream.issued = max(stream.issued, index + 1)
    stream.arrived(index, index)


def source(stream: ReadStream, resident: int = 0, held: bool = False, sweeps=(0,)) -> RowSource:
    ends = np.maximum(np.arange(ROWS + 1) - resident, 0) * ROW_BYTES
    prefix = np.arange(ROWS + 1) * ROW_BITS
    return RowSource(resident, [stream], [ends], [prefix], held, list(sweeps))


def test_requests_are_aligned_as_addresses_and_cover_the_container():
    stream = stream_of(room_of(), address=100)
    assert stream.bounds == [0, 156, 412, 668, 800]
    assert stream.rooms[-1] == stream.values[-1] == ROWS * ROW_BITS


def test_nothing_beyond_the_first_gap_is_usable():
    stream = stream_of(room_of())
    deliver(stream, 1)
    assert stream.watermark == 0
    deliver(stream, 0)
    assert stream.watermark == 512


@pytest.mark.parametrize("row", range(ROWS))
def test_a_row_is_usable_with_its_last_byte(row):
    """Requests of one burst: the row waits for exactly those that hold it."""
    stream = stream_of(room_of(), request=64)
    rows = source(stream)
    needed = -(-(row + 1) * ROW_BYTES // 64)
    for index in range(needed):
        event = rows.wait(0, row)
        assert event is not None and not event.triggered
        deliver(stream, index)
    assert rows.wait(0, row) is None


def test_a_waiting_event_fires_when_the_row_is_there():
    stream = stream_of(room_of())
    rows = source(stream)
    event = rows.wait(0, 3)
    deliver(stream, 0)
    assert not event.triggered
    deliver(stream, 1)
    assert event.triggered


def test_rows_on_chip_need_no_stream():
    stream = stream_of(room_of(), start_row=3)
    rows = source(stream, resident=3)
    assert rows.wait(0, 2) is None
    assert rows.wait(0, 3) is not None


def test_room_is_freed_row_by_row_when_the_last_cluster_is_done():
    room = room_of()
    stream = stream_of(room)
    rows = source(stream, sweeps=(0, 0, -1))
    for index in range(stream.requests):
        deliver(stream, index)
    rows.release(0, 0, 5)
    assert room.level_bits == ROWS * ROW_BITS
    rows.release(0, 1, 2)
    assert room.level_bits == (ROWS - 2) * ROW_BITS
    rows.release(0, 1, 8)
    assert room.level_bits == (ROWS - 5) * ROW_BITS
    rows.finish()
    assert room.level_bits == 0


def test_a_row_that_a_stride_skips_is_freed_when_it_has_come():
    room = room_of()
    stream = stream_of(room)
    rows = source(stream)
    deliver(stream, 0)  # two rows and a part
    rows.release(0, 0, 4)
    assert room.level_bits == stream.rooms[1] - 2 * ROW_BITS
    deliver(stream, 1)
    assert room.level_bits == stream.rooms[2] - 4 * ROW_BITS


def test_held_rows_stay_until_the_layer_ends():
    room = room_of()
    stream = stream_of(room)
    rows = source(stream, held=True)
    for index in range(stream.requests):
        deliver(stream, index)
    rows.release(0, 0, ROWS)
    assert room.level_bits == ROWS * ROW_BITS
    rows.finish()
    assert room.level_bits == 0


def test_requests_shrink_until_they_leave_room_for_a_pass():
    marks = np.arange(ROWS + 1, dtype=np.int64)
    stream = ReadStream(
        Environment(),
        "activations",
        0,
        0,
        marks * 512,
        marks * 8192,
        marks,
        room_of(),
        4096,
        64,
        spare_room=3000,
    )
    assert max(np.diff(stream.rooms)) <= 3000


def test_a_buffer_never_holds_more_than_it_can_nor_gives_what_it_has_not():
    room = room_of(1000)
    assert room.fits(1000) and not room.fits(1001)
    room.take(1000)
    assert not room.fits(1)
    with pytest.raises(InvariantBroken, match="more than its 1000"):
        room.take(1)
    room = room_of(1000)
    with pytest.raises(InvariantBroken, match="gives back"):
        room.give(1)
