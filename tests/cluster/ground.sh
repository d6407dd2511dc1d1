#!/usr/bin/env bash
# Mounts and network devices, in namespaces of their own. WORK is a folder, NODES the number of nodes.
set -euo pipefail

# Shared only within this namespace: the kubelet and containerd pass mounts on to their children.
mount --make-rprivate /
mount --make-rshared /
hostname kube

# The kubelet sets these kernel settings. It finds them set already, in files that are mounted over those of the machine.
for pair in vm/overcommit_memory=1 vm/panic_on_oom=0 kernel/panic=10 kernel/panic_on_oops=1; do
  file=$WORK/sysctl-$(tr / - <<<"${pair%=*}")
  echo "${pair#*=}" >"$file"
  mount --bind "$file" "/proc/sys/${pair%=*}"
done

# What containerd and the kubelet write there never reaches the machine.
for folder in /run /var/lib /var/log; do
  mount -t tmpfs tmpfs "$folder"
  mount --make-shared "$folder"
done

echo 1 >/proc/sys/net/ipv4/ip_forward
ip link set lo up
# A bridge without ports carries the addresses of the nodes: not every kernel has dummy devices.
ip link add nodes type bridge
ip link set nodes up
for node in $(seq "$NODES"); do ip addr add "10.77.0.$node/32" dev nodes; done
