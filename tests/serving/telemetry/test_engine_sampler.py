"""The sampler against servers that answer, refuse, hang and never end: it records, and never fails."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from serving import probe
from serving.engines import SgLang, TrtLlm, Vllm
from serving.telemetry import engine_file
from serving.telemetry.engine_metrics.page import QUANTITIES, MetricsPage
from serving.telemetry.engine_sampler import Scraper, engine_metered

PAGE = b'vllm:num_requests_running{engine="0"} 4.0\nvllm:num_preemptions_total{engine="0"} 2.0\n'
SOON_S = 0.01
HANGS_S = 60  # of a wait in a test: only tells a hang from an end

Reply = Callable[[BaseHTTPRequestHandler], None]


def page(handler: BaseHTTPRequestHandler, status: int = 200, body: bytes = PAGE) -> None:
    handler.send_response(status)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


@contextmanager
def server(reply: Reply) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            try:
                reply(self)
            except ConnectionError:
                self.close_connection = True

        def log_message(self, *args: Any) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as made:
        made.daemon_threads = True
        thread = threading.Thread(target=made.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{made.server_port}"
        finally:
            made.shutdown()
            thread.join()


def metered(url: str, wait: threading.Event, page: MetricsPage = Vllm.metrics_page) -> Scraper:
    with engine_metered(page, url, "key", every_s=SOON_S, answer_s=0.5) as scraper:
        assert wait.wait(HANGS_S)
    return scraper


def test_it_reads_during_the_block_and_once_after_it_with_the_key() -> None:
    keys, read = [], threading.Event()

    def reply(handler: BaseHTTPRequestHandler) -> None:
        keys.append(handler.headers["Authorization"])
        page(handler)
        if len(keys) == 3:
            read.set()

    with server(reply) as url:
        scraper = metered(url, read)
    trace = scraper.trace()
    assert len(trace.at_ns) >= 4
    assert trace.absent_because == ""
    assert trace.values["running"].tolist() == [4.0] * len(trace.at_ns)
    assert set(keys) == {"Bearer key"}
    assert scraper.summary().startswith(f"/metrics read {len(trace.at_ns)} times, ")
    assert threading.active_count() == len(threading.enumerate())
    assert not [each for each in threading.enumerate() if each.name == "engine metrics"]


def test_an_engine_without_the_page_is_asked_three_times() -> None:
    asked, third = [], threading.Event()

    def reply(handler: BaseHTTPRequestHandler) -> None:
        asked.append(handler.path)
        page(handler, 404, b"no")
        if len(asked) == 3:
            third.set()

    with server(reply) as url:
        scraper = metered(url, third, SgLang.metrics_page)
    assert asked == ["/metrics"] * 3
    because = "/metrics answered 404 (SGLang has one with --enable-metrics)"
    assert scraper.trace().absent_because == because
    assert scraper.summary() == f"unavailable: {because}"


def test_the_path_that_has_the_series_is_kept() -> None:
    asked, read = [], threading.Event()

    def reply(handler: BaseHTTPRequestHandler) -> None:
        asked.append(handler.path)
        if handler.path == "/metrics":
            page(handler, body=json.dumps([{"numActiveRequests": 2}]).encode())
            read.set()
        else:
            page(handler, 404, b"")

    with server(reply) as url:
        scraper = metered(url, read, TrtLlm.metrics_page)
    assert asked[:2] == ["/prometheus/metrics", "/metrics"]
    assert set(asked[2:]) <= {"/metrics"}
    assert scraper.trace().values["running"][0] == 2


def test_a_hang_in_between_costs_samples_and_nothing_else() -> None:
    asked, release, again = [], threading.Event(), threading.Event()

    def reply(handler: BaseHTTPRequestHandler) -> None:
        asked.append(handler.path)
        if len(asked) == 2:
            assert release.wait(HANGS_S)
        else:
            page(handler)
        if len(asked) == 4:
            again.set()

    with server(reply) as url:
        scraper = metered(url, again)
        release.set()
    assert scraper.missed == 1
    assert len(scraper.samples) >= 3
    assert "did not answer within 0.5 s" in scraper.absent_because
    assert "1 missed" in scraper.summary()


def test_a_page_that_never_ends_is_left() -> None:
    asked = threading.Semaphore(0)
    third = threading.Event()

    def reply(handler: BaseHTTPRequestHandler) -> None:
        asked.release()
        if asked._value == 3:
            third.set()
        handler.send_response(200)
        handler.end_headers()
        while True:
            handler.wfile.write(b"x" * (1 << 20))

    with server(reply) as url:
        scraper = metered(url, third)
    assert "longer than can be read" in scraper.trace().absent_because


def test_an_engine_that_is_gone_is_a_reason() -> None:
    url = f"http://127.0.0.1:{probe.free_port()}"
    with engine_metered(Vllm.metrics_page, url, every_s=SOON_S, answer_s=0.5) as scraper:
        pass
    assert "/metrics: " in scraper.trace().absent_because
    with engine_metered(MetricsPage(), url) as scraper:
        pass
    assert scraper.trace().absent_because == "the engine has no metrics page that is known"


def test_samples_are_a_table_of_all_quantities() -> None:
    scraper = Scraper(Vllm.metrics_page, "http://x", path="/metrics")
    scraper.samples += [(5, {"running": 1.0}), (7, {"running": 2.0, "waiting": 3.0})]
    table = pq.read_table(pa.BufferReader(engine_file.to_bytes(scraper.trace())))
    assert table.column_names == ["at_ns", *QUANTITIES]
    assert table["at_ns"].to_pylist() == [5, 7]
    assert table["waiting"].to_pylist() == [None, 3.0]
    assert table["drafts"].to_pylist() == [None, None]
    assert json.loads(table.schema.metadata[b"source"])["path"] == "/metrics"


def test_counts_of_several_engines_add_up_and_shares_are_means() -> None:
    bodies = (
        PAGE + b'vllm:kv_cache_usage_perc{engine="0"} 0.2\n',
        PAGE + b'vllm:kv_cache_usage_perc{engine="0"} 0.6\n',
    )
    with (
        server(lambda handler: page(handler, body=bodies[0])) as one,
        server(lambda handler: page(handler, body=bodies[1])) as two,
    ):
        scraper = Scraper(Vllm.metrics_page, one, more_urls=(two,))
        scraper.sample()
    ((_, values),) = scraper.samples
    assert (values["running"], values["preemptions"]) == (8.0, 4.0)
    assert values["kv_cache_share"] == pytest.approx(0.4)


def test_one_engine_of_several_without_a_page_is_a_missed_sample() -> None:
    with server(page) as one, server(lambda handler: page(handler, 503)) as two:
        scraper = Scraper(Vllm.metrics_page, one, more_urls=(two,))
        scraper.sample()
    assert (scraper.samples, scraper.missed) == ([], 1)
    assert "503" in scraper.absent_because
