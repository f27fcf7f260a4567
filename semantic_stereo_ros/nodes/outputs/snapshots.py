"""save_snapshot: everything that `semantic-stereo run` writes of one frame, below the folder that the node was started with."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from semantic_stereo_ros.checks import InputFileError, SemanticStereoError
from semantic_stereo_ros.io.paths import inside
from semantic_stereo_ros.io.writers import ResultWriter
from semantic_stereo_ros.nodes.runtime.node_options import OutputConfig
from semantic_stereo_ros.srv import SaveSnapshot
from semantic_stereo_ros.types import Scene


def write_snapshot(
    request: SaveSnapshot.Request,
    response: SaveSnapshot.Response,
    newest: Callable[[], Scene | None],
    config: OutputConfig,
    why_none: Callable[[], str],
) -> SaveSnapshot.Response:
    """Fill and return `response`. newest: gives the scene to write; why_none: says why it gave none."""
    try:
        directory = snapshot_directory(config.snapshot_directory, request.directory)
        scene = newest()
        if scene is None:
            response.message = f"there is no frame to save yet: {why_none()}"
            return response
        writer = ResultWriter(directory)
        files = writer.write(scene)
    except (SemanticStereoError, OSError) as error:
        response.message = str(error)
        return response
    response.success, response.directory = True, str(writer.directory.resolve())
    response.message = f"{len(files)} files written"
    return response


def snapshot_directory(root: str, asked: str) -> Path:
    """The folder below `root` that a request names; `root` itself for ''. Raises InputFileError for one that would lie elsewhere.

    Whoever reaches the service can name any folder; only whoever starts the node says where it may write.
    """
    path = Path(asked)
    if path.is_absolute() or ".." in path.parts:
        raise InputFileError(
            f"a snapshot is written below output.snapshot_directory ({Path(root).resolve()}) only, got {asked!r}: name a folder relative "
            "to it, or start the node with another output.snapshot_directory"
        )
    return inside(root, *path.parts) if path.parts else Path(root)
