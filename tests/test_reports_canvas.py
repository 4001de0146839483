"""What all figures share: styles that tell methods apart, legends that fit, ticks as plain numbers."""

import re

import numpy as np
import pytest

from reports.canvas import (
    GREY,
    drawing,
    legend,
    lowest,
    method_dashes,
    method_style,
    plain_log,
    side_label,
    subplots,
    svg_text,
)

MANY = [f"method_{i}" for i in range(14)]


def test_the_untrained_method_is_grey_wherever_it_stands_and_nothing_else_is():
    for labels in (["a", "random"], ["random", "a", "b"], [*MANY, "random"]):
        style = method_style(labels)
        assert [label for label in labels if style[label][0] == GREY] == ["random"]
        assert list(style) == labels
    assert method_style(["a", "b"])["b"] == method_style(["a", "b", "random"])["b"]


def test_many_methods_differ_by_marker_and_by_line():
    style, dashes = method_style(MANY), method_dashes(MANY)
    assert len(set(style.values())) == len(MANY)
    assert len({(style[label][0], str(dashes[label])) for label in MANY}) == len(MANY)


@pytest.mark.parametrize("width", [1.5, 2.2, 8.8])
def test_a_legend_stays_inside_of_its_figure(width):
    with drawing():
        figure, axes = subplots(1, 1, (width, 2.4))
        for label in MANY:
            axes.flat[0].plot([0, 1], [0, 1], label=f"{label}_with_a_long_name")
        title = "return after the inner update (of the policy itself for methods without one)"
        side_label(figure, title, below=legend(figure, *axes.flat))
        svg_text(figure)
        box = figure.legends[0].get_window_extent()
        side = figure._supylabel.get_window_extent()
    assert box.x0 >= -1
    assert box.x1 <= figure.bbox.x1 + 1
    assert side.y0 > box.y1
    assert side.y1 <= figure.bbox.y1 + 1


def test_ticks_of_a_logarithmic_axis_are_plain_numbers():
    with drawing():
        figure, axes = subplots(1, 1, (3, 3))
        axis = axes.flat[0]
        axis.set(yscale="log", ylim=(4, 90))
        plain_log(axis.yaxis)
        labels = re.findall(r">([^<>\s]+)</text>", svg_text(figure))
    assert {"5", "10", "20", "50"} <= set(labels)
    assert not [label for label in labels if "×" in label]


def test_coordinates_are_rounded_and_labels_are_not():
    with drawing():
        figure, axes = subplots(1, 1, (3, 3))
        axes.flat[0].plot([0, 1 / 3], [0, 1 / 7])
        axes.flat[0].set_title("outer_lr = 0.0005")
        text = svg_text(figure)
    assert ">outer_lr = 0.0005</text>" in text
    assert not re.search(r' d="[^"]*\d\.\d{3}', text)


def test_panels_of_a_line_all_have_tick_labels_where_the_last_line_is_not_full():
    with drawing():
        _, axes = subplots(2, 3, (6, 4), sharex=True)
        lowest(axes, 5, "steps")
        shown = [axis.xaxis.get_tick_params()["labelbottom"] for axis in axes.flat]
        _, full = subplots(2, 3, (6, 4), sharex=True)
        lowest(full, 6, "steps")
    assert shown[:5] == [True] * 5
    assert not axes.flat[5].get_visible()
    assert [axis.get_xlabel() for axis in axes.flat[:5]] == ["", "", "steps", "steps", "steps"]
    assert [axis.xaxis.get_tick_params()["labelbottom"] for axis in full.flat] == [False] * 3 + [True] * 3
    assert np.all([axis.get_visible() for axis in full.flat])
