"""The event log behind one small port: Kafka for everything real, embedded for simulation and tests."""
