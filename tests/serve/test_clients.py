"""Clients that are slow, hang up, send on, or send much: the service answers the others."""

from __future__ import annotations

import re
import select
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path

import httpx
import pytest
import yaml
from PIL import Image

from tests.e2e.demo_project import DemoProject
from tests.serve.running import running
from tests.serve.test_predict import saved

WAIT_S = 60
MIB = 2**20
IMAGE = {"content-type": "image/png"}
LIMITS = {
    "provider": "cpu",
    "max_waiting": 16,
    "max_upload_mib": 6,
    "max_held_mib": 8,
    "max_megapixels": 12,
    "max_held_megapixels": 24,
    "body_timeout_s": 3,
}


class Served:
    """A service in a process of its own, with small limits."""

    def __init__(self, client: httpx.Client, log: Path) -> None:
        self.client = client
        self._log = log

    @property
    def log(self) -> str:
        return self._log.read_text()

    def connect(self, length: int, first: bytes = b"") -> socket.socket:
        """A client that has sent the head of a request, and the first bytes of its body."""
        opened = socket.create_connection(("127.0.0.1", self.client.base_url.port or 0), WAIT_S)
        head = f"POST /predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {length}\r\n"
        opened.sendall(head.encode() + b"Content-Type: image/png\r\n\r\n" + first)
        return opened

    def ask(self, photo: bytes) -> int:
        return self.client.post("/predict", content=photo, headers=IMAGE).status_code

    def waiting(self) -> int:
        found = re.search(
            r"^pillsnap_waiting_requests (\d+)", self.client.get("/metrics").text, re.M
        )
        assert found is not None
        return int(found[1])

    def until(self, true: Callable[[], bool]) -> None:
        end = time.monotonic() + WAIT_S
        while not true():
            assert time.monotonic() < end
            time.sleep(0.02)

    def answered(self, status: int) -> int:
        """How many requests of /predict were answered so."""
        line = rf'^pillsnap_requests_total\{{route="/predict",status="{status}"\}} (\d+)'
        found = re.search(line, self.client.get("/metrics").text, re.M)
        return int(found[1]) if found else 0

    def peak(self) -> float:
        """MiB that the server's own process has held at most."""
        pid = re.findall(r"Started server process \[(\d+)\]", self.log)[-1]
        found = re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
        assert found is not None
        return int(found[1]) / 1024


@pytest.fixture(scope="module")
def service(passed: DemoProject, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    log = tmp_path_factory.mktemp("clients") / "log"
    config = passed.path / "clients.yaml"
    config.write_text(yaml.safe_dump({**passed.settings, "serve": LIMITS}))
    with running(config, log) as client:
        yield Served(client, log)


def status_of(opened: socket.socket) -> int:
    """The status that a client is answered with; 0 where the connection is reset, as TCP may do
    where a body is left unread."""
    try:
        return int(opened.recv(200).split()[1])
    except ConnectionResetError:
        return 0


def test_clients_that_send_slowly_keep_nobody_out_and_are_given_up(
    service: Served, photo: bytes
) -> None:
    with ExitStack() as stack:
        slow = [stack.enter_context(service.connect(1000, b"x")) for _ in range(25)]
        assert service.ask(photo) == 200
        for opened in slow:
            assert status_of(opened) == 408
            while opened.recv(1000):  # and the connection is closed
                pass
    assert service.ask(photo) == 200


def test_bodies_are_bounded_together_and_what_they_took_comes_back(
    service: Served, photo: bytes
) -> None:
    with ExitStack() as stack:
        both = [stack.enter_context(service.connect(5 * MIB, bytes(5 * MIB - 1))) for _ in "ab"]
        (refused,), _, _ = select.select(both, (), (), WAIT_S)
        assert status_of(refused) in (503, 0)
        service.until(lambda: service.answered(503) == 1)
        assert service.ask(photo) == 200
        (held,) = set(both) - {refused}
        assert status_of(held) == 408
    answer = service.client.post("/predict", content=bytes(5 * MIB), headers=IMAGE)
    assert answer.status_code == 422


def test_clients_that_hang_up_leave_no_work_and_are_no_errors(
    service: Served, photo: bytes
) -> None:
    large = saved(Image.new("RGB", (4000, 3000)))
    before = service.answered(499)
    for _ in range(10):  # in the midst of the body
        service.connect(1000, b"x").close()
    service.until(lambda: service.answered(499) >= before + 10)
    with ExitStack() as stack:
        for _ in range(16):
            stack.enter_context(service.connect(len(large), large))
        service.until(lambda: service.waiting() > 6)
    service.until(lambda: service.waiting() == 0)
    # The first ones may have been answered before they were gone.
    assert service.answered(499) >= before + 10 + 6
    assert service.answered(500) == 0
    assert "Traceback" not in service.log
    assert service.ask(photo) == 200


def test_a_body_that_goes_on_after_its_413_is_not_read(service: Served) -> None:
    sent, part = 0, bytes(MIB)
    with closing(service.connect(300 * MIB)) as opened:
        try:
            for _ in range(300):
                opened.sendall(part)
                sent += MIB
        except OSError:
            pass
    assert sent < 50 * MIB


def test_a_client_that_sends_too_much_still_gets_its_413(service: Served) -> None:
    answer = service.client.post("/predict", content=bytes(30 * MIB), headers=IMAGE)
    assert (answer.status_code, answer.headers["connection"]) == (413, "close")


def test_two_large_photos_are_answered_and_pixels_are_bounded_together(service: Served) -> None:
    photo = saved(Image.new("RGB", (4000, 3000)))
    before = service.peak()

    def ask(count: int) -> int:
        files = [("i", (str(number), photo)) for number in range(count)]
        return service.client.post("/predict", files=files).status_code

    assert ask(2) == 200
    assert ask(3) == 413
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(ask, [1] * 16)) == [200] * 16
    # 12 megapixels are 34 MiB, as the models' input 46 more: not 16 times that.
    assert service.peak() < before + 300
