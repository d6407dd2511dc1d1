"""The daemon under more changes than the API takes, for minutes: does its memory stay what it is?

How it works::

    command   `python -m tests.sandbox soak`
    load      what is published, how slow the API is meanwhile, and the daemon's limits
    runner    overload with a look every second, then relief, then the checker
    looking   one look: the daemon's /metrics, and what Linux says of its process
    outcome   the figures, as a line of JSON, and whether they are good

The simulated API misbehaves in all ways of the demo, so that whatever the daemon does after an error it does
a thousand times, and each of its tasks takes seconds. What leaves is then bounded by the daemon's own window: an
integration has one batch with the API at a time. Waiting changes soon reach `backlog.courses_max`, and from
then on partitions pause, and go on as results make room.

When the publishing is over, half of what was published still lies in the topic, and only a run that has come
to its end can be judged by the checker. So now the API is good and fast, and the rest is worked off: that
takes a minute or two for ten of overload.
"""
