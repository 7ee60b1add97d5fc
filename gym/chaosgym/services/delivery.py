"""One thread that delivers what a service measured: spans as they ended, metrics as they stand.

The SDK has a thread and a connection for each signal; a service that lives for seconds pays for both with a
tenth of its CPU.
"""

from __future__ import annotations

import threading
from collections import deque

from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor

from chaosgym.services.exporter import Post
from chaosgym.services.wire_format import encode_spans

__all__ = ["Delivery"]

EVERY = 0.8
"""Seconds between two deliveries."""
_LARGEST = 4096
"""Spans kept between two deliveries; the oldest are dropped beyond that."""


class Delivery(SpanProcessor):
    """Of one process; `start` it after the fork."""

    def __init__(self, post: Post, reader: PeriodicExportingMetricReader) -> None:
        self._post, self._reader = post, reader
        self._spans: deque[ReadableSpan] = deque(maxlen=_LARGEST)
        self._one = threading.Lock()
        self._leave = threading.Event()
        self._thread = threading.Thread(target=self._run, name="telemetry", daemon=True)

    def start(self) -> None:
        """Deliver from now on."""
        self._thread.start()

    def on_end(self, span: ReadableSpan) -> None:
        self._spans.append(span)

    def deliver(self) -> None:
        """Send what there is; what nobody takes is dropped. From any thread."""
        with self._one:
            spans = [self._spans.popleft() for _ in range(len(self._spans))]
            if spans:
                self._post.send("traces", encode_spans(spans))
            self._reader.force_flush()

    def stop(self) -> None:
        """Deliver a last time and end the thread."""
        self._leave.set()
        self._thread.join()
        self.deliver()
        self._post.close()

    def _run(self) -> None:
        while not self._leave.wait(EVERY):
            self.deliver()
