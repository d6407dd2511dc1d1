"""The daemon with more changes than the API accepts, for minutes: does its memory use stay constant?

How it works::

    command   `python -m tests.sandbox soak`
    load      what is published, how slow the API is meanwhile, and the daemon's limits
    runner    overload with a measurement every second, then relief, then the checker
    looking   one measurement: the daemon's /metrics, and the figures of Linux for its process
    outcome   the figures, as a line of JSON, and whether they are acceptable

The simulated API misbehaves in all ways of the demo, so that every reaction of the daemon to an error happens a thousand
times, and each of its tasks takes seconds. The daemon's own window then bounds the throughput: an integration has one batch
at the API at a time. Waiting changes soon reach `backlog.courses_max`. From then on, partitions pause, and resume as results
make room.

When publishing ends, half of the changes are still in the topic, and the checker can only judge a completed run. So the API
becomes fast and faultless, and the remaining changes are processed. That takes a minute or two after ten minutes of
overload.
"""
