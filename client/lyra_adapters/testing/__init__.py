"""For tests of code that uses this client: a real gRPC server on a loopback port that does what a test tells it to."""

from lyra_adapters.testing.fault import Fault
from lyra_adapters.testing.script import cancelled_script, failed_script, training_script
from lyra_adapters.testing.server import FakeAdapterServer, Received

__all__ = ["FakeAdapterServer", "Fault", "Received", "cancelled_script", "failed_script", "training_script"]
