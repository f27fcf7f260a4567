"""pipeline_node, and RViz when asked for.

ros2 launch semantic_stereo_ros pipeline.launch.py left_image:=/camera/left/image_rect right_image:=/camera/right/image_rect \
    left_info:=/camera/left/camera_info right_info:=/camera/right/camera_info
ros2 launch semantic_stereo_ros pipeline.launch.py namespace:=front rectify:=true params_file:=/path/to/my.yaml rviz:=true
"""

import os

from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.conditions import IfCondition
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

from launch import LaunchDescription

SHARE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))  # noqa: PTH100, PTH120 - the same in source tree and install space

ARGUMENTS = (
    ("namespace", "", "namespace of the node and of all its topics"),
    ("name", "pipeline_node", "name of the node"),
    ("params_file", os.path.join(SHARE, "config", "pipeline.yaml"), "YAML file with the node's parameters"),  # noqa: PTH118
    ("rectify", "false", "true: subscribe to image_raw and rectify with the camera_infos"),
    ("use_sim_time", "false", "true: take the time from /clock (bags, simulators)"),
    ("left_image", "", "topic of the left images; default left/image_rect (left/image_raw with rectify) in the namespace"),
    ("right_image", "", "topic of the right images"),
    ("left_info", "", "topic of the left camera_info; default left/camera_info in the namespace"),
    ("right_info", "", "topic of the right camera_info"),
    ("pose", "", "topic of the camera's pose (nav_msgs/Odometry), used when the parameter input.use_pose is true"),
    ("log_level", "info", "debug, info, warn or error"),
    ("rviz", "false", "true: start RViz with the package's view"),
)


def make_nodes(context):
    """Remaps only what was named: an empty argument leaves the relative default in place."""
    value = {name: LaunchConfiguration(name).perform(context) for name, _, _ in ARGUMENTS}
    image = "image_raw" if value["rectify"].lower() == "true" else "image_rect"
    remappings = [
        (topic, value[argument])
        for topic, argument in (
            (f"left/{image}", "left_image"),
            (f"right/{image}", "right_image"),
            ("left/camera_info", "left_info"),
            ("right/camera_info", "right_info"),
            ("pose", "pose"),
        )
        if value[argument]
    ]
    overrides = {
        "input.rectify": ParameterValue(LaunchConfiguration("rectify"), value_type=bool),
        "use_sim_time": ParameterValue(LaunchConfiguration("use_sim_time"), value_type=bool),
    }
    return [
        Node(
            package="semantic_stereo_ros",
            executable="pipeline_node",
            name=value["name"],
            namespace=value["namespace"],
            parameters=[value["params_file"], overrides],
            remappings=remappings,
            arguments=["--ros-args", "--log-level", value["log_level"]],
            output="screen",
            emulate_tty=True,
        ),
        Node(
            package="rviz2",
            executable="rviz2",
            name="rviz2",
            namespace=value["namespace"],
            arguments=["-d", os.path.join(SHARE, "rviz", "pipeline.rviz")],  # noqa: PTH118
            condition=IfCondition(LaunchConfiguration("rviz")),
            output="screen",
        ),
    ]


def generate_launch_description():
    declarations = [DeclareLaunchArgument(name, default_value=default, description=text) for name, default, text in ARGUMENTS]
    return LaunchDescription([*declarations, OpaqueFunction(function=make_nodes)])
