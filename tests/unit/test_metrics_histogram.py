"""The histogram that takes many equal values at once: as that of prometheus_client, which takes each."""

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Histogram, generate_latest

from daemon.telemetry.histogram import CountingHistogram
from daemon.telemetry.labels import Label
from daemon.telemetry.metric import Section

BOUNDS = (0.5, 1.0, 30.0, 3600.0)
STATUSES = ("GOOD", "BAD")
METRIC = Section("Waiting").histogram("wait_seconds", "How long it took.", BOUNDS, Label("status", STATUSES))
VALUES = st.sampled_from([0.0, 0.25, *BOUNDS, 31.5, 7200.0])  # their sums are exact


@given(st.lists(st.tuples(st.sampled_from(STATUSES), VALUES, st.integers(1, 5))))
def test_it_exposes_what_the_library_exposes(observed: list[tuple[str, float, int]]) -> None:
    ours = CountingHistogram(METRIC, STATUSES)
    library = Histogram(METRIC.name, METRIC.help, METRIC.label_names, buckets=BOUNDS, registry=None)
    children = {status: library.labels(status) for status in STATUSES}
    for status, value, n in observed:
        ours.observe(status, value, n)
        for _ in range(n):
            children[status].observe(value)
    assert exposed(ours) == exposed(library)


def exposed(collector: CountingHistogram | Histogram) -> bytes:
    registry = CollectorRegistry()
    registry.register(collector)
    return generate_latest(registry)
