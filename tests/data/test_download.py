"""Downloads against a server on loopback that misbehaves in every way a real one does."""

import hashlib
import io
import json
import random
import shutil
import stat
import threading
import zipfile
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from manet_lib.data.sources.base import Archive
from manet_lib.data.sources.download import fetch, unpack
from manet_lib.params import UserError

CONTENT = bytes(range(256)) * 5000


class Server(BaseHTTPRequestHandler):
    """Serves CONTENT; the path says how."""

    broken: dict[str, int] = {}  # noqa: RUF012
    ranges: list[str] = []  # noqa: RUF012
    asked: list[str] = []  # noqa: RUF012
    release = threading.Event()

    def do_GET(self):
        name = self.path.strip("/")
        self.asked.append(name)
        if name == "missing.zip":
            return self.send_error(404)
        if name == "moved.zip":
            self.send_response(302)
            self.send_header("Location", "/whole.zip")
            return self.end_headers()
        start = 0
        wanted = self.headers.get("Range")
        if wanted and name != "norange.zip":
            self.ranges.append(wanted)
            start = int(wanted.removeprefix("bytes=").rstrip("-"))
            if start >= len(CONTENT):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(CONTENT)}")
                return self.end_headers()
        self.send_response(206 if start else 200)
        if name == "chunked.zip" and self.broken.setdefault(name, 0) < 1:  # the second chunk is cut off
            self.broken[name] += 1
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            return self.wfile.write(b"7D0\r\n" + CONTENT[:2000] + b"\r\n7D0\r\n" + CONTENT[2000:2500])
        self.send_header("Content-Length", str(len(CONTENT) - start))
        self.end_headers()
        body = CONTENT[start:]
        if name in ("broken.zip", "norange.zip") and self.broken.setdefault(name, 0) < 1:
            self.broken[name] += 1
            body = body[:300_000]
        if name == "changed.zip":
            body = body[:-1] + b"!"
        self.wfile.write(body[:100_000] if name == "stall.zip" else body)
        if name == "stall.zip":
            self.wfile.flush()
            self.release.wait(20)
        return None

    def log_message(self, *arguments):
        pass


@pytest.fixture(scope="module")
def server():
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    httpd.daemon_threads = True
    threading.Thread(target=httpd.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{httpd.server_port}"
    Server.release.set()
    httpd.shutdown()


@pytest.fixture(autouse=True)
def fresh():
    Server.broken.clear()
    Server.ranges.clear()
    Server.asked.clear()


def get(name, folder, server, size=0, timeout=5.0):
    return fetch(Archive(name, f"{server}/{name}", size), folder, timeout=timeout)


def left_behind(folder):
    files = folder.iterdir() if folder.is_dir() else []
    return sorted(path.name for path in files if not path.name.endswith(".claim"))


def partial(folder, server, name):
    """Where a download of this address keeps what it has so far."""
    return folder / f"{name}.{hashlib.sha256(f'{server}/{name}'.encode()).hexdigest()[:8]}.part"


@pytest.mark.parametrize("name", ["whole.zip", "moved.zip"])
def test_a_download_is_whole_and_recorded(tmp_path, server, name):
    file = get(name, tmp_path, server, len(CONTENT))
    assert file.read_bytes() == CONTENT
    entry = json.loads((tmp_path / "lock.json").read_text())[name]
    assert entry["sha256"] == hashlib.sha256(CONTENT).hexdigest()
    assert entry["bytes"] == len(CONTENT)
    assert left_behind(tmp_path) == ["lock.json", name]


def test_a_mirror_takes_the_place_of_the_publisher(tmp_path, server):
    archive = Archive("whole.zip", "http://127.0.0.1:9/nowhere")
    assert fetch(archive, tmp_path, mirror=f"{server}/").read_bytes() == CONTENT


def test_a_broken_connection_goes_on_where_it_broke(tmp_path, server):
    assert get("broken.zip", tmp_path, server).read_bytes() == CONTENT
    assert Server.ranges == ["bytes=300000-"]


def test_an_interrupted_download_goes_on_in_a_later_call(tmp_path, server):
    partial(tmp_path, server, "whole.zip").write_bytes(CONTENT[:123_456])
    assert get("whole.zip", tmp_path, server).read_bytes() == CONTENT
    assert Server.ranges == ["bytes=123456-"]


def test_a_whole_partial_file_needs_no_more_bytes(tmp_path, server):
    partial(tmp_path, server, "whole.zip").write_bytes(CONTENT)
    assert get("whole.zip", tmp_path, server).read_bytes() == CONTENT


def test_a_server_without_ranges_starts_again(tmp_path, server):
    assert get("norange.zip", tmp_path, server).read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("name", "size", "message"),
    [
        ("missing.zip", 0, "the server answers 404"),
        ("whole.zip", 17, "1,280,000 bytes, expected 17; not kept"),
        ("stall.zip", 0, "timed out; call again"),
    ],
)
def test_a_fault_is_one_line_and_nothing_passes_for_whole(tmp_path, server, name, size, message):
    with pytest.raises(UserError) as error:
        get(name, tmp_path, server, size, timeout=0.3)
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    assert name in str(error.value)
    assert name not in left_behind(tmp_path)


