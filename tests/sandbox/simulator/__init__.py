"""A simulator of the Kombo LMS API's bulk endpoints that can misbehave on purpose.

How it works::

    command  the `simulator` command: options, one JSON line when it listens, ends on a signal
    server   HTTP around the state: the only part with a clock and sockets
    state    the API as a pure state machine: time and randomness are arguments
    tasks    one task: its fate, decided at birth, and what a poll of it says
    faults   what may go wrong, as data, and the dice that decide when
    wire     request bodies, checked by the vendor's OpenAPI; replies and error objects
    readout  what a checker may read of the state

It knows nothing of the daemon: what it shares with it is the vendor's documentation.
"""
