"""The published weights that backends know by name: file, size, hash, licence, official address."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath

from semantic_stereo_ros.checks import ConfigError


@dataclass(frozen=True)
class Licence:
    """name; summary: one sentence on what it allows. commercial: whether use in a product is allowed."""

    name: str
    summary: str
    commercial: bool


APACHE = Licence("Apache-2.0", "free to use, also commercially, under the Apache License 2.0", True)
NVIDIA_RESEARCH = Licence(
    "NVIDIA Source Code License",
    "for research only: the licence forbids commercial use of these weights (NVIDIA offers a commercial model in its TAO toolkit)",
    False,
)

PUBLISHER, THIRD_PARTIES, NOWHERE = "publisher", "third parties", "nowhere"


@dataclass(frozen=True)
class Weights:
    """One file. path: inside the cache. size_bytes: of the whole file. url: where it can be downloaded directly, '' where it cannot.

    sha256: hexadecimal, '' where none is known; hash_from: who published it. page: where the publisher describes it.
    """

    name: str
    path: str
    size_bytes: int
    licence: Licence
    page: str
    url: str = ""
    sha256: str = ""
    hash_from: str = NOWHERE

    @property
    def file_name(self) -> str:
        return PurePosixPath(self.path).name


SAM2_FILES = "https://dl.fbaipublicfiles.com/segment_anything_2"
SAM2_PAGE = "https://github.com/facebookresearch/sam2"
FOUNDATION_STEREO_PAGE = "https://drive.google.com/drive/folders/1VhPebc_mMxWKccrv7pdQLTvXYVcLYpsf"


def _sam2(release: str, name: str, size_bytes: int, hash_from: str, sha256: str) -> Weights:
    file = f"{name}.pt"
    return Weights(name, f"sam2/{file}", size_bytes, APACHE, SAM2_PAGE, f"{SAM2_FILES}/{release}/{file}", sha256, hash_from)


def _foundation_stereo(release: str, size_bytes: int, sha256: str = "") -> Weights:
    name = f"foundation_stereo_{release}"
    path = f"foundation_stereo/{release}/model_best_bp2.pth"
    source = THIRD_PARTIES if sha256 else NOWHERE
    return Weights(name, path, size_bytes, NVIDIA_RESEARCH, FOUNDATION_STEREO_PAGE, "", sha256, source)


# Meta publishes hashes in its Hugging Face repositories (facebook/sam2...); those of third parties are of copies of the same files.
# Sizes and the hash of FoundationStereo's files are third parties' reports.
_ALL = (
    _sam2("092824", "sam2.1_hiera_tiny", 156008466, PUBLISHER, "7402e0d864fa82708a20fbd15bc84245c2f26dff0eb43a4b5b93452deb34be69"),
    _sam2("092824", "sam2.1_hiera_small", 184416285, PUBLISHER, "6d1aa6f30de5c92224f8172114de081d104bbd23dd9dc5c58996f0cad5dc4d38"),
    _sam2("092824", "sam2.1_hiera_base_plus", 323606802, THIRD_PARTIES, "a2345aede8715ab1d5d31b4a509fb160c5a4af1970f199d9054ccfb746c004c5"),
    _sam2("092824", "sam2.1_hiera_large", 898083611, THIRD_PARTIES, "2647878d5dfa5098f2f8649825738a9345572bae2d4350a2468587ece47dd318"),
    _sam2("072824", "sam2_hiera_tiny", 155906050, PUBLISHER, "65b50056e05bcb13694174f51bb6da89c894b57b75ccdf0ba6352c597c5d1125"),
    _sam2("072824", "sam2_hiera_small", 184309650, PUBLISHER, "95949964d4e548409021d47b22712d5f1abf2564cc0c3c765ba599a24ac7dce3"),
    _sam2("072824", "sam2_hiera_base_plus", 323493298, PUBLISHER, "d0bb7f236400a49669ffdd1be617959a8b1d1065081789d7bbff88eded3a8071"),
    _sam2("072824", "sam2_hiera_large", 897952466, THIRD_PARTIES, "7442e4e9b732a508f80e141e7c2913437a3610ee0c77381a66658c3a445df87b"),
    _foundation_stereo("23-51-11", 3298527334, "60e79bde9c6a00acea551625ff814fe06e5a6806e2c0c9829baee248de87c5f1"),
    _foundation_stereo("11-33-40", 787711942),
)
CATALOGUE = {weights.name: weights for weights in _ALL}


def find(name: str) -> Weights:
    """The entry of a name. Raises ConfigError with the known names."""
    if name not in CATALOGUE:
        raise ConfigError(f"unknown weights {name!r}; known: {', '.join(CATALOGUE)}")
    return CATALOGUE[name]
