"""Compile msg/ and srv/ and put them into the Python environment that runs this script.

After it, `from semantic_stereo_ros.msg import ObjectDistanceArray` works with this Python beside the modules of the
source tree. Needs a ROS prefix: the ros-* wheels in this environment, or a sourced ROS installation.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

PACKAGE = "semantic_stereo_ros"
ROOT = Path(__file__).resolve().parent.parent
PREFIX = Path(sys.prefix)


def main() -> int:
    build = ROOT / "build" / f"messages-{sysconfig.get_platform()}-{sys.implementation.cache_tag}"
    stage = build / "stage"
    if has_ros_wheels():
        patch_cmake_exports(PREFIX / "share")
    shutil.rmtree(stage, ignore_errors=True)
    cmake = cmake_command()
    jobs = str(os.cpu_count() or 1)
    for command in (
        [
            *cmake, "-S", str(ROOT), "-B", str(build), f"-DCMAKE_INSTALL_PREFIX={stage}", f"-DPython3_EXECUTABLE={sys.executable}",
            "-DBUILD_TESTING=OFF", "-DCMAKE_BUILD_TYPE=Release", "-Wno-dev",
        ],
        [*cmake, "--build", str(build), "--parallel", jobs],
        [*cmake, "--install", str(build)],
    ):  # fmt: skip
        done = subprocess.run(command, env=build_environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        if done.returncode:
            print(done.stdout)
            print(f"building the messages failed in: {' '.join(command)}", file=sys.stderr)
            return done.returncode
    copy_into_environment(stage)
    return 0


def has_ros_wheels() -> bool:
    """True when this environment itself is the ROS prefix (ros-* wheels), False for a sourced installation."""
    return (PREFIX / "share" / "ament_cmake").is_dir()


def patch_cmake_exports(share: Path) -> None:
    """Replace the two directories of the wheels' build machine in their CMake exports by this Python's."""
    import numpy

    include = sysconfig.get_path("include", vars={"installed_base": sys.base_prefix, "base": sys.base_prefix})
    wheel_python = r"/opt/python/cp\d+-cp\d+"
    replacements = (
        (re.compile(wheel_python + r"/lib/python3\.\d+/site-packages/numpy/_?core/include"), numpy.get_include()),
        (re.compile(wheel_python + r"/include/python3\.\d+"), include),
    )
    for file in share.rglob("*.cmake"):
        text = file.read_text()
        patched = text
        for pattern, directory in replacements:
            patched = pattern.sub(lambda _, directory=directory: directory, patched)
        if patched != text:
            file.write_text(patched)


def cmake_command() -> list[str]:
    own = PREFIX / "bin" / "cmake"
    return [str(own)] if own.exists() else ["cmake"]


def build_environment() -> dict[str, str]:
    """Like the shell's, but CMake looks into every ROS prefix: as colcon does, which plain CMake does not."""
    env = dict(os.environ)
    if has_ros_wheels():
        env["AMENT_PREFIX_PATH"] = os.pathsep.join(filter(None, [str(PREFIX), env.get("AMENT_PREFIX_PATH")]))
    env["CMAKE_PREFIX_PATH"] = os.pathsep.join(filter(None, [env.get("AMENT_PREFIX_PATH"), env.get("CMAKE_PREFIX_PATH")]))
    env["PATH"] = os.pathsep.join([str(PREFIX / "bin"), env.get("PATH", "")])
    return env


def copy_into_environment(stage: Path) -> None:
    """Libraries to lib/, generated Python to site-packages/<package>/ without an __init__.py.

    The missing __init__.py leaves the name to the source tree (or to a later `pip install`), whose extend_path finds the messages.
    """
    libraries = [*stage.glob("lib/*.so")]
    generated = next(path.parent for path in stage.rglob(f"{PACKAGE}/msg") if (path / "__init__.py").is_file())
    target = Path(sysconfig.get_path("purelib")) / PACKAGE
    target.mkdir(parents=True, exist_ok=True)
    for library in libraries:
        replace_file(library, PREFIX / "lib" / library.name)
    for extension in generated.glob("*.so"):
        replace_file(extension, target / extension.name)
    for folder in ("msg", "srv"):
        for file in (generated / folder).glob("*.py"):
            replace_file(file, target / folder / file.name)
    print(f"messages of {PACKAGE} built into {target}")


def replace_file(source: Path, target: Path) -> None:
    """Copy beside the target, then rename: a process that has the old file open keeps it whole."""
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(target.name + ".new")
    shutil.copyfile(source, temporary)
    temporary.replace(target)


if __name__ == "__main__":
    sys.exit(main())
