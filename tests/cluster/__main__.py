from tests.cluster.command import cluster

cluster()
