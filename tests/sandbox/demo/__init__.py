"""`make demo`: sends changes through the daemon and a misbehaving API, and ends the daemon abruptly in the middle.

command      `python -m tests.sandbox demo`: selects one of the two variants
on_kafka     Kafka, simulator and daemon as processes; the daemon is killed
in_process   everything in one process on an in-memory log, if no Kafka can be started
"""
