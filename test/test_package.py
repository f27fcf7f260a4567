"""The package as a whole: what is installed, under which names, and what an import costs."""

import ast
import configparser
import importlib.metadata
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import venv
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

import semantic_stereo_ros
from semantic_stereo_ros.registry import STAGES_WITH_BACKENDS, backend_names

ROOT = Path(semantic_stereo_ros.__file__).resolve().parent.parent
HEAVY = ("torch", "onnxruntime", "matplotlib", "transformers", "sam2", "rclpy", "scipy.optimize", "scipy.spatial", "scipy.stats")


def read_setup_cfg() -> configparser.ConfigParser:
    setup = configparser.ConfigParser(delimiters=("=",))
    setup.optionxform = str  # pyright: ignore[reportAttributeAccessIssue]
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    return setup


def console_scripts() -> dict[str, str]:
    lines = read_setup_cfg()["options.entry_points"]["console_scripts"].strip().splitlines()
    return {name.strip(): target.strip() for name, target in (line.split("=") for line in lines)}


def loaded_after(statement: str, names: tuple[str, ...]) -> list[str]:
    """Which of `names` a fresh Python has loaded after `statement`."""
    code = f"import sys\n{statement}\nprint(*[name for name in {names!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.split()


def test_every_console_script_names_a_function():
    for target in console_scripts().values():
        module, function = target.split(":")
        tree = ast.parse((ROOT / (module.replace(".", "/") + ".py")).read_text(encoding="utf-8"))
        assert function in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, target


@pytest.mark.skipif(shutil.which("cmake") is None and not (Path(sys.prefix) / "bin/cmake").exists(), reason="cmake is not installed")
def test_cmake_installs_the_executables_of_setup_cfg(tmp_path):
    """The part of CMakeLists.txt that makes executables, run alone: the scripts it writes are setup.cfg's."""
    text = (ROOT / "CMakeLists.txt").read_text()
    block = re.search(r"^file\(STRINGS setup\.cfg.*?^endforeach\(\)$", text, re.DOTALL | re.MULTILINE)
    assert block is not None and "install(PROGRAMS" in block.group() and "lib/${PROJECT_NAME}" in block.group()
    python = Path(sys.executable).as_posix()
    shutil.copy(ROOT / "setup.cfg", tmp_path)
    shutil.copytree(ROOT / "cmake", tmp_path / "cmake")
    head = f'cmake_minimum_required(VERSION 3.20)\nproject(semantic_stereo_ros NONE)\nset(Python3_EXECUTABLE "{python}")\n'
    (tmp_path / "CMakeLists.txt").write_text(head + block.group())
    own = Path(sys.prefix) / "bin/cmake"
    cmake = str(own) if own.exists() else "cmake"
    for arguments in (["-S", ".", "-B", "build", "-DCMAKE_INSTALL_PREFIX=installed"], ["--install", "build", "--prefix", "installed"]):
        subprocess.run([cmake, *arguments], cwd=tmp_path, check=True, capture_output=True)
    installed = {path.name: path.read_text() for path in (tmp_path / "installed/lib/semantic_stereo_ros").iterdir()}
    assert set(installed) == set(console_scripts())
    for name, target in console_scripts().items():
        module, function = target.split(":")
        assert installed[name].startswith(f"#!{python}\n")
        assert f"from {module} import {function}\n" in installed[name]


def test_extras_named_in_messages_exist():
    """Every pip command that an error or the doctor prints names an extra that setup.cfg has."""
    from semantic_stereo_ros.cli import doctor

    named = {extra for extra, _ in doctor.OPTIONAL.values()}
    for path in (ROOT / "semantic_stereo_ros").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "missing_dependency":
                extra = node.args[1]
                assert isinstance(extra, ast.Constant) and isinstance(extra.value, str), f"{path.name}:{node.lineno}: write the extra out"
                named.add(extra.value)
    assert {"torch", "wls"} <= named
    assert named <= set(read_setup_cfg()["options.extras_require"])


def test_versions_agree():
    manifest = ElementTree.parse(ROOT / "package.xml").getroot()
    assert manifest.findtext("version") == semantic_stereo_ros.__version__
    assert manifest.findtext("name") == "semantic_stereo_ros"
    assert manifest.findtext("license") == "Apache-2.0"


def test_package_xml_satisfies_catkin_pkg():
    package = pytest.importorskip("catkin_pkg.package", reason="catkin_pkg is not installed")
    parsed = package.parse_package(str(ROOT / "package.xml"))
    assert parsed.validate() is None
    assert {group.name for group in parsed.member_of_groups} == {"rosidl_interface_packages"}


def test_import_of_the_pipeline_loads_no_heavy_library():
    assert loaded_after("import semantic_stereo_ros.pipeline", HEAVY) == []


@pytest.mark.parametrize(("stage", "name"), [(stage, name) for stage in STAGES_WITH_BACKENDS for name in backend_names(stage)])
def test_import_of_a_backend_loads_no_heavy_library(stage, name):
    assert loaded_after(f"import semantic_stereo_ros.{stage}.backends.{name}", HEAVY) == []


def test_import_of_the_command_line_loads_no_ros():
    assert loaded_after("import semantic_stereo_ros.cli.main", ("rclpy", "sensor_msgs", "torch")) == []


