"""What `--quantise` may say."""

from __future__ import annotations

import numpy as np
import pytest

from dpred_sim.errors import InputError
from dpred_sim.workload.rules import Rule, parse_rule

NAMES = ("profiled", "full_range", "common")


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("profiled", Rule("profiled")),
        ("common, prune=0.5", Rule("common", sparsity=0.5)),
        ("full_range,per_channel,prune=1", Rule("full_range", True, 1.0)),
    ],
)
def test_rules(text: str, rule: Rule) -> None:
    assert parse_rule(text, NAMES, 8) == rule


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("profile", r"unknown quantisation \(did you mean 'profiled'\?\); found 'profile'"),
        ("", "unknown quantisation"),
        ("profiled,", "unknown option"),
        ("profiled,prune", "unknown option"),
        ("profiled,per_chanel", r"did you mean 'per_channel'"),
        ("profiled,per_channel=1", "unknown option"),
        ("profiled,prune=75%", "quantise: prune: share of zero weights; found '75%'; allowed: 0 to 1"),
        ("profiled,prune=nan", "share of zero weights"),
        ("profiled,prune=0.1,prune=0.2", "given twice"),
    ],
)
def test_what_is_refused(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse_rule(text, NAMES, 8)


def test_scales_by_channel_are_for_8_bits() -> None:
    with pytest.raises(InputError, match="scales by channel are for 8 bits; found '16 bits'"):
        parse_rule("profiled,per_channel", NAMES, 16)


def test_weights_are_prepared() -> None:
    weights = np.array([[0.1, -3.0], [0.5, 0.2]])
    assert Rule("common").prepared(weights, "w") is weights
    assert Rule("common", sparsity=0.5).prepared(weights, "w").tolist() == [[0.0, -3.0], [0.5, 0.0]]
