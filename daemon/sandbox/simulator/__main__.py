from daemon.sandbox.simulator.command import simulator

simulator()
