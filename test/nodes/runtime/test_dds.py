"""Choice of the Fast DDS profile, and domains that nobody else holds."""

import xml.etree.ElementTree as ElementTree

import pytest

from semantic_stereo_ros.nodes.runtime import dds
from semantic_stereo_ros.resources import share_file

NAMESPACE = "{http://www.eprosima.com/XMLSchemas/fastRTPS_Profiles}"


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch):
    for name in (*dds.PROFILE_VARIABLES, "RMW_IMPLEMENTATION"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    return monkeypatch


@pytest.mark.parametrize(("free_mb", "processes", "size_mb"), [(24000, 3, 64), (70, 1, 64), (69, 1, 16), (64, 2, 16), (30, 2, 4)])
def test_takes_the_largest_segment_that_fits(monkeypatch, free_mb, processes, size_mb):
    monkeypatch.setattr(dds, "free_shared_memory_mb", lambda: free_mb)
    import os

    text = dds.use_large_segment(processes)
    assert f"segment of {size_mb} MB" in text
    for name in dds.PROFILE_VARIABLES:
        assert os.environ[name].endswith(f"fastdds_shm_{size_mb}mb.xml")


def test_says_that_nothing_fits(monkeypatch):
    import os

    monkeypatch.setattr(dds, "free_shared_memory_mb", lambda: 9)
    monkeypatch.setattr(dds.shared_memory, "stale_files", list)
    text = dds.use_large_segment()
    assert "only 9 MB" in text and "--shm-size" in text
    assert not any(name in os.environ for name in dds.PROFILE_VARIABLES)


def test_leaves_the_users_profile_alone(monkeypatch):
    import os

    monkeypatch.setenv(dds.PROFILE_VARIABLES[0], "/own.xml")
    assert "/own.xml" in dds.use_large_segment()
    assert dds.PROFILE_VARIABLES[1] not in os.environ


def test_leaves_other_middlewares_alone(monkeypatch):
    monkeypatch.setenv("RMW_IMPLEMENTATION", "rmw_cyclonedds_cpp")
    assert "rmw_cyclonedds_cpp" in dds.use_large_segment()


@pytest.mark.parametrize("size_mb", dds.SEGMENT_SIZES_MB)
def test_profiles_hold_the_size_of_their_name_and_replace_the_builtin_transports(size_mb):
    root = ElementTree.parse(share_file(f"config/fastdds_shm_{size_mb}mb.xml")).getroot()
    assert root.findtext(f".//{NAMESPACE}segment_size") == str(size_mb * 1024 * 1024)
    assert root.findtext(f".//{NAMESPACE}useBuiltinTransports") == "false"
    assert [e.text for e in root.iter(f"{NAMESPACE}type")] == ["SHM", "UDPv4"]
    assert [root.findtext(f".//{NAMESPACE}leaseAnnouncement/{NAMESPACE}{unit}") for unit in ("sec", "nanosec")] == ["0", "500000000"]


def test_domains_differ_and_lie_below_the_ephemeral_ports():
    with dds.private_domain() as first, dds.private_domain() as second:
        assert first != second and {first, second} <= set(range(1, 101))
