"""One schema for command line, YAML and ROS: unknown keys are refused, values of other backends are checked, nothing is lost."""

import pytest

from semantic_stereo_ros import config
from semantic_stereo_ros.checks import ConfigError, InputFileError


def test_every_parameter_has_a_description_and_a_default_inside_its_bounds():
    for key, option in config.schema().items():
        assert option.description, key
        assert option.parse(option.default, key) == option.default


def test_values_reach_the_chosen_backend_and_survive_the_round_trip():
    chosen = config.from_flat({"stereo.sgbm.num_disparities": 64, "fusion.erode_px": "1"})
    assert chosen.stereo_backend.num_disparities == 64
    assert chosen.fusion.erode_px == 1
    assert config.from_flat(chosen.to_flat()) == chosen


def test_an_unknown_key_is_refused_with_a_suggestion():
    with pytest.raises(ConfigError, match=r"unknown parameter 'stereo\.sgbm\.num_disparites'; did you mean stereo\.sgbm\.num_disparities"):
        config.from_flat({"stereo.sgbm.num_disparites": 64})


def test_an_unknown_backend_is_refused_with_the_known_ones():
    with pytest.raises(ConfigError, match=r"stereo\.backend must be one of .*sgbm.*, got 'magic'"):
        config.from_flat({"stereo.backend": "magic"})


def test_nested_flat_and_ros_yaml_read_the_same(tmp_path):
    texts = {
        "nested.yaml": "stereo:\n  sgbm:\n    num_disparities: 64\n",
        "flat.yaml": "stereo.sgbm.num_disparities: 64\n",
        "ros.yaml": "/**:\n  ros__parameters:\n    stereo:\n      sgbm:\n        num_disparities: 64\n",
    }
    for name, text in texts.items():
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        assert config.read_yaml(path) == {"stereo.sgbm.num_disparities": 64}, name


def test_a_file_that_is_no_configuration_is_refused(tmp_path):
    with pytest.raises(InputFileError, match="does not exist"):
        config.read_yaml(tmp_path / "none.yaml")
    for text, message in (("- a\n", "must hold a mapping"), ("a: [1\n", "not valid YAML")):
        path = tmp_path / "bad.yaml"
        path.write_text(text, encoding="utf-8")
        with pytest.raises(InputFileError, match=message):
            config.read_yaml(path)


def test_assignments_keep_what_follows_the_first_equals_sign():
    assert config.parse_assignments(["a.b = c=d"]) == {"a.b": "c=d"}
    with pytest.raises(ConfigError, match="takes key=value, got 'fusion'"):
        config.parse_assignments(["fusion"])
