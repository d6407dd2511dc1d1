"""The main loop: inputs → core → commits → HTTP. It uses ports only, so a simulation can drive it."""
