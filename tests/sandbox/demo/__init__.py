"""`make demo`: changes through the daemon and a misbehaving API, with an abrupt end in the middle.

command      `python -m tests.sandbox demo`: which of the two
on_kafka     Kafka, simulator and daemon as processes; the daemon is killed
in_process   all of it in one process, on the log in memory, where no Kafka can be started
"""
