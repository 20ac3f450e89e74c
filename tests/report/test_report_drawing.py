"""The small tools under the page: PNG bytes, numbers in words, scales and drawings."""
# ruff: noqa: RUF001  (the page writes true minus signs)

import base64
import io
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from dataloupe._errors import BadInput
from dataloupe.report._charts import (
    HEIGHT,
    LEFT,
    RIGHT,
    TOP,
    WIDTH,
    Scale,
    Strip,
    histogram,
    meter,
    scatter,
    strip,
)
from dataloupe.report._png import check_image, data_uri, png, shrink
from dataloupe.report._words import between, clipped, count, facts, fixed, in_scale, joined, share, signed


def decoded(data: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image)


shapes = st.one_of(
    st.tuples(st.integers(1, 9), st.integers(1, 9)),
    st.tuples(st.integers(1, 9), st.integers(1, 9), st.just(3)),
)


@given(hnp.arrays(np.uint8, shapes))
def test_a_png_holds_the_pixels_it_was_given(image: np.ndarray) -> None:
    found = decoded(png(image))
    assert found.shape == image.shape
    assert (found == image).all()


def test_a_transposed_view_is_written_as_it_looks() -> None:
    image = np.arange(6, dtype=np.uint8).reshape(2, 3).T
    assert (decoded(png(image)) == image).all()


def test_a_data_uri_is_the_png_itself() -> None:
    image = np.arange(12, dtype=np.uint8).reshape(3, 4)
    kind, body = data_uri(image).split(",")
    assert kind == "data:image/png;base64"
    assert base64.b64decode(body) == png(image)


def test_shrinking_averages_whole_blocks_and_the_rest_at_the_edge() -> None:
    image = np.array([[0, 10, 100], [20, 30, 200], [7, 9, 50]], dtype=np.uint8)
    assert shrink(image, 2).tolist() == [[15, 150], [8, 50]]
    assert shrink(image, 3) is image
    colours = np.stack([image, image, image + 1], axis=2)
    assert shrink(colours, 2)[..., 2].tolist() == [[16, 151], [9, 51]]
    assert max(shrink(np.zeros((1000, 333), dtype=np.uint8)).shape) <= 160


@pytest.mark.parametrize("shape", [(4,), (4, 4, 4), (4, 4, 1), (0, 3), (2, 2, 2, 3)])
def test_an_image_of_another_shape_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(BadInput, match=r"dl-954.*training example 3.*uint8 of shape.*\[n, h, w\]"):
        check_image(np.zeros(shape, dtype=np.uint8), "training example 3")


def test_an_image_of_floats_is_refused_not_scaled() -> None:
    with pytest.raises(BadInput, match=r"dl-954.*float64 of shape"):
        check_image(np.zeros((4, 4)), "target 0")


@given(st.floats(-1e5, 1e5))
def test_fixed_numbers_read_back_as_the_input(value: float) -> None:
    text = fixed(value)
    assert abs(float(text.replace("−", "-")) - value) <= 0.005 + 1e-9
    assert text not in ("−0.00", "-0.00")


@given(st.floats(1e-12, 1e12), st.floats(-1, 1))
def test_numbers_in_scale_keep_three_digits_of_the_largest(scale: float, part: float) -> None:
    text = in_scale(part * scale, scale)
    raised = str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹−", "-0123456789-")
    number, _, power = text.partition("×10")
    value = float(number.translate(raised)) * 10.0 ** int(power.translate(raised) or 0)
    assert abs(value - part * scale) <= 0.0051 * scale


def test_words() -> None:
    assert (signed("0.3"), signed("−0.3"), signed("0.00")) == ("+0.3", "−0.3", "0.00")
    assert between((-0.381, 0.444)) == "[−0.38,\xa00.44]"
    assert between((-1234.0, 5.0), 1234.0) == "[−1234,\xa05]"
    assert (count(1, "pair"), count(0, "pair"), count(2000, "mouse", "mice")) == (
        "1 pair",
        "0 pairs",
        "2,000 mice",
    )
    assert share(0.125) == "12.5\xa0%"
    assert (joined(["a"]), joined("ab"), joined("abc")) == ("a", "a and b", "a, b and c")
    assert clipped("abcdef", 4) == "abc…" and clipped("abcd", 4) == "abcd"


