"""What the pages show, computed from the model at a time. Pure; no HTML."""
