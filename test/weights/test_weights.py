"""Weights by name: the catalogue, the cache folder, checks, and downloads from a server of this machine."""

import dataclasses
import hashlib
import http.server
import re
import threading
from pathlib import PurePosixPath

import pytest
from typer.testing import CliRunner

from semantic_stereo_ros.checks import ConfigError, InputFileError
from semantic_stereo_ros.cli import doctor
from semantic_stereo_ros.cli.weights import app
from semantic_stereo_ros.weights import cache, catalogue, download
from semantic_stereo_ros.weights.catalogue import CATALOGUE, find

CONTENT = bytes(range(256)) * 4096  # 1 MiB
HASH = hashlib.sha256(CONTENT).hexdigest()


class Server(http.server.ThreadingHTTPServer):
    """Serves CONTENT at any path. cuts: after how many bytes each coming answer breaks off; asked: the ranges that were asked for."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.content, self.ranges, self.redirect = CONTENT, True, ""
        self.cuts: list[int] = []
        self.asked: list[str] = []

    def handle_error(self, request, client_address):
        """A client that hangs up is what some tests are about."""

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/file.pt"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self):
        server = self.server
        server.asked.append(self.headers.get("Range", ""))
        if server.redirect:
            self.send_response(302)
            self.send_header("Location", server.redirect)
            self.end_headers()
            return
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        start = int(asked[1]) if asked and server.ranges else 0
        body = server.content[start:]
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(server.content) - 1}/{len(server.content)}")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: server.cuts.pop(0)] if server.cuts else body)

    def log_message(self, format, *args):
        """Quiet."""


@pytest.fixture
def server():
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def weights(server, monkeypatch):
    """A catalogue entry 'file' on the server, and plain HTTP allowed: the server has no certificate."""
    monkeypatch.setattr(download, "SCHEMES", ("http",))
    entry = catalogue.Weights("file", "some/file.pt", len(CONTENT), catalogue.APACHE, "page", server.url, HASH, catalogue.PUBLISHER)
    monkeypatch.setitem(CATALOGUE, "file", entry)
    return entry


def replaced(monkeypatch, weights, **changes):
    changed = dataclasses.replace(weights, **changes)
    monkeypatch.setitem(CATALOGUE, "file", changed)
    return changed


def test_the_catalogue_is_sound():
    assert {"sam2.1_hiera_tiny", "sam2_hiera_large", "foundation_stereo_23-51-11", "foundation_stereo_11-33-40"} <= set(CATALOGUE)
    for name, weights in CATALOGUE.items():
        assert name == weights.name and weights.size_bytes > 1e8 and weights.licence.summary
        path = PurePosixPath(weights.path)
        assert not path.is_absolute() and ".." not in path.parts
        assert not weights.url or weights.url.startswith("https://")
        assert re.fullmatch(r"[0-9a-f]{64}|", weights.sha256)
        assert (weights.hash_from == catalogue.NOWHERE) == (not weights.sha256)
        assert not weights.url or weights.sha256, "what is downloaded is checked by its hash"
    assert len({weights.path for weights in CATALOGUE.values()}) == len(CATALOGUE)
    assert not find("foundation_stereo_11-33-40").licence.commercial
    with pytest.raises(ConfigError, match=r"unknown weights 'sam3'; known: sam2\.1_hiera_tiny"):
        find("sam3")


def test_the_cache_folder_follows_the_environment(monkeypatch, tmp_path):
    assert cache.cache_folder() == tmp_path / "cache"
    monkeypatch.delenv(cache.VARIABLE)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache.cache_folder() == tmp_path / "xdg" / "semantic_stereo_ros" / "weights"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")  # the specification says: ignore
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr("sys.platform", "linux")
    assert cache.cache_folder() == tmp_path / "home" / ".cache" / "semantic_stereo_ros" / "weights"


def test_a_download_is_checked_named_and_not_repeated(weights, server, folder):
    seen = []
    path = download.download(weights, seen.append)
    assert path == folder / "some" / "file.pt" and path.read_bytes() == CONTENT
    assert seen == sorted(seen) and seen[-1] == len(CONTENT)
    assert not path.with_name("file.pt.part").exists()
    assert download.download(weights) == path and server.asked == [""]
    assert cache.locate("file") == path


def test_a_cut_connection_is_resumed_where_it_stopped(weights, server):
    server.cuts = [300_000, 200_000]
    assert download.download(weights).read_bytes() == CONTENT
    assert server.asked == ["", "bytes=300000-", "bytes=500000-"]


def test_a_part_of_an_earlier_run_is_continued(weights, server, folder):
    (folder / "some").mkdir(parents=True)
    (folder / "some" / "file.pt.part").write_bytes(CONTENT[:1000])
    assert download.download(weights).read_bytes() == CONTENT
    assert server.asked == ["bytes=1000-"]


def test_a_server_without_ranges_sends_all_anew(weights, server, folder):
    (folder / "some").mkdir(parents=True)
    (folder / "some" / "file.pt.part").write_bytes(b"x" * 1000)
    server.ranges = False
    assert download.download(weights).read_bytes() == CONTENT


def test_a_part_that_is_too_long_begins_anew(weights, server, folder):
    (folder / "some").mkdir(parents=True)
    (folder / "some" / "file.pt.part").write_bytes(CONTENT + b"more")
    assert download.download(weights).read_bytes() == CONTENT


def test_a_connection_that_brings_nothing_ends_with_a_sentence_and_keeps_the_part(weights, server, folder):
    server.cuts = [1000, 0]
    with pytest.raises(InputFileError, match=r"1000 of 1048576 bytes are here.*try again.*put it at .*file\.pt"):
        download.download(weights)
    assert (folder / "some" / "file.pt.part").stat().st_size == 1000
    assert not (folder / "some" / "file.pt").exists()


def test_a_wrong_hash_is_refused_and_removed(weights, server, folder):
    server.content = b"y" * len(CONTENT)
    with pytest.raises(InputFileError, match=f"expected {HASH}"):
        download.download(weights)
    assert list((folder / "some").iterdir()) == []


def test_another_size_is_refused_before_anything_is_read(weights, server, folder):
    server.content = CONTENT[:-1]
    with pytest.raises(InputFileError, match="offers 1048575 bytes, expected 1048576"):
        download.download(weights)
    assert list((folder / "some").iterdir()) == []


def test_an_absent_network_says_where_to_put_the_file(weights, server, monkeypatch, folder):
    gone = replaced(monkeypatch, weights, url=f"http://127.0.0.1:{server.server_port}/x")
    server.shutdown()
    server.server_close()
    with pytest.raises(InputFileError, match=r"without a network, download http.* put it at .*some/file\.pt"):
        download.download(gone)


def test_only_https_also_after_a_redirect(weights, server, monkeypatch):
    server.redirect = "ftp://127.0.0.1/file.pt"
    with pytest.raises(InputFileError, match="only downloaded by https, got ftp"):
        download.download(weights)
    monkeypatch.setattr(download, "SCHEMES", ("https",))
    with pytest.raises(InputFileError, match="only downloaded by https, got http:"):
        download.download(weights)


def test_a_full_disk_is_noticed_before(weights, monkeypatch):
    monkeypatch.setattr(download.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 10})())
    with pytest.raises(InputFileError, match="needs 1 MB more"):
        download.download(weights)


def test_weights_without_an_address_say_which_file_to_put_where(folder):
    with pytest.raises(InputFileError, match=r"folder 23-51-11, file model_best_bp2\.pth.*put it at .*foundation_stereo.23-51-11"):
        download.download(find("foundation_stereo_23-51-11"))
    with pytest.raises(InputFileError, match=r"weights download sam2\.1_hiera_tiny, or download https"):
        cache.locate("sam2.1_hiera_tiny")


def test_a_file_that_changed_is_read_again_and_refused(weights, folder):
    path = download.download(weights)
    path.write_bytes(b"z" * len(CONTENT))
    with pytest.raises(InputFileError, match="is refused"):
        cache.locate("file")
    path.write_bytes(CONTENT[:-1])
    with pytest.raises(InputFileError, match="has 1048575 bytes, but file has 1048576"):
        cache.locate("file")


def test_a_file_without_a_published_hash_is_checked_by_its_size(weights, monkeypatch):
    plain = replaced(monkeypatch, weights, sha256="", hash_from=catalogue.NOWHERE)
    path = download.download(plain)
    assert "no hash of it is published" in cache.verify(plain, path)


def test_no_link_leads_out_of_the_cache(weights, folder, tmp_path):
    folder.mkdir()
    (tmp_path / "elsewhere").mkdir()
    (folder / "some").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    with pytest.raises(InputFileError, match="leads out of the cache"):
        download.download(weights)
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_the_verbs(weights, server, folder, monkeypatch):
    monkeypatch.setenv("COLUMNS", "250")
    runner = CliRunner()
    listed = runner.invoke(app, ["list"], env={"COLUMNS": "80"})
    assert listed.exit_code == 0
    for name in CATALOGUE:
        assert name in listed.output
    assert "research only" in listed.output and "none published" in listed.output
    for weights in CATALOGUE.values():
        assert (weights.url or weights.page) in listed.output, "an address that is broken over lines cannot be copied"
    done = runner.invoke(app, ["download", "file"])
    assert done.exit_code == 0 and str(folder / "some" / "file.pt") in done.output and "Apache-2.0" in done.output
    assert runner.invoke(app, ["path", "file"]).output.strip() == str(folder / "some" / "file.pt")
    assert f"SHA-256 {HASH}" in runner.invoke(app, ["verify"]).output
    (folder / "some" / "file.pt").write_bytes(b"z" * len(CONTENT))
    wrong = runner.invoke(app, ["verify", "file"])
    assert wrong.exit_code == 1 and "is refused" in " ".join(wrong.output.split())
    refused = runner.invoke(app, ["download", "foundation_stereo_23-51-11"])
    assert isinstance(refused.exception, InputFileError) and "research only" in refused.output


def test_doctor_lists_what_is_here_and_what_is_damaged(weights, folder):
    assert doctor._weights()[-1][1:3] == (None, f"none (only neural backends need some) in {folder}")
    path = download.download(weights)
    assert doctor._weights() == [("weights", True, f"file in {folder}", "")]
    path.write_bytes(b"cut")
    assert doctor._weights()[0] == ("weights file", False, f"{path} has 3 bytes, expected {len(CONTENT)}", "remove it")