def test_facts_are_flattened_and_keep_their_order() -> None:
    things = {"b": None, "a_b": {"x": True, "y": [1, -2.5]}, "c": "d" * 300, "e": {}}
    names, values = zip(*facts(things), strict=True)
    assert names == ("b", "a b · x", "a b · y", "c", "e")
    assert values[:3] == ("none", "yes", "1, −2.5")
    assert len(values[3]) == 160


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=8))
def test_a_scale_holds_its_values_and_its_ticks(values: list[float]) -> None:
    scale = Scale.around(values)
    assert all(0 <= scale.at(v) <= 1 for v in values)
    ticks = scale.ticks()
    assert len(ticks) <= 6
    assert all(-1e-6 <= scale.at(t) <= 1 + 1e-6 for t in ticks)


def test_ticks_are_round_and_labelled_with_the_digits_they_need() -> None:
    scale = Scale(-0.07, 0.93)
    assert [scale.label(t) for t in scale.ticks()] == ["0.0", "0.2", "0.4", "0.6", "0.8"]
    large = Scale(-2e7, 1e7)
    assert large.label(large.ticks()[0]).endswith("×10⁷")


def numbers(svg: str, mark: str, *names: str) -> list[tuple[float, ...]]:
    """The attributes of every drawn mark of one class."""
    found = re.findall(rf'<\w+ class="{mark}"[^>]*>', svg)
    return [tuple(float(re.search(rf' {n}="([-\d.]+)', tag).group(1)) for n in names) for tag in found]


def test_a_strip_stands_where_its_numbers_are() -> None:
    mark = Strip(Scale(-1.0, 1.0), 0.5, (0.25, 0.75), "accent", True, (-0.5, 0.0), 0.9, (0.8, 1.0))
    svg = str(strip(mark))
    assert numbers(svg, "point accent", "cx") == [(75.0,)]
    assert numbers(svg, "span accent", "x1", "x2") == [(62.5, 87.5)]
    assert numbers(svg, "dot accent", "cx") == [(25.0,), (50.0,)]
    assert numbers(svg, "bar accent", "x", "width") == [(50.0, 25.0)]
    assert numbers(svg, "ceiling", "x1") == [(95.0,)]
    assert numbers(svg, "band", "x", "width") == [(90.0, 10.0)]
    assert numbers(svg, "zero", "x1") == [(50.0,)]


def test_a_meter_is_the_score_beside_the_largest() -> None:
    svg = str(meter(-0.5, 0.1, 2.0, "warm"))
    assert numbers(svg, "fill warm", "x", "width") == [(0.0, 25.0)]
    assert numbers(svg, "whisker", "x1", "x2") == [(20.0, 30.0)]
    assert "whisker" not in str(meter(0.5, None, 2.0, "accent"))


def test_a_histogram_counts_every_target_once() -> None:
    values = np.array([-0.1, 0.3, 0.31, 0.9])
    svg = str(histogram(values, float(values.mean()), "LDS"))
    heights = [h for mark in ("fill accent", "fill warm") for (h,) in numbers(svg, mark, "height")]
    assert len(numbers(svg, "fill warm", "x")) == 1
    unit = min(heights)
    assert round(sum(heights) / unit) == 4


def test_the_fitted_line_has_the_slope_and_stays_inside_the_frame() -> None:
    points = [(-1.0, -2.0, 0.1), (1.0, 2.0, 0.1), (0.0, 0.0, 0.1)]
    svg = str(scatter(points, slope=2.0, identity=True, names=("x", "y")))
    (fit,) = numbers(svg, "fit", "x1", "x2", "y1", "y2")
    assert min(fit[:2]) >= LEFT - 1e-6 and max(fit[:2]) <= WIDTH - RIGHT + 1e-6
    assert min(fit[2:]) >= TOP - 1e-6 and max(fit[2:]) <= HEIGHT
    circles = numbers(svg, "point accent", "cx", "cy")
    drawn = (fit[3] - fit[2]) / (fit[1] - fit[0])
    through = (circles[1][1] - circles[0][1]) / (circles[1][0] - circles[0][0])
    assert drawn == pytest.approx(through, rel=1e-3)
    assert len(numbers(svg, "identity", "x1")) == 1
    assert "identity" not in str(scatter(points, slope=2.0, identity=False, names=("x", "y")))
