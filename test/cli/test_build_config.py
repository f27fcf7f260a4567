"""What of a file, --stereo, --segmentation and --set counts."""

from __future__ import annotations

import pytest

pytest.importorskip("typer", reason="typer is not installed")

from semantic_stereo_ros.cli.common import build_config, metres


def test_the_file_counts_first_then_the_names_then_set(tmp_path):
    file = tmp_path / "given.yaml"
    file.write_text("stereo: {backend: external, sgbm: {num_disparities: 64, p1: 7}}\nfusion: {erode_px: 5}\ninput: {queue: 3}\n")
    of_file = build_config(None, None, (), file)
    assert (of_file.stereo.backend, of_file.fusion.erode_px) == ("external", 5)
    named = build_config("sgbm", None, (), file)
    assert (named.stereo.backend, named.stereo_backend.num_disparities, named.stereo_backend.p1) == ("sgbm", 64, 7)
    told = build_config("external", None, ("stereo.backend=sgbm", "stereo.sgbm.num_disparities=192"), file)
    assert (told.stereo.backend, told.stereo_backend.num_disparities, told.stereo_backend.p1) == ("sgbm", 192, 7)
    assert build_config(None, None, (), None).fusion.erode_px == 2


def test_unknown_metres_are_a_dash():
    assert (metres(float("nan")), metres(1.23456)) == ("-", "1.235")
