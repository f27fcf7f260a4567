"""config/labels.yaml is what people and other programs read the class ids by: it must say what the code writes."""

import yaml

from semantic_stereo_ros.fusion.assemble import CLASS_GROUND
from semantic_stereo_ros.resources import share_file
from semantic_stereo_ros.types import CLASS_STRUCTURE, Instance


def test_the_map_names_what_the_code_writes():
    labels = yaml.safe_load(share_file("config/labels.yaml").read_text(encoding="utf-8"))["labels"]
    names = {entry["id"]: entry["name"] for entry in labels}
    unknown = Instance(label=1)
    assert len(names) == len(labels)
    assert names[0] == "background"
    assert names[CLASS_GROUND] == "ground"
    assert names[CLASS_STRUCTURE] == "structure"
    assert names[unknown.class_id] == unknown.class_name
    assert all(0 <= i <= 255 and len(e["color"]) == 3 for i, e in zip(names, labels))
