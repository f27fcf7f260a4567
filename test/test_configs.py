"""What config/ and rviz/ hold for other programs: every topic in it is one of ours, every parameter one that its reader declares."""

import ast
import json
import re
from pathlib import Path

import pytest
import yaml

from semantic_stereo_ros.resources import share_file

ROOT = Path(__file__).resolve().parents[1]
RVIZ_TYPES = {"PointCloud2": "PointCloud2", "MarkerArray": "MarkerArray", "Image": "Image"}

# Parameters as Nav2 (Jazzy, 1.3) and semantic_segmentation_layer declare them, with their types: a wrong type ends a C++ node.
COSTMAP = {
    "global_frame": str, "robot_base_frame": str, "rolling_window": bool, "width": int, "height": int, "resolution": float,
    "update_frequency": float, "publish_frequency": float, "transform_tolerance": float, "robot_radius": float,
    "track_unknown_space": bool, "plugins": list,
}  # fmt: skip
SOURCE = {
    "topic": str, "sensor_frame": str, "observation_persistence": float, "expected_update_rate": float, "data_type": str,
    "min_obstacle_height": float, "max_obstacle_height": float, "inf_is_valid": bool, "marking": bool, "clearing": bool,
    "obstacle_max_range": float, "obstacle_min_range": float, "raytrace_max_range": float, "raytrace_min_range": float,
}  # fmt: skip
VOXEL = {
    "plugin": str, "enabled": bool, "footprint_clearing_enabled": bool, "min_obstacle_height": float, "max_obstacle_height": float,
    "z_voxels": int, "origin_z": float, "z_resolution": float, "unknown_threshold": int, "mark_threshold": int, "combination_method": int,
    "publish_voxel_map": bool, "observation_sources": str,
}  # fmt: skip
INFLATION = {"plugin": str, "enabled": bool, "inflation_radius": float, "cost_scaling_factor": float, "inflate_unknown": bool}
SEMANTIC = {
    "plugin": str, "enabled": bool, "combination_method": int, "observation_sources": str, "publish_debug_topics": bool,
    "use_approximate_time_sync": bool,
}  # fmt: skip
SEMANTIC_SOURCE = {
    "segmentation_topic": str, "confidence_topic": str, "labels_topic": str, "pointcloud_topic": str, "observation_persistence": float,
    "expected_update_rate": float, "class_types": list, "max_obstacle_distance": float, "min_obstacle_distance": float,
    "tile_map_decay_time": float, "visualize_tile_map": bool, "use_cost_selection": bool,
}  # fmt: skip
SEMANTIC_CLASS = {
    "classes": list, "base_cost": int, "max_cost": int, "mark_confidence": int, "samples_to_max_cost": int, "dominant_priority": bool,
}  # fmt: skip
MONITOR = {
    "base_frame_id": str, "odom_frame_id": str, "cmd_vel_in_topic": str, "cmd_vel_out_topic": str, "state_topic": str,
    "transform_tolerance": float, "source_timeout": float, "base_shift_correction": bool, "stop_pub_timeout": float, "polygons": list,
    "observation_sources": list,
}  # fmt: skip
POLYGON = {
    "type": str, "action_type": str, "footprint_topic": str, "time_before_collision": float, "simulation_time_step": float,
    "min_points": int, "visualize": bool, "enabled": bool,
}  # fmt: skip
MONITOR_SOURCE = {"type": str, "topic": str, "min_height": float, "max_height": float, "min_range": float, "enabled": bool}


def published() -> dict[str, str]:
    """Topic and message type of every Output(TOPIC, KIND) and create_publisher(KIND, TOPIC) in nodes/outputs/, read without ROS."""
    found = {}
    for file in (ROOT / "semantic_stereo_ros" / "nodes" / "outputs").glob("*.py"):
        for call in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            name = ast.unparse(call.func).rpartition(".")[2] if isinstance(call, ast.Call) else ""
            if isinstance(call, ast.Call) and name in ("Output", "create_publisher") and len(call.args) >= 2:
                topic, kind = call.args[:2] if name == "Output" else call.args[1::-1]
                if isinstance(topic, ast.Constant):
                    found[str(topic.value)] = ast.unparse(kind).rpartition(".")[2]
    return found


def check(values: dict, declared: dict, children: set[str], where: str) -> None:
    for name, value in values.items():
        if name not in children:
            assert name in declared, f"{where}.{name} is declared by nobody"
            assert type(value) is declared[name], f"{where}.{name} must be {declared[name].__name__}, is {value!r}"
    assert children <= set(values), f"{where} names {children - set(values)}, which is not there"


