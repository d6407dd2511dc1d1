from tests.sandbox.simulator.command import simulator

simulator()
