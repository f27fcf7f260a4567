"""`semantic-stereo run` as a user types it, with prompts for SAM 2: one object is prompted in the first frame and followed from there."""

from __future__ import annotations

import json
import subprocess
import sys

import cv2
import tiny_sam2

from semantic_stereo_ros.synthetic import random_sequence


def test_an_object_prompted_in_the_first_frame_is_followed(tmp_path):
    sequence = random_sequence(21, frames=3, size_wh=(320, 240))
    for index, item in enumerate(sequence):
        for side in ("left", "right"):
            (tmp_path / side).mkdir(exist_ok=True)
            assert cv2.imwrite(str(tmp_path / side / f"{index}.png"), cv2.cvtColor(getattr(item.frame, side), cv2.COLOR_RGB2BGR))
    rig = sequence.rig
    (tmp_path / "K.txt").write_text(f"{rig.fx} 0 {rig.cx} 0 {rig.fy} {rig.cy} 0 0 1\n{rig.baseline_m}\n", encoding="utf-8")
    prompt = "160,120,class=crate,id=7"  # where this fill of the weights sees something
    settings = {"checkpoint": tiny_sam2.checkpoint(), "image_size": 256, "device": "cpu", "mode": "track", "key_frame_interval": 100}
    arguments = f"left right -c K.txt -o out --compact --segmentation sam2 --prompt-point {prompt}".split()
    for key, value in {**settings, "split_at_depth": False, "min_iou": 1.0}.items():  # no mask is found without a prompt
        arguments += ["--set", f"segmentation.sam2.{key}={value}"]
    command = [sys.executable, "-m", "semantic_stereo_ros.cli.main", "run", *arguments]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    lines = (tmp_path / "out/fusion/objects.jsonl").read_text(encoding="utf-8").splitlines()
    named = [[(o["id"], o["class_name"], o["state"]) for o in json.loads(line)["objects"] if o["class_name"] == "crate"] for line in lines]
    assert len(named) == 3 and named[1] == named[2] == [(named[2][0][0], "crate", "VISIBLE")]
    assert "crate" in done.stdout
