"""The stereo pipeline: in one process, or as separate nodes; and RViz when asked for.

ros2 launch semantic_stereo_ros pipeline.launch.py left_image:=/camera/left/image_rect right_image:=/camera/right/image_rect \
    left_info:=/camera/left/camera_info right_info:=/camera/right/camera_info
ros2 launch semantic_stereo_ros pipeline.launch.py graph:=split namespace:=front rectify:=true params_file:=/path/to/my.yaml rviz:=true
"""

import os

from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from launch import LaunchDescription

PACKAGE = "semantic_stereo_ros"
SHARE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))  # noqa: PTH100, PTH120 - the same in source tree and install space
BOOLS = ("true", "false")
UNSET_OR_BOOL = ("", "true", "false")
GRAPHS = {"single": ("pipeline_node",), "split": ("stereo_node", "segmentation_node", "fusion_node")}

# name, default, choices (None: any text), what it is for. An empty text leaves the value to the params_file.
ARGUMENTS = (
    ("graph", "single", ("single", "split"), "single: pipeline_node alone; split: stereo_node, segmentation_node and fusion_node"),
    ("namespace", "", None, "namespace of the nodes and of all their topics"),
    ("params_file", os.path.join(SHARE, "config", "pipeline.yaml"), None, "YAML file with parameters, for all nodes"),  # noqa: PTH118
    ("stereo", "", None, "stereo backend (`semantic-stereo backends` lists them); empty: as the params_file says"),
    ("segmentation", "", None, "segmentation backend; empty: as the params_file says"),
    ("rectify", "", UNSET_OR_BOOL, "true: subscribe to image_raw and rectify with the camera_infos; empty: as the params_file says"),
    ("left_image", "", None, "topic of the left images; empty: left/image_rect (left/image_raw with rectify) in the namespace"),
    ("right_image", "", None, "topic of the right images; empty: right/image_rect (right/image_raw with rectify)"),
    ("left_info", "", None, "topic of the left camera_info; empty: left/camera_info"),
    ("right_info", "", None, "topic of the right camera_info; empty: right/camera_info"),
    ("pose", "", None, "topic of the camera's pose (nav_msgs/Odometry), used when the parameter input.use_pose is true; empty: pose"),
    ("use_sim_time", "", UNSET_OR_BOOL, "true: take the time from /clock (bags, simulators); empty: as the params_file says"),
    ("autostart", "", UNSET_OR_BOOL, "false: the nodes stay unconfigured until a lifecycle manager comes; empty: as the params_file says"),
    ("lifecycle_manager", "false", BOOLS, "true: nav2_lifecycle_manager configures and activates the nodes (then autostart is its own)"),
    ("respawn", "false", BOOLS, "true: start a node again, after 2 s, when it dies"),
    ("log_level", "info", ("debug", "info", "warn", "error", "fatal"), "of the nodes' own loggers"),
    ("rviz", "false", BOOLS, "true: start RViz"),
    ("rviz_config", os.path.join(SHARE, "rviz", "pipeline.rviz"), None, "layout of RViz"),  # noqa: PTH118
    ("fixed_frame", "", None, "RViz's fixed frame; empty: the layout's, camera_left_optical_frame"),
)


def make_remappings(value):
    """Remaps only what was named: an empty argument leaves the relative default in place."""
    result = []
    for side in ("left", "right"):
        for image in ("image_rect", "image_raw"):
            if topic := value[f"{side}_image"]:
                result += [(f"{side}/{image}", topic), (f"{side}/{image}/compressed", f"{topic}/compressed")]
        if topic := value[f"{side}_info"]:
            result.append((f"{side}/camera_info", topic))
    return [*result, *([("pose", value["pose"])] if value["pose"] else [])]


def make_parameters(value):
    """The params_file, and over it only what was said on the command line."""
    said = {
        "stereo.backend": value["stereo"],
        "segmentation.backend": value["segmentation"],
        "input.rectify": value["rectify"],
        "use_sim_time": value["use_sim_time"],
        "autostart": "false" if value["lifecycle_manager"] == "true" else value["autostart"],
    }
    overrides = {name: text == "true" if text in BOOLS else text for name, text in said.items() if text}
    return [value["params_file"], *([overrides] if overrides else [])]


def make_node(value, name):
    logger = ".".join(filter(None, (*value["namespace"].split("/"), name)))
    return Node(
        package=PACKAGE,
        executable=name,
        name=name,
        namespace=value["namespace"],
        parameters=make_parameters(value),
        remappings=make_remappings(value),
        arguments=["--ros-args", "--log-level", f"{logger}:={value['log_level']}"],
        respawn=value["respawn"] == "true",
        respawn_delay=2.0,
        output="screen",
        emulate_tty=True,
    )


def make_manager(value, names):
    """bond_timeout 0.0: a node that died is noticed by respawn, and no bondpy is needed."""
    parameters = {
        "node_names": list(names),
        "autostart": value["autostart"] != "false",
        "bond_timeout": 0.0,
        "use_sim_time": value["use_sim_time"] == "true",
    }
    return Node(
        package="nav2_lifecycle_manager",
        executable="lifecycle_manager",
        name="lifecycle_manager_stereo",
        namespace=value["namespace"],
        parameters=[parameters],
        output="screen",
    )


def make_rviz(value):
    frame = ["-f", value["fixed_frame"]] if value["fixed_frame"] else []
    return Node(
        package="rviz2",
        executable="rviz2",
        name="rviz2",
        namespace=value["namespace"],
        arguments=["-d", value["rviz_config"], *frame],
        parameters=[{"use_sim_time": value["use_sim_time"] == "true"}],
        output="screen",
    )


def make_actions(context):
    value = {name: LaunchConfiguration(name).perform(context) for name, *_ in ARGUMENTS}
    names = GRAPHS[value["graph"]]
    actions = [make_node(value, name) for name in names]
    if value["lifecycle_manager"] == "true":
        actions.append(make_manager(value, names))
    if value["rviz"] == "true":
        actions.append(make_rviz(value))
    return actions


def generate_launch_description():
    declarations = [
        DeclareLaunchArgument(name, default_value=default, choices=choices, description=text) for name, default, choices, text in ARGUMENTS
    ]
    return LaunchDescription([*declarations, OpaqueFunction(function=make_actions)])
