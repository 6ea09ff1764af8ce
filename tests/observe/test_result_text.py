from __future__ import annotations

from dataclasses import replace

import pytest
from fake_runs import comparison, layer_result, run_result

from dpred_sim.observe.sentences import closing, sentences
from dpred_sim.observe.tables import (
    Column,
    comparison_table,
    folded,
    layer_table,
    limits_by_cycles,
    short_name,
    text_table,
)
from dpred_sim.simulation.result import LayerResult

GOLDEN = """\
tiny on dpred_stripes_ddr4, 16 bit, batch 1, seed 0
SYNTHETIC values: drawn with seed 0

layer         total  compute   stall  bound by      raw   stored  stored  act.  wgt.
             cycles   cycles  cycles                KiB      KiB  of raw   bit   bit
------------------------------------------------------------------------------------
conv1        40,000   30,000  10,000  dram      1,000.0    400.0   0.400  4.00  6.00
conv2       120,000   90,000  30,000  compute   1,000.0    400.0   0.400  5.00  6.00
fc           40,000   30,000  10,000  dram      1,000.0    400.0   0.400  6.00     -
------------------------------------------------------------------------------------
total of 3  200,000  150,000  50,000  compute   3,000.0  1,200.0   0.400  5.00  6.00

time     200 us, 200,000 cycles at 1 GHz
off-chip 6.1 of 25.6 GB/s (24 % of peak)
system_traffic 1.17 MiB of 2.93 MiB raw (0.400): what the run moved
paper_traffic 0.59 MiB of 1.46 MiB raw (0.400): weights, activations and outputs of every layer once
mean widths of the total are weighted by multiply-accumulates"""


def test_the_table_of_a_run() -> None:
    assert layer_table(run_result()) == GOLDEN


def steps(first: int, cycles: list[int], item: str = "") -> list[LayerResult]:
    """Steps of one recurrence; the longest is bound by DRAM."""
    made = []
    for number, count in enumerate(cycles):
        bound = "dram" if count == max(cycles) else "compute"
        step = layer_result(first + number, f"rnn.h[{number}]{item}", count, bound_by=bound)
        made.append(replace(step, family="rnn.h"))
    return made


def test_steps_of_a_recurrence_share_a_line() -> None:
    layers = [layer_result(0, "rnn.x", 40_000), *steps(1, [8_000, 4_000, 60_000]), layer_result(4, "fc", 400)]
    before, line, after = folded(layers)
    assert (before, after) == (layers[0], layers[4])
    assert line.name == "rnn.h[0..2]" and line.bound_by == "dram"
    assert line.cycles == 72_000 and line.compute_cycles == 54_000
    assert line.offchip_bytes == 3 * 400 * 1024 and line.offchip_bytes_raw == 3 * 1000 * 1024
    assert sum(line.stall_cycles.values()) == 18_000
    assert line.macs == 72_000_000 and line.passes == 21
    # Widths 5, 6, 7 weighted by 8, 4, 60 parts of the work.
    assert line.mean_width_activations == pytest.approx((5 * 8 + 6 * 4 + 7 * 60) / 72)
    text = layer_table(run_result(layers))
    assert "rnn.h[0..2]" in text and "rnn.h[1]" not in text
    assert ["total", "of", "5", "112,400"] in [row.split()[:4] for row in text.splitlines()]


def test_a_single_step_is_a_layer_like_others_and_inputs_of_a_batch_stay_apart() -> None:
    assert folded(steps(0, [100])) == steps(0, [100])
    both = [*steps(0, [100, 200], "#0"), *steps(2, [100, 200], "#1")]
    assert [line.name for line in folded(both)] == ["rnn.h[0..1]#0", "rnn.h[0..1]#1"]


def test_captured_values_are_not_called_synthetic() -> None:
    text = layer_table(run_result(synthetic=False))
    assert "SYNTHETIC" not in text and "values: captured from photos" in text


def test_a_stopped_run_says_so() -> None:
    assert "INCOMPLETE" in layer_table(run_result(complete=False))
    assert "INCOMPLETE" not in layer_table(run_result())


def test_a_run_stopped_before_its_first_layer_ended_still_prints() -> None:
    result = run_result([], complete=False)
    assert "total of 0" in layer_table(result, 80)
    assert sentences(result) == [
        "dpred_stripes_ddr4 was stopped after 0 cycles (0 ps) of tiny (SYNTHETIC values).",
        "It moves no values off chip.",
        "No layer was run.",
    ]


