"""What `semantic-stereo export sam2` wrote into a folder: two ONNX files and a YAML file that describes them. Reads without torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from semantic_stereo_ros.checks import InputFileError


@dataclass(frozen=True)
class Part:
    """One file and its tensors' names, in the order of OWN's."""

    file: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


OWN = (
    Part("encoder.onnx", ("image",), ("embedding", "fine", "middle")),
    Part("decoder.onnx", ("embedding", "fine", "middle", "points", "labels", "mask", "use_mask"), ("masks", "scores")),
)
"""Encoder and decoder as `semantic-stereo export sam2` writes them; sam2_export_form.py says what each tensor is."""


@dataclass(frozen=True)
class Description:
    """What a folder holds. image_size: side of the square image, px."""

    FILE: ClassVar[str] = "sam2.yaml"
    model: str
    image_size: int
    encoder: Part
    decoder: Part

    def save(self, folder: Path) -> None:
        """Write FILE into the folder."""
        lines = ["# Written by `semantic-stereo export sam2`, read by the segmentation backend sam2_onnx."]
        lines += [f"model: {self.model}", f"image_size: {self.image_size}  # px, side of the square image"]
        for name, part in (("encoder", self.encoder), ("decoder", self.decoder)):
            lines += [f"{name}:", f"  file: {part.file}", *(f"  {k}: [{', '.join(getattr(part, k))}]" for k in ("inputs", "outputs"))]
        (folder / self.FILE).write_text("\n".join(lines) + "\n", encoding="utf-8")

    @staticmethod
    def read(folder: Path) -> Description:
        """Raises InputFileError saying what is missing or wrong."""
        import yaml

        path = folder / Description.FILE
        if not path.is_file():
            raise InputFileError(f"{path} does not exist: give the folder that `semantic-stereo export sam2` wrote")
        try:
            said = yaml.safe_load(path.read_text(encoding="utf-8"))
            parts = [Part(str(said[n]["file"]), tuple(said[n]["inputs"]), tuple(said[n]["outputs"])) for n in ("encoder", "decoder")]
            described = Description(str(said["model"]), int(said["image_size"]), *parts)
        except (yaml.YAMLError, UnicodeDecodeError, KeyError, TypeError, ValueError) as error:
            reason = " ".join(str(error).split())[:300]
            raise InputFileError(
                f"{path} must say model, image_size, encoder and decoder as `semantic-stereo export sam2` writes them, but {reason} "
                "is wrong or missing: export again"
            ) from error
        for part, own in zip(parts, OWN):
            if (len(part.inputs), len(part.outputs)) != (len(own.inputs), len(own.outputs)):
                raise InputFileError(f"{path}: {part.file} must have {len(own.inputs)} inputs and {len(own.outputs)} outputs: export again")
            if not (folder / part.file).is_file():
                raise InputFileError(f"{folder / part.file} does not exist, but {path.name} names it: export again")
        return described
