"""Defects of kafka-python 3.0.x, one module each. Nothing else in `daemon` touches the library's private fields.

Each header has the same four entries: the defect, where it is reported upstream, which versions have it, and the test
that fails once the library no longer has it, so that the cure can be deleted. kafka-python 3.0.12 is the newest release
and the pinned one; "Upstream: not reported" means that no issue or pull request was found.

`consumers` puts the cures of a consumer together, and `network` those of the network client of every client. Every other
module is used on its own.
"""
