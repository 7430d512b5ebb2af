"""Fetching published weights from a server on loopback: whole or not at all."""

import hashlib
import http.server
import threading
from dataclasses import replace

import pytest

from pretrained import catalogue

CONTENTS = bytes(range(256)) * 300


class Server(http.server.BaseHTTPRequestHandler):
    asked = 0

    def do_GET(self):
        type(self).asked += 1
        if self.path == "/absent.pt":
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(CONTENTS)))
        self.end_headers()
        self.wfile.write(CONTENTS[: 1000 if self.path == "/cut.pt" else None])

    def log_message(self, *_):
        pass


@pytest.fixture
def address():
    Server.asked = 0
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def entry(address, file="whole.pt"):
    return replace(catalogue.find("dnw_x225"), address=f"{address}/{file}")


SUM = hashlib.sha256(CONTENTS).hexdigest()


def test_a_network_is_fetched_once_and_its_checksum_kept_and_told(address, tmp_path, capsys):
    for told in (f"is trusted at its first use: no sum of it was published. SHA-256: {SUM}\n", ""):
        path = catalogue.fetch(entry(address), tmp_path / "cache")
        assert path.read_bytes() == CONTENTS
        said = capsys.readouterr().err
        assert said.endswith(told)
        assert bool(said) == bool(told)
    assert Server.asked == 1
    assert sorted(p.name for p in path.parent.iterdir()) == ["dnw_x225.pt", "dnw_x225.pt.sha256"]


def test_a_file_that_changed_in_the_cache_is_refused(address, tmp_path):
    path = catalogue.fetch(entry(address), tmp_path)
    path.write_bytes(CONTENTS[:-1])
    with pytest.raises(ValueError, match="is not what was fetched"):
        catalogue.fetch(entry(address), tmp_path)


def test_a_published_sum_is_held_to(address, tmp_path, capsys):
    known = replace(entry(address), sha256=SUM)
    assert catalogue.fetch(known, tmp_path).read_bytes() == CONTENTS
    assert capsys.readouterr().err == ""
    with pytest.raises(ValueError, match=f"is not the published file: its SHA-256 sum is {SUM}, not {'0' * 64}"):
        catalogue.fetch(replace(known, sha256="0" * 64), tmp_path)


@pytest.mark.parametrize("file", ["cut.pt", "absent.pt"])
def test_an_answer_that_is_not_whole_leaves_nothing(address, tmp_path, file):
    with pytest.raises(ConnectionError, match=rf"{address}/{file} cannot be fetched .* put it at .*dnw_x225.pt"):
        catalogue.fetch(entry(address, file), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_without_network_it_says_where_to_put_the_file(tmp_path):
    with pytest.raises(ConnectionError, match="Fetch it by other means and put it at"):
        catalogue.fetch(entry("http://127.0.0.1:9"), tmp_path)


def test_a_file_put_there_by_hand_is_used(tmp_path):
    (tmp_path / "dnw_x225.pt").write_bytes(b"by hand")
    assert catalogue.fetch(entry("http://127.0.0.1:9"), tmp_path).read_bytes() == b"by hand"


def test_the_seven_published_networks_and_a_miss():
    assert len(catalogue.PUBLISHED) == 7
    assert all(entry.address.endswith(f"/{name}.pt") for name, entry in catalogue.PUBLISHED.items())
    with pytest.raises(ValueError, match="did you mean dnw_x225"):
        catalogue.find("dnw_x25")


def test_the_cache_folder_follows_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("NEURAL_WIRINGS_CACHE", str(tmp_path))
    assert catalogue.cache_folder() == tmp_path
    monkeypatch.delenv("NEURAL_WIRINGS_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert str(catalogue.cache_folder()) == "/somewhere/neural-wirings"
