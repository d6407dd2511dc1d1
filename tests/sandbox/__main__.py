from tests.sandbox.cli import sandbox

sandbox()
