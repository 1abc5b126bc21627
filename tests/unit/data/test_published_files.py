"""Published files are downloaded from a server on this host, and every failure is one line with a remedy."""

from __future__ import annotations

import dataclasses
import hashlib
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from halobench.core.errors import RefusedError
from halobench.data import data_root
from halobench.data.published_files import MIRROR, PublishedFile, obtain

CONTENT = b"[1, 2, 3]\n"
PUBLISHED = "owner/repository/abc123/folder/votes.json"
VOTES = PublishedFile(
    "predictions/votes.json",
    f"https://raw.githubusercontent.com/{PUBLISHED}",
    hashlib.sha256(CONTENT).hexdigest(),
    "CC BY-NC 4.0: not for commercial use",
)


class Quiet(SimpleHTTPRequestHandler):
    """Serves a folder; of a file that is named "short", it announces more than there is."""

    def log_message(self, *arguments):
        pass

    def send_header(self, name, value):
        super().send_header(name, str(int(value) + 5) if name == "Content-Length" and "short" in self.path else value)


@pytest.fixture
def root(tmp_path, monkeypatch) -> Path:
    """An empty data root."""
    monkeypatch.setenv(data_root.ROOT, str(tmp_path / "data"))
    monkeypatch.delenv(data_root.FETCH, raising=False)
    return tmp_path / "data"


@pytest.fixture
def served(tmp_path, root, monkeypatch) -> Iterator[Path]:
    """The folder of a mirror, which has the file."""
    (tmp_path / "served" / PUBLISHED).parent.mkdir(parents=True)
    (tmp_path / "served" / PUBLISHED).write_bytes(CONTENT)
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path / "served"))) as server:
        monkeypatch.setenv(MIRROR, f"http://127.0.0.1:{server.server_port}/")
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield tmp_path / "served"
        server.shutdown()
        thread.join()


def refused(file: PublishedFile = VOTES) -> str:
    with pytest.raises(RefusedError) as caught:
        obtain(file)
    return str(caught.value)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


@pytest.mark.process
def test_a_missing_file_is_downloaded_once_and_its_licence_is_shown(root, served, capsys):
    assert obtain(VOTES) == [root / VOTES.path]
    line = capsys.readouterr().out
    assert line.startswith("fetching predictions/votes.json from http://127.0.0.1:")
    assert line.endswith(f"/{PUBLISHED} ({VOTES.licence})\n")
    (served / PUBLISHED).unlink()
    assert [path.read_bytes() for path in obtain(VOTES)] == [CONTENT]
    assert capsys.readouterr().out == ""
    assert names(root) == ["votes.json"]


@pytest.mark.process
def test_of_several_processes_one_downloads(root, served, capsys):
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda _: obtain(VOTES), range(4))) == [[root / VOTES.path]] * 4
    assert capsys.readouterr().out.count("fetching") == 1


@pytest.mark.process
def test_a_download_that_fails_leaves_nothing_and_says_what_to_do(root, served):
    remedy = f"{PUBLISHED} ({VOTES.licence}) and save it there, or try again later"
    (served / PUBLISHED).write_bytes(b"an apology")
    assert "(OSError: received SHA-256" in (message := refused())
    assert message.endswith(remedy)
    (served / PUBLISHED).unlink()
    assert "fetching it failed (HTTPError: HTTP Error 404: File not found); download http://127" in (
        message := refused()
    )
    assert message.endswith(remedy)
    (served / "short").write_bytes(CONTENT)
    short = dataclasses.replace(VOTES, url="https://github.com/short", sha256="")
    assert "(IncompleteRead: IncompleteRead(10 bytes read, 5 more expected)" in refused(short)
    assert names(root) == []


@pytest.mark.process
def test_without_a_network_there_is_one_line(root, monkeypatch):
    monkeypatch.setenv(MIRROR, "http://127.0.0.1:1")
    assert "is missing, and fetching it failed (URLError" in refused()
    monkeypatch.setenv(MIRROR, "no address")
    assert "is missing, and fetching it failed (ValueError: unknown url type" in refused()


def test_without_fetch_nothing_is_downloaded(root, monkeypatch):
    monkeypatch.setenv(data_root.FETCH, "0")
    message = f"is missing, and fetch is false; set fetch: true (HALOBENCH_FETCH=1), or download {VOTES.url} ("
    assert f"{root / VOTES.path}: {message}" in refused()


def test_a_file_with_other_content_is_refused_unless_its_reader_checks_it(root):
    (root / VOTES.path).parent.mkdir(parents=True)
    (root / VOTES.path).write_bytes(b"other")
    assert "isn't the published file (SHA-256 d9298a10d1b07358, published" in (message := refused())
    assert message.endswith("; delete it to fetch it again")
    assert obtain(dataclasses.replace(VOTES, sha256="")) == [root / VOTES.path]


def test_what_is_no_file_is_refused(root):
    (root / VOTES.path).mkdir(parents=True)
    assert refused().endswith("is a folder, where a published file should be; move it elsewhere")
    (root / VOTES.path).rmdir()
    (root / VOTES.path).symlink_to(root / "nowhere")
    assert "is a broken link" in refused()
    (root / VOTES.path).unlink()
    (root / "predictions").rmdir()
    (root / "predictions").write_text("")
    assert "fetching it failed (FileExistsError" in refused()
