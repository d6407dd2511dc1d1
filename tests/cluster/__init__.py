"""The image and the chart on a real Kubernetes of two nodes, which are disturbed while changes are published.

How it works::

    binaries      Kubernetes, etcd and Helm, built once (kubernetes.sh); the image as an archive
    namespaces    enters namespaces of network, mounts, processes and host name, in which everything below runs
    ground.sh     mounts and network devices of these namespaces
    places        addresses, folders and names
    control_plane etcd, API server, controller manager, scheduler
    node          containerd and kubelet
    services      Kafka with TLS and a login, the simulated API with TLS, names
    kubernetes    the API server, asked; kubectl and Helm, as a person types them
    release       the installation, step by step as the chart's README says, and its pods
    phases        the disturbances
    run           publishes changes, carries out the phases, and asks the checker
    figures       pure: how long partitions were unread, and how long results took
    command       `python -m tests.cluster`

Nothing of it can reach, or be reached from, outside: the network is one of its own without a way out. All processes are
descendants of process 1 of the namespace, and end with it.
"""
