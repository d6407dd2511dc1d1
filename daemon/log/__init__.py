"""The event log: one small port, and Kafka behind it."""
