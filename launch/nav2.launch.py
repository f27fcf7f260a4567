"""The pipeline for a Nav2 robot: where the camera sits (TF), and optionally a costmap of its own to try the clouds with.

ros2 launch semantic_stereo_ros nav2.launch.py camera_x:=0.2 camera_z:=0.5 camera_pitch:=0.1 left_image:=/camera/left/image_rect \
    right_image:=/camera/right/image_rect left_info:=/camera/left/camera_info right_info:=/camera/right/camera_info
ros2 launch semantic_stereo_ros nav2.launch.py costmap:=true publish_tf:=false      # the robot description knows the camera

config/nav2_costmap.yaml holds the layers to merge into your Nav2 parameters. All arguments of pipeline.launch.py are understood here, too.
"""

import os

from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription, OpaqueFunction
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from launch import LaunchDescription

HERE = os.path.dirname(os.path.abspath(__file__))  # noqa: PTH100, PTH120
SHARE = os.path.dirname(HERE)  # noqa: PTH120
BOOLS = ("true", "false")
RIGHT_ANGLE = "1.5707963267948966"

ARGUMENTS = (
    ("publish_tf", "true", BOOLS, "false: TF knows already where the left optical frame is"),
    ("base_frame", "base_link", None, "frame of the robot"),
    ("camera_frame", "camera_left_optical_frame", None, "left optical frame: the frame_id of the left images"),
    ("camera_link", "camera_left_link", None, "frame at the same place with x forward, y left, z up"),
    ("camera_x", "0.0", None, "of the left camera in the base frame, forward, in m"),
    ("camera_y", "0.0", None, "left, in m"),
    ("camera_z", "0.0", None, "up, in m"),
    ("camera_roll", "0.0", None, "about the forward axis, in rad"),
    ("camera_pitch", "0.0", None, "in rad; positive looks down"),
    ("camera_yaw", "0.0", None, "in rad; positive looks left"),
    (
        "costmap",
        "false",
        BOOLS,
        "true: start a local costmap (nav2_costmap_2d) with its manager; needs TF from odom to the base frame",
    ),
    ("costmap_params", os.path.join(SHARE, "config", "nav2_costmap.yaml"), None, "parameters of that costmap"),  # noqa: PTH118
)
# Of pipeline.launch.py, included below.
SHARED = ("namespace", "use_sim_time")
TOPICS = ("obstacles", "clearing", "points", "mask/class", "label_info")


def static_transform(name, parent, child, **values):
    """tf2_ros's publisher of one transform; values: x, y, z in m, roll, pitch, yaw in rad."""
    arguments = [text for key, value in values.items() for text in (f"--{key}", value)]
    return Node(
        package="tf2_ros",
        executable="static_transform_publisher",
        name=name,
        arguments=[*arguments, "--frame-id", parent, "--child-frame-id", child],
        output="screen",
    )


def make_costmap(value, sim_time):
    """A costmap node and its manager. With a namespace, the absolute topics of the parameters are led there."""
    namespace = value["namespace"].strip("/")
    remappings = [(f"/{topic}", f"/{namespace}/{topic}") for topic in TOPICS] if namespace else []
    manager = {"node_names": ["local_costmap/local_costmap"], "autostart": True, "bond_timeout": 0.0, **sim_time}
    return [
        Node(
            package="nav2_costmap_2d",
            executable="nav2_costmap_2d",
            name="local_costmap",
            namespace="/local_costmap",
            parameters=[value["costmap_params"], sim_time],
            remappings=remappings,
            output="screen",
        ),
        Node(
            package="nav2_lifecycle_manager",
            executable="lifecycle_manager",
            name="lifecycle_manager_costmap",
            parameters=[manager],
            output="screen",
        ),
    ]


def make_actions(context):
    value = {name: LaunchConfiguration(name).perform(context) for name, *_ in ARGUMENTS}
    value |= {name: LaunchConfiguration(name, default="").perform(context) for name in SHARED}
    sim_time = {"use_sim_time": value["use_sim_time"] == "true"}
    actions = []
    if value["publish_tf"] == "true":
        place = {key: value[f"camera_{key}"] for key in ("x", "y", "z", "roll", "pitch", "yaw")}
        actions += [
            static_transform("camera_mount", value["base_frame"], value["camera_link"], **place),
            static_transform(
                "camera_optics", value["camera_link"], value["camera_frame"], roll=f"-{RIGHT_ANGLE}", pitch="0.0", yaw=f"-{RIGHT_ANGLE}"
            ),
        ]
    return [*actions, *(make_costmap(value, sim_time) if value["costmap"] == "true" else [])]


def generate_launch_description():
    declarations = [
        DeclareLaunchArgument(name, default_value=default, choices=choices, description=text) for name, default, choices, text in ARGUMENTS
    ]
    pipeline = IncludeLaunchDescription(PythonLaunchDescriptionSource(os.path.join(HERE, "pipeline.launch.py")))  # noqa: PTH118
    return LaunchDescription([*declarations, pipeline, OpaqueFunction(function=make_actions)])
