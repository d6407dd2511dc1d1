"""Deterministic simulation: the daemon's own core and runtime in virtual time, among faults.

One seed is one history, repeatable to the byte; `docs/simulation.md` says what is simulated. How it works::

    loop        an event loop that is stepped by hand, one callback at a time
    world       virtual time, replicas, what happens when; chooses who runs next
    network     calls to the simulated API: late, lost, twice
    faulty      the embedded log with commits that fail in every way, and late group news
    parameters  what a seed stands for, and the kinds of history; drawing: how it is drawn
    faults      what is done to the replicas, the log, the API and the clocks
    history     runs one; replaced: one in which input or journal become others
    witness     what crosses the daemon's edges, judged on the spot; manners: how it treats the log
    evidence    what the checker is given; claims: of results, held against what really happened
    judge       the checker of the contract, and what only somebody who was there can verify
    campaign    many histories over all processors; the command line
    reducing    the least of a failing history that still fails; telling: what happened in it, in words
    mutants     deliberate bugs; hunt: each must be caught
"""
