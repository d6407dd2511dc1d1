"""Replicas of the daemon on a real Kafka are killed, frozen and thawed while changes are published.

How it works::

    schedule   pure: a seed → rounds of strikes, each with its time
    fleet      the replicas: applies strikes to them, and restarts those that have ended
    strikes    what a strike does when it begins, and how it is healed
    takeover   how long partitions had no owner, and how long a restart took
    runner     storms, calm phases between them, and the checker at the end
    outcome    the figures, as a line of JSON
    command    `python -m tests.sandbox chaos`

A round is a storm of strikes that overlap at random. Then everything is healed, and each partition must run in a replica
before the next storm begins. A round of one strike is a measurement: nothing else goes wrong until its partitions run
again.
"""
