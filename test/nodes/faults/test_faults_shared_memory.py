"""Little shared memory, and what killed processes leave of it: said, found, and removed only where it is nobody's."""

import json
import os
import re
import shutil
import subprocess
import sys

import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed: no DDS to test with")
pytest.importorskip("semantic_stereo_ros.msg", reason="the messages are not built: run `make build`")

from semantic_stereo_ros.nodes.runtime import dds, shared_memory

pytestmark = [pytest.mark.xdist_group("dds"), pytest.mark.faults]

HOLDER = """
import os, sys, rclpy
from semantic_stereo_ros.nodes.runtime import dds
dds.use_large_segment()
rclpy.init(domain_id=int(sys.argv[1]))
node = rclpy.create_node("holder")
print(os.getpid(), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def holder(dds_environment):
    """A process that holds a Fast DDS segment: (process, its largest segment)."""
    with dds.private_domain() as domain_id:
        process = subprocess.Popen([sys.executable, "-c", HOLDER, str(domain_id)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        segments = shared_memory.segments_of(pid)
        yield process, max(segments, key=shared_memory.size_bytes)
        process.kill()
        process.communicate()
        shared_memory.remove_orphans(segments)


@pytest.fixture
def settled(monkeypatch):
    """As if 10 s had gone by."""
    monkeypatch.setattr(shared_memory, "_SETTLED_S", -1.0)


def test_segment_of_a_living_process_is_never_stale(holder, settled):
    process, segment = holder
    assert segment.is_file() and segment not in shared_memory.stale_files()
    assert process.poll() is None


def test_segment_of_a_killed_process_is_found_named_and_removed(holder, settled, monkeypatch):
    process, segment = holder
    process.kill()
    process.wait()
    assert segment in shared_memory.stale_files() and shared_memory.size_bytes(segment) > 2**20
    monkeypatch.setattr(dds, "free_shared_memory_mb", lambda: 3)
    for name in dds.PROFILE_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    said = dds.use_large_segment()
    assert re.search(r"of ended processes hold \d+ MB: `semantic-stereo doctor --clean` removes them", said), said
    monkeypatch.setattr(shared_memory, "stale_files", lambda: [segment])  # tests beside this one may have killed processes of their own
    assert shared_memory.remove_stale() == [segment]
    assert not segment.exists() and not segment.with_name(f"{segment.name}_el").exists()


def test_fresh_unlocked_and_foreign_files_are_left_alone(tmp_path, monkeypatch):
    """Not one of these proves that its owner has ended."""
    monkeypatch.setattr(shared_memory, "SHARED_MEMORY", tmp_path)
    names = ("fastrtps_0123456789abcdef", "fastrtps_port7400", "fastrtps_mine", "other_0123456789abcdef")
    for name in names:
        (tmp_path / name).write_bytes(b"x")
        (tmp_path / f"{name}_el").write_bytes(b"")
    assert shared_memory.stale_files() == []
    old_s = 1_000_000.0
    for file in tmp_path.iterdir():
        os.utime(file, (old_s, old_s))
    later_s = max(file.stat().st_ctime for file in tmp_path.iterdir()) + 60.0
    assert [path.name for path in shared_memory.stale_files(later_s)] == list(names[:2])
    (tmp_path / "fastrtps_port7400_el").unlink()
    assert [path.name for path in shared_memory.stale_files(later_s)] == [names[0]]
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    assert shared_memory.stale_files(later_s) == []


GRAPH_IN_64_MB = """
import json, os, sys, tempfile
from pathlib import Path
from semantic_stereo_ros.nodes.runtime import dds
from semantic_stereo_ros.nodes.harness import soak
for name in dds.PROFILE_VARIABLES:
    os.environ.pop(name, None)
single = dds.use_large_segment()
for name in dds.PROFILE_VARIABLES:
    os.environ.pop(name, None)
report = soak.run_soak(40, warm_up=20)
print(json.dumps({"single": single, "chosen": report.profile, "answered": report.answered, "sent": report.sent}))
"""


def in_a_namespace_with_64_mb(*command: str) -> list[str]:
    """The command with a /dev/shm of its own of 64 MB (Docker's default). Skips where the system does not allow it."""
    unshare = shutil.which("unshare")
    if unshare is None:
        pytest.skip("unshare is not installed: no mount namespace for a small /dev/shm")
    inside = [unshare, "--user", "--map-root-user", "--mount", "sh", "-c", 'mount -t tmpfs -o size=64m tmpfs /dev/shm && exec "$@"', "sh"]
    probe = subprocess.run([*inside, "true"], capture_output=True, text=True, check=False)
    if probe.returncode:
        pytest.skip(f"a mount namespace with a small /dev/shm is not allowed here: {probe.stderr.strip()}")
    return [*inside, *command]


@pytest.mark.long
def test_whole_graph_in_64_mb_of_shared_memory(dds_environment):
    """Three processes choose 4 MB each, one alone would choose 16 MB; every frame is answered."""
    environment = {key: value for key, value in os.environ.items() if key not in dds.PROFILE_VARIABLES}
    command = in_a_namespace_with_64_mb(sys.executable, "-c", GRAPH_IN_64_MB)
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    result = json.loads(done.stdout.strip().splitlines()[-1])
    assert "segment of 16 MB" in result["single"] and "segment of 4 MB" in result["chosen"]
    assert result["answered"] == result["sent"] == 40
