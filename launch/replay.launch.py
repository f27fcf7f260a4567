"""A recording through the pipeline: a rosbag2 bag, or images and videos (or the synthetic scene) by player_node.

ros2 launch semantic_stereo_ros replay.launch.py bag:=/data/drive left_image:=/cam/left/image_rect right_image:=/cam/right/image_rect \
    left_info:=/cam/left/camera_info right_info:=/cam/right/camera_info
ros2 launch semantic_stereo_ros replay.launch.py source:='/data/left,/data/right' calibration:=/data/calib.txt rate:=10.0 loop:=true
ros2 launch semantic_stereo_ros replay.launch.py source:=synthetic graph:=split rviz:=true

All arguments of pipeline.launch.py are understood here, too.
"""

import os

from launch.actions import (
    DeclareLaunchArgument,
    ExecuteProcess,
    IncludeLaunchDescription,
    OpaqueFunction,
    RegisterEventHandler,
    SetLaunchConfiguration,
    Shutdown,
)
from launch.event_handlers import OnProcessExit
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from launch import LaunchDescription

PACKAGE = "semantic_stereo_ros"
HERE = os.path.dirname(os.path.abspath(__file__))  # noqa: PTH100, PTH120
BOOLS = ("true", "false")

ARGUMENTS = (
    (
        "bag",
        "",
        None,
        "rosbag2 bag for `ros2 bag play`, its time on /clock (use_sim_time becomes true); name its topics below",
    ),
    ("source", "", None, "instead of a bag: 'LEFT,RIGHT' (two folders, glob patterns or videos), 'synthetic' or 'synthetic:<seed>'"),
    ("calibration", "", None, "calibration file or folder of `source`; not for synthetic scenes"),
    ("rate", "", None, "bag: times its recorded speed; source: frames per second; empty: 1 and the player's default"),
    ("loop", "false", BOOLS, "true: begin again at the end"),
    ("start", "0.0", None, "bag: begin this many seconds into it"),
    ("shutdown_at_end", "false", BOOLS, "true: end everything when the recording has ended"),
)
# Those of pipeline.launch.py, included below, that matter here, too.
NAMES = (("image_rect", "image"), ("camera_info", "info"))
SHARED = ("namespace", "use_sim_time", *(f"{side}_{kind}" for side in ("left", "right") for _, kind in NAMES))


def play_bag(value):
    """`ros2 bag play`; every topic keeps its recorded name, the pipeline is remapped instead."""
    rate = ["--rate", value["rate"]] if value["rate"] else []
    loop = ["--loop"] if value["loop"] == "true" else []
    command = ["ros2", "bag", "play", value["bag"], "--clock", "100", "--start-offset", value["start"], *rate, *loop]
    return ExecuteProcess(cmd=[*command, "--disable-keyboard-controls"], name="bag_player", output="screen")


def play_source(value):
    """player_node, on the topics that the pipeline listens to."""
    parameters = {"player.source": value["source"], "player.calibration": value["calibration"], "player.loop": value["loop"] == "true"}
    if value["rate"]:
        parameters["player.rate_hz"] = float(value["rate"])
    topics = {f"{side}/{topic}": value[f"{side}_{kind}"] for side in ("left", "right") for topic, kind in NAMES}
    return Node(
        package=PACKAGE,
        executable="player_node",
        name="player_node",
        namespace=value["namespace"],
        parameters=[parameters],
        remappings=[(topic, other) for topic, other in topics.items() if other],
        output="screen",
        emulate_tty=True,
    )


def read_arguments(context):
    value = {name: LaunchConfiguration(name).perform(context) for name, *_ in ARGUMENTS}
    return value | {name: LaunchConfiguration(name, default="").perform(context) for name in SHARED}


def set_time(context):
    """Checks what was asked for; a bag brings its own time."""
    value = read_arguments(context)
    if bool(value["bag"]) == bool(value["source"]):
        came = "both" if value["bag"] else "neither"
        raise RuntimeError(f"replay.launch.py needs either bag:=FOLDER or source:=LEFT,RIGHT, got {came}")
    return [SetLaunchConfiguration("use_sim_time", "true")] if value["bag"] and not value["use_sim_time"] else []


def make_player(context):
    value = read_arguments(context)
    player = play_bag(value) if value["bag"] else play_source(value)
    if value["shutdown_at_end"] != "true":
        return [player]
    end = OnProcessExit(target_action=player, on_exit=[Shutdown(reason="the recording has ended")])
    return [RegisterEventHandler(end), player]


def generate_launch_description():
    declarations = [
        DeclareLaunchArgument(name, default_value=default, choices=choices, description=text) for name, default, choices, text in ARGUMENTS
    ]
    pipeline = IncludeLaunchDescription(PythonLaunchDescriptionSource(os.path.join(HERE, "pipeline.launch.py")))  # noqa: PTH118
    return LaunchDescription([*declarations, OpaqueFunction(function=set_time), pipeline, OpaqueFunction(function=make_player)])
