from __future__ import annotations

import numpy as np
import pytest

from dpred_sim.errors import InputError
from dpred_sim.values.widths import channel_runs, layout


@pytest.mark.parametrize(
    ("shape", "group_size", "grouping", "leading", "length"),
    [
        ((5, 7, 16), 16, "run", (5, 7), 16),
        ((5, 7, 15), 16, "row", (5,), 105),
        ((5, 7, 3), 3, "run", (5, 7), 3),
        ((8, 3, 5, 32), 16, "run", (8, 3, 5), 32),
        ((8, 3, 5, 3), 16, "row", (8, 3), 15),
        ((8, 3, 5, 1), 16, "filters", (3, 5), 8),
        ((8, 3, 5, 1), 1, "filters", (3, 5), 8),
        ((6, 4), 16, "run", (6,), 4),
        ((9,), 4, "run", (), 9),
    ],
)
def test_which_values_make_a_run(shape, group_size, grouping, leading, length) -> None:
    order = layout(shape, group_size)
    assert (order.grouping, order.leading, order.length) == (grouping, leading, length)
    assert order.runs * order.length == np.prod(shape)


def test_a_row_runs_over_positions_then_channels() -> None:
    values = np.arange(2 * 3 * 2).reshape(2, 3, 2)
    assert layout((2, 3, 2), 16).arrange(values).tolist() == [list(range(6)), list(range(6, 12))]


def test_depthwise_weights_run_over_filters() -> None:
    values = np.arange(3 * 2 * 2).reshape(3, 2, 2, 1)
    order = layout((3, 2, 2, 1), 16)
    assert order.arrange(values).tolist() == [[0, 4, 8], [1, 5, 9], [2, 6, 10], [3, 7, 11]]


@pytest.mark.parametrize("shape", [(4, 5, 3), (4, 5, 20), (6, 3, 2, 1), (2, 3, 4, 5), (7, 9), (11,)])
def test_restore_undoes_arrange(shape) -> None:
    values = np.arange(np.prod(shape)).reshape(shape)
    order = layout(shape, 8)
    assert (order.restore(order.arrange(values)) == values).all()


def test_the_last_group_of_a_run_is_short() -> None:
    assert layout((2, 37), 16).group_lengths(16).tolist() == [16, 16, 5]
    assert layout((2, 32), 16).group_lengths(16).tolist() == [16, 16]
    assert layout((2, 5), 16).group_lengths(16).tolist() == [5]


def test_compute_groups_follow_the_channels_whatever_the_shape() -> None:
    assert channel_runs((4, 5, 3)).leading == (4, 5)
    assert channel_runs((6, 3, 2, 1)).leading == (6, 3, 2)


@pytest.mark.parametrize("size", [0, -1, 2.5, True, "16"])
def test_group_size_is_a_positive_integer(size) -> None:
    with pytest.raises(InputError, match="group_size"):
        layout((4, 4), size)
