"""How fast the daemon is, measured on a real Kafka: `python -m tests.bench`, or `make bench`.

Nothing here is a test: figures depend on the machine and on what else it does, so none of them fails a
build. What does fail is a run in which a change had no result, or another one than `SUCCEEDED`.
"""
