"""What Prometheus tells: a real one that scrapes two machines and a cluster of the test, and ones that answer badly."""

import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest

from resources import prometheus
from resources.prometheus import Prometheus, PrometheusError, infra_of_cluster

CONFIG = """
global: {{scrape_interval: 200ms, scrape_timeout: 200ms}}
scrape_configs:
  - job_name: machines
    static_configs: [{{targets: [{targets}]}}]
"""
BEGAN = time.time()


@contextmanager
def serving(answer: Callable[[str], tuple[int, str]]) -> Iterator[str]:
    """A server of the test; its host and port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, text = answer(self.path)
            self.send_response(status)
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running(folder: Path, *targets: str) -> Iterator[str]:
    """A Prometheus that scrapes these; its address."""
    program = shutil.which("prometheus")
    if program is None:
        pytest.skip("needs the program prometheus (Debian's package of that name)")
    folder.mkdir()
    config = folder / "prometheus.yml"
    config.write_text(CONFIG.format(targets=", ".join(f"'{target}'" for target in targets)))
    url = f"http://127.0.0.1:{free_port()}"
    command = [
        program,
        f"--config.file={config}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address={url.removeprefix('http://')}",
        "--log.level=error",
    ]
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait(lambda: httpx.get(f"{url}/-/ready", trust_env=False).is_success)
        yield url
    finally:
        process.terminate()
        process.wait(20)


def wait(until: Callable[[], bool], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if until():
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    pytest.fail(f"not within {seconds} seconds")


class Machine:
    """A machine whose processors idle at a rate, with counters that the test sets."""

    def __init__(self, idle: float) -> None:
        self.idle, self.kills = idle, 5

    def __call__(self, _path: str) -> tuple[int, str]:
        idle = (time.time() - BEGAN) * self.idle
        return 200, "\n".join(
            (
                f'node_cpu_seconds_total{{cpu="0",mode="idle"}} {idle}',
                f'node_cpu_seconds_total{{cpu="0",mode="user"}} {time.time() - BEGAN - idle}',
                f"node_vmstat_oom_kill {self.kills}",
                'node_filesystem_size_bytes{mountpoint="/",fstype="ext4"} 100',
                'node_filesystem_avail_bytes{mountpoint="/",fstype="ext4"} 40',
                'node_filesystem_size_bytes{mountpoint="/run",fstype="tmpfs"} 100',
                'node_filesystem_avail_bytes{mountpoint="/run",fstype="tmpfs"} 1',
                "",
            )
        )


CLUSTER = """\
kubelet_volume_stats_used_bytes{persistentvolumeclaim="artifacts"} 88
kubelet_volume_stats_capacity_bytes{persistentvolumeclaim="artifacts"} 100
kube_deployment_status_replicas_unavailable{deployment="webserver"} 1
kube_deployment_status_replicas_unavailable{deployment="daemon"} 0
kube_statefulset_replicas{statefulset="postgres"} 2
kube_statefulset_status_replicas_ready{statefulset="postgres"} 2
"""


def test_what_a_prometheus_has_scraped(tmp_path):
    busy, calm = Machine(idle=0.25), Machine(idle=0.9)
    gone = f"127.0.0.1:{free_port()}"
    with ExitStack() as stack:
        served = [stack.enter_context(serving(each)) for each in (busy, calm, lambda _: (200, CLUSTER))]
        url = stack.enter_context(running(tmp_path / "prometheus", *served, gone))
        asked = Prometheus(url)
        stack.callback(asked.close)
        wait(lambda: len(asked.ask("count_over_time(node_vmstat_oom_kill[1m]) > 8")) == 2)
        busy.kills += 3
        wait(lambda: sum(each.value for each in asked.ask("node_vmstat_oom_kill")) == 13)
        wait(lambda: len(asked.ask("count_over_time(up[1m]) > 20")) == 4)
        infra = infra_of_cluster(url)
    assert (infra.source, infra.oom_kills, infra.trouble) == ("prometheus", 3, ())
    assert infra.cpu_used == pytest.approx(0.75, abs=0.05)
    assert (infra.volume_used, infra.fullest) == (0.88, "artifacts")
    assert infra.down == ("deployment webserver", f"machines {gone}")


def test_what_was_not_scraped_is_unknown(tmp_path):
    with serving(lambda _: (200, "something 1\n")) as target, running(tmp_path / "prometheus", target) as url:
        asked = Prometheus(url)
        wait(lambda: bool(asked.ask("something")))
        asked.close()
        infra = infra_of_cluster(url)
    assert (infra.oom_kills, infra.cpu_used, infra.volume_used) == (None, None, None)
    assert infra.down == ()
    assert [said.split(":")[0].split(" and ")[0] for said in infra.trouble] == [
        "Prometheus has no node_vmstat_oom_kill",
        "Prometheus has no node_cpu_seconds_total",
        "Prometheus has no kubelet_volume_stats_used_bytes",
    ]


def test_a_prometheus_that_scrapes_nothing_does_not_say_that_all_is_well(tmp_path):
    with running(tmp_path / "prometheus") as url:
        infra = infra_of_cluster(url)
    assert infra.down is None and len(infra.trouble) == 4


# What answers badly


def assert_unknown(url: str, *says: str) -> None:
    infra = infra_of_cluster(url)
    assert infra.source == "prometheus"
    assert (infra.oom_kills, infra.cpu_used, infra.volume_used, infra.down) == (None, None, None, None)
    [said] = infra.trouble
    assert all(each in said for each in (*says, "CVN_PROMETHEUS_URL"))


def test_nobody_there():
    assert_unknown(f"http://127.0.0.1:{free_port()}", "does not answer")


@pytest.mark.parametrize(
    ("status", "text", "says"),
    [
        (200, "<html>a login page</html>", "HTTP 200, and not an answer of Prometheus"),
        (502, "bad gateway", "HTTP 502"),
        (302, "", "HTTP 302"),
        (200, "[]", "not an answer"),
        (200, '{"status": "success"}', "not an answer"),
        (200, '{"status": "success", "data": {"resultType": "matrix", "result": []}}', "not an answer"),
        (200, '{"status": "success", "data": {"resultType": "vector", "result": [{"metric": {}}]}}', "not an answer"),
        (422, '{"status": "error", "errorType": "execution", "error": "query timed out"}', "query timed out"),
    ],
)
def test_something_else_there(status, text, says):
    with serving(lambda _: (status, text)) as where:
        assert_unknown(f"http://{where}", says)


def test_one_that_is_too_slow_is_asked_once(monkeypatch):
    monkeypatch.setattr(prometheus, "_TIMEOUT_SECONDS", 0.2)
    asked = []

    def slow(path: str) -> tuple[int, str]:
        asked.append(path)
        time.sleep(0.6)
        return 200, "{}"

    with serving(slow) as where:
        assert_unknown(f"http://{where}", "does not answer", "ReadTimeout")
    assert len(asked) == 1


@pytest.mark.parametrize("url", ["", "prometheus:9090", "file:///etc", "http://", "http://host:port"])
def test_what_is_no_address(url):
    assert_unknown(url, "is not an address")


def test_a_value_that_is_no_number_is_left_out():
    text = (
        '{"status": "success", "data": {"resultType": "vector", "result": [{"metric": {"a": "b"}, "value": [1, "NaN"]},'
        ' {"metric": {"a": "c"}, "value": [1, "+Inf"]}, {"metric": {"a": "d"}, "value": [1, "2.5"]}]}}'
    )
    with serving(lambda _: (200, text)) as where:
        asked = Prometheus(f"http://{where}")
        [sample] = asked.ask("up")
        asked.close()
    assert (sample.labels, sample.value) == ({"a": "d"}, 2.5)


def test_a_password_in_the_address_is_never_told(monkeypatch):
    url = "http://somebody:canary-31-of-prometheus@127.0.0.1:1"
    infra = infra_of_cluster(url)
    assert "canary" not in str(infra)
    with pytest.raises(PrometheusError) as error:
        Prometheus(url).ask("up")
    assert "canary" not in str(error.value)


@pytest.mark.parametrize(
    ("variable", "file"), [(None, "trading\n"), ("trading", None), ("trading", "other\n"), ("", "trading\n")]
)
def test_in_a_pod_only_its_own_namespace_counts(monkeypatch, tmp_path, variable, file):
    if file is not None:
        (tmp_path / "namespace").write_text(file)
    monkeypatch.setattr(prometheus, "_NAMESPACE", tmp_path / "namespace")
    monkeypatch.delenv("CVN_NAMESPACE", raising=False)
    if variable is not None:
        monkeypatch.setenv("CVN_NAMESPACE", variable)
    asked = []

    def answer(path: str) -> tuple[int, str]:
        asked.append(httpx.URL(path).params["query"])
        return (
            200,
            '{"status": "success", "data": {"resultType": "vector", "result": [{"metric": {}, "value": [1, "0"]}]}}',
        )

    with serving(answer) as where:
        infra_of_cluster(f"http://{where}")
    assert sum('namespace="trading"' in query for query in asked) == 3
