"""Options turn YAML values, ROS parameters and command-line text into a checked frozen Config."""

from dataclasses import dataclass

import pytest

from semantic_stereo_ros.checks import ConfigError
from semantic_stereo_ros.options import build, option, options_of


@dataclass(frozen=True)
class Sample:
    size_px: int = option(5, "block size", unit="px", minimum=1, maximum=21)
    gain: float = option(1.5, "gain", minimum=0.0)
    mode: str = option("fast", "mode", choices=("fast", "good"))
    enabled: bool = option(True, "on or off", dynamic=False)


def test_fields_carry_everything_the_outside_may_know():
    options = options_of(Sample)
    assert list(options) == ["size_px", "gain", "mode", "enabled"]
    assert (options["size_px"].unit, options["size_px"].minimum, options["size_px"].maximum) == ("px", 1, 21)
    assert options["mode"].choices == ("fast", "good")
    assert options["enabled"].dynamic is False


def test_text_of_the_command_line_is_converted():
    assert build(Sample, {"size_px": "7", "gain": "2", "enabled": "off"}) == Sample(7, 2.0, "fast", False)


def test_a_word_stands_for_a_value():
    @dataclass(frozen=True)
    class Ranged:
        count: int = option(0, "count", minimum=0, words=(("auto", 0),))

    assert build(Ranged, {"count": " Auto "}).count == 0 and build(Ranged, {"count": "3"}).count == 3
    with pytest.raises(ConfigError, match="count must be int or auto, got 'all'"):
        build(Ranged, {"count": "all"})


def test_an_integer_serves_as_float_but_a_float_never_as_integer():
    assert build(Sample, {"gain": 2}).gain == 2.0
    with pytest.raises(ConfigError, match=r"s\.size_px must be int, got 2\.5"):
        build(Sample, {"size_px": 2.5}, "s.")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"size_px": 0}, r"size_px must lie in \[1, 21\] px, got 0"),
        ({"gain": -0.1}, r"gain must lie in \[0, inf\], got -0.1"),
        ({"gain": float("nan")}, "gain must be a finite number"),
        ({"mode": "slow"}, "mode must be one of fast, good, got 'slow'"),
        ({"enabled": 1}, "enabled must be bool, got 1"),
        ({"size_px": True}, "size_px must be int, got True"),
        ({"size_px": "many"}, "size_px must be int, got 'many'"),
        ({"enabled": "maybe"}, "enabled must be true or false"),
        ({"sise": 3}, "unknown parameter sise; known here: size_px, gain, mode, enabled"),
    ],
)
def test_a_bad_value_is_refused_with_what_was_expected(values, message):
    with pytest.raises(ConfigError, match=message):
        build(Sample, values)


def test_a_field_of_another_type_is_a_programming_error():
    @dataclass(frozen=True)
    class Wrong:
        names: list = option((), "a list")  # noqa: RUF009

    with pytest.raises(TypeError, match="names must be bool, int, float or str"):
        options_of(Wrong)
