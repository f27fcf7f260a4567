"""The shipped families, and what is said of a file that is wrong."""

import pytest
import yaml

from semantic_stereo_ros.checks import ConfigError, InputFileError
from semantic_stereo_ros.stereo.onnx_family import Family, Input, Output, family_names, find_family, parse_family

MINIMAL = {"description": "a network", "inputs": [{"shows": ["left"]}, {"shows": ["right"]}]}


def test_the_families_of_the_known_networks_are_shipped():
    assert set(family_names()) == {
        "crestereo",
        "crestereo_combined",
        "fast_foundation_stereo",
        "foundation_stereo",
        "hitnet",
        "hitnet_grey",
        "lite_any_stereo",
        "raft_stereo",
        "semantic_stereo",
    }


@pytest.mark.parametrize("name", family_names())
def test_shipped_families_are_valid(name):
    family = find_family(name)
    assert family.name == name and family.description


def test_defaults():
    assert parse_family(MINIMAL, "x", "x.yaml") == Family("x", "a network", (Input(("left",)), Input(("right",))))
    assert find_family("hitnet").output == Output("reference_output_disparity", layout="nhwc")


def test_own_file(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({**MINIMAL, "mean": 127.5, "std": [127.5, 127, 128], "max_disparity_px": 192}))
    family = find_family(str(path))
    assert (family.name, family.mean, family.std, family.max_disparity_px) == ("mine", (127.5,), (127.5, 127.0, 128.0), 192.0)


@pytest.mark.parametrize(
    "change, said",
    [
        ({"colour": "lab"}, "colour must be one of rgb, bgr, grey, got 'lab'"),
        ({"multiple_of": 0}, "multiple_of must be 1 or more"),
        ({"multiple_of": "32"}, "multiple_of must be int, got '32'"),
        ({"scale": 0}, "scale must be one number above 0"),
        ({"max_disparity_px": [1, 2]}, "max_disparity_px must be one number above 0"),
        ({"mean": [1, 2]}, "mean must hold 1 number or one per channel .3 for rgb., got 2"),
        ({"mean": "0"}, "mean must be list, got '0'"),
        ({"std": [1, 0, 1]}, "std must be above 0"),
        ({"std": []}, "std must be a number or a list of numbers"),
        ({"fit": "crop"}, "fit must be one of pad, stretch"),
        ({"sizes": 3}, "unknown key sizes; known here: inputs, output"),
        ({"output": {"unit": "m"}}, "output: unit must be one of px, output_px, width"),
        ({"output": {"sign": 0}}, "output: sign must be one of 1, -1"),
        ({"output": {"nome": "x"}}, "output: unknown key nome"),
        ({"output": {"channel": -1}}, "output.channel must be 0 or more"),
        ({"output": "disparity"}, "output must be dict, got 'disparity'"),
        ({"inputs": []}, "inputs must list the network's inputs"),
        ({"inputs": ["left", "right"]}, r"inputs\[0\] must be a mapping, got str"),
        ({"inputs": [{"shows": ["left"]}, {"shows": ["middle"]}]}, r"inputs\[1\]: shows must be \[left\]"),
        ({"inputs": [{"shows": ["left"]}]}, "no inputs show the left and the right image at scale 1, only: left"),
        ({"inputs": [{"shows": ["left"], "name": "l"}, {"shows": ["right"]}]}, "either all inputs must have a name or none"),
        ({"inputs": [{"shows": ["left"], "scale": 0.5}, {"shows": ["right"]}]}, "only: right"),
        ({"description": None}, "description must be str"),
    ],
)
def test_errors_name_the_key(change, said):
    with pytest.raises(ConfigError, match=said) as raised:
        parse_family({**MINIMAL, **change}, "x", "x.yaml")
    assert str(raised.value).startswith("x.yaml")


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(ConfigError, match="unknown family of ONNX models 'hitnett'; known: crestereo, "):
        find_family("hitnett")
    with pytest.raises(InputFileError, match="cannot be read"):
        find_family(str(tmp_path / "no.yaml"))
    broken = tmp_path / "broken.yaml"
    broken.write_text("a: [")
    with pytest.raises(InputFileError, match="is not valid YAML"):
        find_family(str(broken))
    broken.write_text("- a")
    with pytest.raises(ConfigError, match="must be a mapping, got list"):
        find_family(str(broken))
    broken.write_text("inputs: []")
    with pytest.raises(ConfigError, match="inputs must list"):
        find_family(str(broken))
    broken.write_text("inputs: [{shows: [left, right]}]")
    with pytest.raises(ConfigError, match="description is missing"):
        find_family(str(broken))
