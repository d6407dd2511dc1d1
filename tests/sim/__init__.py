"""Deterministic simulation: the daemon's own core and runtime in virtual time, among faults.

One seed is one history, repeatable to the byte. How it works::

    loop      an event loop that is stepped by hand, one callback at a time
    world     virtual time, replicas, what happens when; chooses who runs next
    network   calls to the simulated API: late, lost, twice
    faulty    the embedded log with commits that fail in every way, and late group news
    history   draws the parameters of a history from its seed, runs it, judges it
    faults    what is done to the replicas, the log, the API and the clocks
    judge     the checker of the contract, and what only a simulation can see
    campaign  many histories over all processors; the command line
    mutants   deliberate bugs, each of which must be caught
"""
