"""The pure core: no I/O, no clock, no threads, no logging, no source of randomness."""