def test_all_but_the_nodes_imports_without_ros_torch_and_unix_modules():
    """As on Windows: modules that only Unix has, ROS and torch are refused; every module but those made of torch or ROS must import."""
    refused = ("fcntl", "grp", "pwd", "resource", "termios", "rclpy", "builtin_interfaces", "sensor_msgs", "std_msgs", "torch")
    base = ROOT / "semantic_stereo_ros"
    heavy = (base / "nodes", base / "models", base / "segmentation" / "automask")
    made_of_torch = ("automask_timing", "foundation_stereo_timing", "sam2_tracking_timing", "random_weights")  # in bench/
    found = [path for path in base.rglob("*.py") if path.stem not in made_of_torch and not any(folder in path.parents for folder in heavy)]
    paths = [path.relative_to(ROOT).with_suffix("") for path in found]
    names = sorted(".".join(path.parts).removesuffix(".__init__") for path in paths)
    assert {"semantic_stereo_ros.pipeline", "semantic_stereo_ros.cli.main"} <= set(names)
    block = f"sys.modules.update(dict.fromkeys({refused!r}))\nimport importlib\nfor name in {names!r}: importlib.import_module(name)"
    assert loaded_after(block, ("semantic_stereo_ros.nodes",)) == []


def test_never_two_cv2_wheels():
    names = ("opencv-python", "opencv-python-headless", "opencv-contrib-python", "opencv-contrib-python-headless")
    distributions = {distribution.metadata["Name"].lower().replace("_", "-") for distribution in importlib.metadata.distributions()}
    installed = sorted(distributions.intersection(names))
    assert len(installed) <= 1, installed


@pytest.mark.long
def test_wheel_finds_its_data_files(tmp_path):
    """`pip install .` into an environment of its own: config/ comes along and is found away from the source tree."""
    source = tmp_path / "source"
    shutil.copytree(ROOT, source, ignore=shutil.ignore_patterns(".*", "build", "install", "log", "outputs", "*.egg-info", "__pycache__"))
    build = ["wheel", "-q", "--no-deps", "--no-build-isolation", "-w", str(tmp_path), str(source)]
    subprocess.run([sys.executable, "-m", "pip", *build], check=True)
    wheel = next(tmp_path.glob("*.whl"))
    environment = tmp_path / "environment"
    venv.create(environment, with_pip=True, symlinks=os.name != "nt")
    python = environment / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    subprocess.run([python, "-m", "pip", "install", "-q", "--no-deps", "--no-index", str(wheel)], check=True)
    site = subprocess.run(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], check=True, capture_output=True, text=True
    ).stdout.strip()
    Path(site, "requirements.pth").write_text(sysconfig.get_path("purelib"))  # NumPy and the like from here instead of from the network
    code = "from semantic_stereo_ros.resources import share_file; print(share_file('config/labels.yaml'))"
    env = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "AMENT_PREFIX_PATH")}
    found = subprocess.run([python, "-c", code], cwd=tmp_path, env=env, check=True, capture_output=True, text=True).stdout.strip()
    assert Path(found).is_file() and environment in Path(found).parents


@pytest.mark.long
@pytest.mark.skipif(importlib.util.find_spec("colcon_core") is None, reason="colcon is not installed")
@pytest.mark.skipif(importlib.util.find_spec("rclpy") is None, reason="rclpy is not installed")
@pytest.mark.parametrize("options", [[], ["--symlink-install"]], ids=["copy", "symlink"])
def test_colcon_build(tmp_path, options):
    """A workspace of its own: messages and modules in one package, executables under this Python."""
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "semantic_stereo_ros").symlink_to(ROOT, target_is_directory=True)
    env = dict(os.environ)
    if (Path(sys.prefix) / "share" / "ament_cmake").is_dir():
        env["AMENT_PREFIX_PATH"] = env["CMAKE_PREFIX_PATH"] = sys.prefix
    env["PATH"] = os.pathsep.join([str(Path(sys.prefix) / "bin"), env["PATH"]])
    command = [sys.executable, "-m", "colcon", "build", "--base-paths", "src", "--packages-up-to", "semantic_stereo_ros", *options]
    built = subprocess.run(
        [*command, "--cmake-args", f"-DPython3_EXECUTABLE={sys.executable}"], cwd=tmp_path, env=env, capture_output=True, text=True
    )
    assert built.returncode == 0, built.stdout + built.stderr
    installed = tmp_path / "install" / "semantic_stereo_ros"
    for name in console_scripts():
        executable = installed / "lib" / "semantic_stereo_ros" / name
        assert executable.read_text().startswith(f"#!{sys.executable}\n") and os.access(executable, os.X_OK)
    for file in ("config/labels.yaml", "launch/pipeline.launch.py", "rviz/pipeline.rviz"):
        assert (installed / "share" / "semantic_stereo_ros" / file).is_file(), file
    module = next(installed.glob("lib/python*/site-packages/semantic_stereo_ros/pipeline.py"))
    assert module.is_symlink() == bool(options)
    code = "import semantic_stereo_ros.pipeline as p; from semantic_stereo_ros.msg import ObjectDistanceArray as m; print(p.__file__, m.OK)"
    script = f"source install/setup.bash && '{sys.executable}' -c '{code}'"
    printed = subprocess.run(["bash", "-c", script], cwd=tmp_path, env=env, check=True, capture_output=True, text=True).stdout
    assert str(tmp_path / "install") in printed and printed.strip().endswith(" 0")
