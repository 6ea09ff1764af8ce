"""Plans never promise more room than there is, and more room never means more traffic."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpred_sim.errors import InputError
from dpred_sim.schedule.residency import LayerNeeds, StreamNeeds, minimum_room, plan_layer


@st.composite
def needs(draw, free_room=None):
    rows = draw(st.integers(1, 40))
    room = draw(st.integers(100, 60_000))
    resident = draw(st.integers(0, rows))
    blocks = draw(st.integers(1, 5))
    stored = room * (rows - resident) // 16
    set_room = draw(st.integers(1, 30_000))

    def stream(scale: int) -> StreamNeeds:
        return StreamNeeds(
            np.full(rows, room, dtype=np.int64), draw(st.integers(1, rows)), resident, stored, stored * scale
        )

    needs = LayerNeeds(
        name="l",
        activations=stream(blocks),
        shortcut=draw(st.sampled_from([None, stream(1)])),
        output_row_room=np.full(draw(st.integers(1, 40)), draw(st.integers(100, 60_000)), dtype=np.int64),
        output_readers=draw(st.integers(0, 2)),
        set_output_room=set_room,
        block_output_room=set_room if blocks == 1 else draw(st.integers(1, set_room)),
        weight_bytes=draw(st.integers(1, 10**6)),
        weight_blocks=blocks,
        weights_fit=draw(st.booleans()),
        chunked=draw(st.booleans()),
        free_room=0,
        keep_room=draw(st.integers(0, 10**6)),
        block_after_block=draw(st.booleans()),
    )
    extra = draw(st.integers(0, 2 * 10**6)) if free_room is None else free_room
    return with_room(needs, minimum_room(needs) + extra)


def with_room(needs: LayerNeeds, free_room: int) -> LayerNeeds:
    from dataclasses import replace

    return replace(needs, free_room=free_room)


@given(needs())
@settings(max_examples=200, deadline=None)
def test_parts_fit_the_free_room(needs):
    plan = plan_layer(needs)
    kept = int(needs.output_row_room[: plan.output_rows_kept].sum())
    used = plan.activation_room + plan.shortcut_room + plan.staging_room + kept
    assert used <= needs.free_room
    assert kept <= max(needs.keep_room, 0)
    spills = plan.output_rows_kept < len(needs.output_row_room)
    if spills or needs.chunked:
        by_block = plan.order == "filters"
        assert plan.staging_room >= 2 * (needs.block_output_room if by_block else needs.set_output_room)
    if plan.hold_activations:
        assert plan.activation_room == needs.activations.streamed_room
    else:
        assert plan.activation_room >= needs.activations.minimum_room
    if needs.chunked or needs.block_after_block:
        assert plan.order == "filters"


@given(needs(), st.integers(0, 2 * 10**6))
@settings(max_examples=200, deadline=None)
def test_more_room_never_means_more_traffic(needs, extra):
    small = plan_layer(needs)
    large = plan_layer(with_room(needs, needs.free_room + extra))
    assert large.traffic_bytes <= small.traffic_bytes * 1.01 + 64


@given(needs(free_room=0))
@settings(max_examples=50, deadline=None)
def test_less_than_the_minimum_is_refused(needs):
    plan_layer(needs)
    with pytest.raises(InputError, match="do not fit"):
        plan_layer(with_room(needs, minimum_room(needs) - 1))


@given(needs(free_room=0))
@settings(max_examples=50, deadline=None)
def test_where_only_the_outputs_of_a_block_fit_blocks_go_outermost(needs):
    plan = plan_layer(needs)
    if needs.set_output_room > needs.block_output_room:
        assert plan.order == "filters"
