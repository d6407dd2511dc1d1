"""The loop: inputs → core → commits → HTTP. Talks to ports only, so that a simulation can drive it."""
