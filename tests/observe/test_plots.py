"""Pictures: what is drawn is what was given, and a file that cannot be is refused before the work."""

from __future__ import annotations

import builtins

import pytest

from dpred_sim.errors import InputError, MissingExtra
from dpred_sim.observe.plots import check_plot_path, grouped_bars


def draw(path, groups=("a", "b"), values=(2.0, None)):
    grouped_bars(path, "title", groups, {"all": values}, {"all": values}, axis="times", mark_label="ideal")


def test_the_picture_is_the_same_for_the_same_values(tmp_path):
    pytest.importorskip("matplotlib")
    first, second, other = (tmp_path / f"{name}.svg" for name in "xyz")
    draw(first)
    draw(second)
    draw(other, values=(3.0, 1.0))
    assert first.read_bytes() == second.read_bytes() != other.read_bytes()


def test_bars_have_the_heights_of_the_values(tmp_path, monkeypatch):
    figure = pytest.importorskip("matplotlib.figure")
    seen = []
    save = figure.Figure.savefig
    monkeypatch.setattr(
        figure.Figure, "savefig", lambda self, *a, **k: (seen.append(self), save(self, *a, **k))
    )
    draw(tmp_path / "p.png", ("a", "b", "c"), (2.0, None, 0.5))
    (axes,) = seen[0].axes
    assert [bar.get_height() for bar in axes.patches] == [2.0, 0.5]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["a", "b", "c"]


def test_values_far_apart_are_drawn_on_a_logarithmic_axis(tmp_path):
    pytest.importorskip("matplotlib")
    draw(tmp_path / "p.png", values=(50.0, 0.01))
    assert (tmp_path / "p.png").stat().st_size > 1000


@pytest.mark.parametrize("name", ["p.pdf", "none/p.png"])
def test_a_file_that_cannot_be_is_refused(name, tmp_path):
    with pytest.raises(InputError):
        check_plot_path(tmp_path / name)


def test_without_matplotlib_the_extra_is_named(tmp_path, monkeypatch):
    real = builtins.__import__

    def refuse(name, *rest):
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(MissingExtra, match=r"\[plots\]"):
        check_plot_path(tmp_path / "p.png")