@pytest.mark.parametrize("width", [80, 100, 132])
def test_54_layers_fit_the_terminal(width: int) -> None:
    layers = [
        layer_result(i, f"stage{i // 10}/block{i}/convolution/Conv_output", 3456 * (i + 1), bound_by="dram")
        for i in range(54)
    ]
    text = layer_table(run_result(layers), width)
    table = text.split("\n\n")[1].splitlines()
    assert len(table) == 54 + 5
    assert max(len(line) for line in table) <= width
    assert "5,132.2" in text if width == 80 else "5,132,160" in text or "5,132.2" in text


def test_columns_line_up_and_headers_carry_units() -> None:
    lines = text_table([Column("name", left=True), Column("size", "KiB")], [["a", "1"], ["long", "12345"]])
    assert lines == ["name   size", "        KiB", "-----------", "a         1", "long  12345"]


@pytest.mark.parametrize(
    ("name", "width", "short"),
    [
        ("conv1", 10, "conv1"),
        ("stage3_block1_branch2b", 22, "stage3_block1_branch2b"),
        ("stage3_block1_branch2b", 18, "stag3_bloc1_bran2b"),
        ("stage3_block1_branch2b", 12, "st3_bl1_br2b"),
        ("model/stage4/block17/conv2", 14, "m/s4/b17/c2"),
        ("dram->activations", 10, "dram->acti"),
        ("1234567890123456", 10, "12..123456"),
        ("1234567890123456", 2, ".."),
        ("1234567890123456", 1, "."),
    ],
)
def test_short_names_keep_the_numbers_that_tell_layers_apart(name: str, width: int, short: str) -> None:
    assert short_name(name, width) == short
    assert len(short) <= width


def test_limits_are_ordered_by_cycles() -> None:
    assert limits_by_cycles(run_result()) == [("compute", 1, 120_000), ("dram", 2, 80_000)]


def test_the_sentences_of_a_run_alone() -> None:
    assert sentences(run_result(synthetic=False)) == [
        "dpred_stripes_ddr4 runs tiny in 200,000 cycles (200 us); with perfect memory its compute takes "
        "150,000 (75.0 %).",
        "It moves 40.0 % of the off-chip bytes that the same values take uncompressed: 1.17 of 2.93 MiB.",
        "Limited by compute: 1 of 3 layers (60.0 % of the cycles); by dram: 2 (40.0 %).",
    ]


def test_the_sentences_of_a_comparison() -> None:
    assert sentences(run_result(), comparison()) == [
        "dpred_stripes_ddr4 with dpred storage runs tiny 2.50 times as fast as dadiannao_ddr4 with raw "
        "storage (400,000 against 1,000,000 cycles); its convolutions 2.50 times, on ideal memory "
        "4.00 times.",
        "It moves 40.0 % of the off-chip bytes of dadiannao_ddr4 with raw storage: 4.00 of 10.00 MiB.",
        "Limited by compute: 1 of 3 layers (60.0 % of the cycles); by dram: 2 (40.0 %).",
    ]


def test_a_different_peak_is_divided_out() -> None:
    first = sentences(run_result(), comparison(peak=8192.0))[0]
    assert "its peak is 2.00 times the baseline's, divided by it 1.25 times" in first


def test_a_network_without_convolutions_says_nothing_about_them() -> None:
    first = sentences(run_result(), comparison(conv=False))[0]
    assert "convolutions" not in first
    assert "  dpred_stripes_ddr4                  -" in comparison_table(comparison(conv=False))


def test_the_end_names_the_next_command_and_the_file() -> None:
    text = closing(run_result(), None, "dpred-sim run x", "/t/x.yaml")
    assert text.endswith("\n\nnext: dpred-sim run x\nedit: /t/x.yaml")


def test_the_two_by_two() -> None:
    text = comparison_table(comparison())
    lines = text.splitlines()
    assert "stored:                             raw      raw    dpred    dpred" in lines
    assert "memory:                            real    ideal     real    ideal" in lines
    assert "  dadiannao_ddr4              1,000,000  800,000  900,000  800,000" in lines
    assert "  dpred_stripes_ddr4              2.00x    4.00x    2.50x    4.00x" in lines
    assert "  dpred_stripes_ddr4              10.00    10.00     4.00     4.00" in lines
    assert max(len(line) for line in lines) <= 80


def test_numbers_of_a_comparison_are_json_ready() -> None:
    document = comparison().to_dict()
    assert len(document["cells"]) == 8
    cell = document["cells"][-2]
    assert (cell["compute"], cell["storage"], cell["memory"]) == ("design", "compressed", "real")
    assert (cell["speedup"], cell["conv_speedup"], cell["traffic_share"]) == (2.5, 2.5, 0.4)
