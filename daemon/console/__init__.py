"""The console: pages about what is under way, for people. A process of its own that only reads the topics; see `command`."""
