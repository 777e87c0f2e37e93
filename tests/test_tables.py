"""What sheets share: a row for each group of runs, ticks and a legend for several panels."""

import math

import matplotlib.pyplot as plt
import pandas as pd
import pytest

from companion.sheet import summary
from companion.style import legend, ticks

ROWS = pd.DataFrame(
    {
        "method": ["b", "b", "a", "a", "c"],
        "tau": [1.0, 1.0, math.nan, math.nan, 2.0],
        "w1": [1.0, 3.0, 2.0, 2.0, math.nan],
        "exact": [5, 5, 6, 6, 7],
    }
)


def test_a_row_for_each_group_in_order_of_appearance():
    columns = {
        ("W1", "sd"): "w1",
        "most": ("w1", "max"),
        "exact": ("exact", "first"),
        "text": ("w1", 1),
        "seeds known": lambda part: part["w1"].notna().sum(),
    }
    table = summary(ROWS, {"method": "name", "tau": "tau"}, columns, published="none")
    assert list(table) == ["name", "tau", "W1", "sd", "most", "exact", "text", "seeds known", "published", "n"]
    # A key without a value is a group too, as the step of a method that has none.
    assert list(table["name"]) == ["b", "a", "c"] and math.isnan(table["tau"][1])
    # The sample standard deviation of 1 and 3 is the root of 2.
    assert table["W1"][0] == 2 and table["sd"][0] == pytest.approx(math.sqrt(2)) and table["most"][0] == 3
    assert (
        list(table["exact"]) == [5, 6, 7] and list(table["seeds known"]) == [2, 2, 0] and list(table["n"]) == [2, 2, 1]
    )
    assert list(table["text"]) == ["2.0 ± 1.4", "2.0", "–"]
    assert "n" not in summary(ROWS, ["method"], {"W1": "w1"}, n=None)


def test_a_spread_is_said_only_where_something_varies():
    def text(*values, digits=2):
        return summary(pd.DataFrame({"case": "a", "x": values}), ["case"], {"text": ("x", digits)})["text"][0]

    assert text(-1.0, -3.0) == "−2.00 ± 1.41"
    assert text(2.0, 2.0) == text(2.0) == text(2.0, math.nan) == "2.00"
    assert text(math.nan) == "–"


def test_ticks_are_the_given_places_alone():
    figure, axes = plt.subplots()
    axes.set(xscale="log", xlim=(1, 1000))
    ticks(axes.xaxis, [300, 2.5])
    assert list(axes.get_xticks()) == [2.5, 300] and len(axes.get_xticks(minor=True)) == 0
    assert [label.get_text() for label in axes.get_xticklabels()] == ["2.5", "300"]
    plt.close(figure)


def test_a_legend_has_every_label_of_the_panels_once():
    figure, panels = plt.subplots(1, 2, layout="constrained")
    panels[0].plot([0, 1], label="first")
    panels[0].legend()
    panels[1].plot([0, 1], label="first")
    panels[1].plot([0, 1], label="second")
    legend(figure, panels)
    assert panels[0].get_legend() is None
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["first", "second"]
    plt.close(figure)