def test_another_hash_than_the_lock_file_is_refused(tmp_path, server):
    (tmp_path / "lock.json").write_text(
        json.dumps({"changed.zip": {"sha256": hashlib.sha256(CONTENT).hexdigest(), "date": "2026-01-01"}})
    )
    with pytest.raises(UserError, match=r"lock\.json of 2026-01-01 says"):
        get("changed.zip", tmp_path, server)
    assert left_behind(tmp_path) == ["lock.json"]


def test_a_chunked_answer_that_breaks_off_is_asked_for_again(tmp_path, server):
    assert get("chunked.zip", tmp_path, server).read_bytes() == CONTENT


def test_what_one_address_has_sent_is_not_continued_from_another(tmp_path, server):
    other = partial(tmp_path, server, "changed.zip")
    other.write_bytes(b"?" * 100_000)
    archive = Archive("changed.zip", f"{server}/whole.zip")
    assert fetch(archive, tmp_path).read_bytes() == CONTENT
    assert not other.exists(), "it is of no use any more"


def test_a_lock_file_that_cannot_be_read_is_named_before_the_download(tmp_path, server):
    (tmp_path / "lock.json").write_text('{"whole.zip": {},}')
    with pytest.raises(UserError, match=r"lock\.json: is not a JSON object: .*correct or remove it"):
        get("whole.zip", tmp_path, server)
    assert left_behind(tmp_path) == ["lock.json"]


def test_of_two_calls_one_downloads(tmp_path, server):
    with ThreadPoolExecutor(2) as pool:
        files = list(pool.map(lambda _: get("whole.zip", tmp_path, server), range(2)))
    assert [file.read_bytes() for file in files] == [CONTENT] * 2
    assert Server.asked == ["whole.zip"]


def test_nobody_listening_is_one_line(tmp_path):
    with pytest.raises(UserError, match=r"a\.zip: http://127\.0\.0\.1:9/a\.zip: .*call again"):
        fetch(Archive("a.zip", "http://127.0.0.1:9/a.zip"), tmp_path)


def archive_with(path, *names, link=False):
    with zipfile.ZipFile(path, "w") as opened:
        for name in names:
            member = zipfile.ZipInfo(name)
            if link:
                member.external_attr = (stat.S_IFLNK | 0o777) << 16
            opened.writestr(member, "content")
    return path


def test_unpacking_keeps_names_and_contents(tmp_path):
    folder = unpack(archive_with(tmp_path / "a.zip", "x/y.png", "z.txt"), tmp_path / "out")
    assert (folder / "x/y.png").read_text() == "content"
    assert unpack(tmp_path / "gone.zip", folder) == folder, "what is unpacked needs no archive"


@pytest.mark.parametrize("name", ["../evil", "a/../../evil", "/evil", "C:/evil", "..\\evil"])
def test_an_archive_that_leaves_its_folder_is_refused(tmp_path, name):
    with pytest.raises(UserError, match=r"a\.zip: holds .*evil'"):
        unpack(archive_with(tmp_path / "a.zip", "good.txt", name), tmp_path / "out")
    assert left_behind(tmp_path) == ["a.zip"]


def test_an_archive_with_a_link_is_refused(tmp_path):
    with pytest.raises(UserError, match="holds the link 'pointer'"):
        unpack(archive_with(tmp_path / "a.zip", "pointer", link=True), tmp_path / "out")
    assert left_behind(tmp_path) == ["a.zip"]


def test_an_archive_without_members_is_an_empty_folder(tmp_path):
    assert list(unpack(archive_with(tmp_path / "a.zip"), tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("kept", [0, 10, 60, 200])
def test_a_truncated_archive_is_refused_whole(tmp_path, kept):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as opened:
        opened.writestr("image.png", CONTENT[:100_000])
    (tmp_path / "a.zip").write_bytes(buffer.getvalue()[:kept])
    with pytest.raises(UserError, match=r"a\.zip: damaged or truncated"):
        unpack(tmp_path / "a.zip", tmp_path / "out")
    assert left_behind(tmp_path) == ["a.zip"]


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_any_damaged_byte_is_one_line_or_does_not_matter(tmp_path, method):
    buffer = io.BytesIO()
    content = random.Random(0).randbytes(300) + bytes(200)
    with zipfile.ZipFile(buffer, "w", method) as opened:
        opened.writestr("image.png", content)
    refused = 0
    for place in range(0, len(buffer.getvalue()), 7):
        data = bytearray(buffer.getvalue())
        data[place] ^= 0x55
        (tmp_path / "a.zip").write_bytes(data)
        try:
            unpack(tmp_path / "a.zip", tmp_path / "out")
        except UserError as error:
            assert "a.zip: damaged or truncated" in str(error)
            refused += 1
        else:
            shutil.rmtree(tmp_path / "out")
        assert left_behind(tmp_path) == ["a.zip"]
    assert refused > 40


def test_a_damaged_member_leaves_nothing_half_unpacked(tmp_path):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as opened:
        opened.writestr("first.txt", "fine")
        opened.writestr("second.png", CONTENT[:10_000])
    data = bytearray(buffer.getvalue())
    data[5000] ^= 0xFF
    (tmp_path / "a.zip").write_bytes(data)
    with pytest.raises(UserError, match=r"a\.zip: damaged or truncated"):
        unpack(tmp_path / "a.zip", tmp_path / "out")
    assert left_behind(tmp_path) == ["a.zip"]
