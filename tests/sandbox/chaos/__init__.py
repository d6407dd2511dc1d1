"""Replicas of the daemon on a real Kafka, killed, frozen and thawed, while changes keep coming.

How it works::

    schedule   pure: a seed → rounds of strikes, each with its time
    fleet      the replicas: strikes on them, and starting again what has ended
    strikes    what a strike does when it begins, and what heals it
    takeover   how long partitions were nobody's, and how long a restart took
    runner     storms, calm between them, and at the end the checker
    outcome    the figures, as a line of JSON
    command    `python -m tests.sandbox chaos`

A round is a storm of strikes that overlap as chance has it; then everything heals, and each partition must
run somewhere before the next storm comes. A round of one strike is a measurement: nothing else goes wrong
until its partitions run again.
"""
