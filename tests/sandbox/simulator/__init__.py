"""A simulator of the bulk endpoints of the Kombo LMS API. It can misbehave on purpose.

How it works::

    command  the `simulator` command: options, one JSON line when it listens, ends on a signal
    server   HTTP around the state: the only part with a clock and sockets
    state    the API as a pure state machine: time and randomness are arguments
    tasks    one task: its fate, decided when it is created, and the answer to a poll
    faults   possible faults, as data, and the dice that decide when they happen
    wire     request bodies, checked against the vendor's OpenAPI; replies and error objects
    readout  the part of the state that a checker reads

It does not depend on the daemon. Both are written from the vendor's documentation.
"""