@pytest.fixture(scope="module")
def nav2():
    return yaml.safe_load((ROOT / "config" / "nav2_costmap.yaml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def costmap(nav2):
    return nav2["local_costmap"]["local_costmap"]["ros__parameters"]


def test_the_table_of_outputs_is_found():
    assert published()["objects"] == "ObjectDistanceArray" and published()["points"] == "PointCloud2"


def test_costmap_parameters_are_those_that_nav2_declares(costmap):
    layers = {"voxel_layer": VOXEL, "semantic_layer": SEMANTIC, "inflation_layer": INFLATION}
    check(costmap, COSTMAP, set(layers), "local_costmap")
    assert set(costmap["plugins"]) <= set(layers)
    voxel = costmap["voxel_layer"]
    sources = set(voxel["observation_sources"].split())
    check(voxel, VOXEL, sources, "voxel_layer")
    for name in sources:
        check(voxel[name], SOURCE, set(), f"voxel_layer.{name}")
    check(costmap["inflation_layer"], INFLATION, set(), "inflation_layer")
    assert voxel["z_voxels"] <= 16 and voxel["max_obstacle_height"] == pytest.approx(voxel["z_voxels"] * voxel["z_resolution"])


def test_one_cloud_marks_and_the_other_clears(costmap):
    voxel, topics = costmap["voxel_layer"], published()
    roles = {name: (voxel[name]["marking"], voxel[name]["clearing"]) for name in voxel["observation_sources"].split()}
    assert roles == {"obstacles": (True, False), "clearing": (False, True)}
    for name in roles:
        assert topics[voxel[name]["topic"].lstrip("/")] == voxel[name]["data_type"] == "PointCloud2"
        assert voxel[name]["max_obstacle_height"] > voxel[name]["min_obstacle_height"], "0 and 0, Nav2's defaults, let no point through"


def test_the_semantic_layer_reads_our_mask_points_and_labels(costmap):
    layer = costmap["semantic_layer"]
    check(layer, SEMANTIC, {"stereo"}, "semantic_layer")
    source = layer["stereo"]
    check(source, SEMANTIC_SOURCE, set(source["class_types"]), "semantic_layer.stereo")
    labels = {entry["name"] for entry in yaml.safe_load(share_file("config/labels.yaml").read_text(encoding="utf-8"))["labels"]}
    for name in source["class_types"]:
        check(source[name], SEMANTIC_CLASS, set(), f"semantic_layer.stereo.{name}")
        assert set(source[name]["classes"]) <= labels
    topics = {key: published()[source[f"{key}_topic"].lstrip("/")] for key in ("segmentation", "pointcloud", "labels")}
    assert topics == {"segmentation": "Image", "pointcloud": "PointCloud2", "labels": "LabelInfo"}


def test_collision_monitor_parameters(nav2):
    monitor = nav2["collision_monitor"]["ros__parameters"]
    check(monitor, MONITOR, {*monitor["polygons"], *monitor["observation_sources"]}, "collision_monitor")
    for name in monitor["polygons"]:
        check(monitor[name], POLYGON, set(), f"collision_monitor.{name}")
    for name in monitor["observation_sources"]:
        check(monitor[name], MONITOR_SOURCE, set(), f"collision_monitor.{name}")
        assert published()[monitor[name]["topic"].lstrip("/")] == "PointCloud2"


def test_rviz_shows_topics_of_ours_with_a_qos_that_meets_them():
    layout = yaml.safe_load((ROOT / "rviz" / "pipeline.rviz").read_text(encoding="utf-8"))
    displays = [display for display in layout["Visualization Manager"]["Displays"] if "Topic" in display]
    known = {**published(), "left/image_rect": "Image"}
    shown = set()
    for display in displays:
        topic = display["Topic"]
        assert known[topic["Value"]] == RVIZ_TYPES[display["Class"].split("/")[1]], "RViz resolves relative names in its namespace"
        assert topic["Durability Policy"] == "Volatile" and topic["Reliability Policy"] in ("Reliable", "Best Effort")
        shown.add(topic["Value"])
    assert {"points", "obstacles", "clearing", "markers", "overlay"} <= shown
    enabled = {display["Topic"]["Value"] for display in displays if display["Enabled"]}
    assert enabled == {"points", "markers", "overlay"}, "what is not looked at is not computed"


def message_fields(name: str) -> dict[str, str]:
    """Field and type of one of our messages, read from msg/."""
    text = (ROOT / "msg" / f"{name}.msg").read_text(encoding="utf-8")
    return {field: kind for kind, field in re.findall(r"^([\w/\[\]]+) +(\w+)(?: *#.*)?$", text, re.MULTILINE)}


def test_foxglove_layout_is_whole_and_shows_what_is_published():
    layout = json.loads((ROOT / "config" / "foxglove_layout.json").read_text(encoding="utf-8"))
    panels, topics = layout["configById"], {**published(), "diagnostics": "DiagnosticArray"}

    def leaves(node):
        if isinstance(node, str):
            return [node]
        assert node["direction"] in ("row", "column") and 0 < node["splitPercentage"] < 100
        return leaves(node["first"]) + leaves(node["second"])

    assert sorted(leaves(layout["layout"])) == sorted(panels)
    kinds = {name.partition("!")[0]: config for name, config in panels.items()}
    assert {topic: topics[topic.lstrip("/")] for topic in kinds["3D"]["topics"]} == {
        "/points": "PointCloud2", "/obstacles": "PointCloud2", "/clearing": "PointCloud2", "/markers": "MarkerArray",
    }  # fmt: skip
    assert topics[kinds["Image"]["imageMode"]["imageTopic"].lstrip("/")] == "Image"
    assert topics[kinds["DiagnosticSummary"]["topicToRender"].lstrip("/")] == "DiagnosticArray"
    assert topics[kinds["RawMessages"]["topicPath"].lstrip("/")] == "ObjectDistanceArray"
    for path in kinds["Plot"]["paths"]:
        match = re.fullmatch(r"/(\w+)\.(\w+)\[\d+\]\.(\w+)", path["value"])
        assert match is not None, path
        topic, field, inner = match.groups()
        kind = message_fields(topics[topic])[field]
        assert kind.endswith("[]") and message_fields(kind[:-2])[inner] == "float32"
