"""A USB stereo camera, or two video devices, and the pipeline on its images.

ros2 launch semantic_stereo_ros camera.launch.py device:=0 width:=640 height:=480 calibration:=/data/left.yaml,/data/right.yaml
ros2 launch semantic_stereo_ros camera.launch.py device:=/dev/video0 right_device:=/dev/video2 calibration:=/data/stereo rviz:=true
ros2 launch semantic_stereo_ros camera.launch.py device:=0 pipeline:=false          # images only, as a calibrator wants them

All arguments of pipeline.launch.py are understood here, too; rectify is true unless it is given.
"""

import os

from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription, OpaqueFunction, SetLaunchConfiguration
from launch.conditions import IfCondition
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

from launch import LaunchDescription

HERE = os.path.dirname(os.path.abspath(__file__))  # noqa: PTH100, PTH120
BOOLS = ("true", "false")

# An empty text leaves the value to the camera_params_file, or else to the node's default.
ARGUMENTS = (
    ("device", "", None, "number or path of the camera, a video file, or a stream's address"),
    ("right_device", "", None, "device of the right images; empty: `device` gives both side by side"),
    ("calibration", "", None, "calibration file, folder or 'left.yaml,right.yaml' of the raw images"),
    ("width", "", None, "width of one image in px"),
    ("height", "", None, "height of one image in px"),
    ("fps", "", None, "frames per second"),
    ("fourcc", "", None, "pixel format, such as MJPG or YUYV"),
    ("swap", "", ("", *BOOLS), "true: exchange left and right"),
    ("frame_id", "", None, "frame id of images and camera_infos"),
    ("camera_params_file", "", None, "YAML file with parameters of camera_node (camera.*)"),
    ("pipeline", "true", BOOLS, "false: start the camera alone"),
)
KINDS = {"width": int, "height": int, "fps": float, "swap": bool}
# Those of pipeline.launch.py, included below, that matter here, too.
SHARED = ("namespace", "log_level")


def set_rectify(context):
    given = LaunchConfiguration("rectify", default="").perform(context)
    return [] if given else [SetLaunchConfiguration("rectify", "true")]


def make_camera(context):
    value = {name: LaunchConfiguration(name).perform(context) for name, *_ in ARGUMENTS}
    value |= {name: LaunchConfiguration(name, default="").perform(context) for name in SHARED}
    own = [name for name, *_ in ARGUMENTS if name not in ("camera_params_file", "pipeline")]
    said = {f"camera.{name}": ParameterValue(LaunchConfiguration(name), value_type=KINDS.get(name, str)) for name in own if value[name]}
    file = [value["camera_params_file"]] if value["camera_params_file"] else []
    logger = ".".join(filter(None, (*value["namespace"].split("/"), "camera_node")))
    camera = Node(
        package="semantic_stereo_ros",
        executable="camera_node",
        name="camera_node",
        namespace=value["namespace"],
        parameters=[*file, *([said] if said else [])],
        arguments=["--ros-args", "--log-level", f"{logger}:={value['log_level'] or 'info'}"],
        output="screen",
        emulate_tty=True,
    )
    return [camera]


def generate_launch_description():
    declarations = [
        DeclareLaunchArgument(name, default_value=default, choices=choices, description=text) for name, default, choices, text in ARGUMENTS
    ]
    pipeline = IncludeLaunchDescription(
        PythonLaunchDescriptionSource(os.path.join(HERE, "pipeline.launch.py")),  # noqa: PTH118
        condition=IfCondition(LaunchConfiguration("pipeline")),
    )
    return LaunchDescription([*declarations, OpaqueFunction(function=set_rectify), pipeline, OpaqueFunction(function=make_camera)])
