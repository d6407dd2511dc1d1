#!/usr/bin/env bash
# Installs the Debian packages that `make image` (first list) and `make cluster` (both lists) need, as far as they are missing.
# Only on a machine for CI, as root; elsewhere it prints the command for a person.
set -euo pipefail

image=(podman runc mmdebstrap)
cluster=(containerd containernetworking-plugins iproute2 iptables dnsmasq-base socat)

wanted=("${image[@]}")
if [ "${1:-}" = cluster ]; then wanted+=("${cluster[@]}"); fi
missing=()
for package in "${wanted[@]}"; do
  [ "$(dpkg-query --show --showformat='${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing+=("$package")
done
if [ ${#missing[@]} = 0 ]; then exit 0; fi
if [ "${CI:-}" != true ] || [ "$(id --user)" != 0 ]; then
  echo "Missing Debian packages: apt install --no-install-recommends ${missing[*]}" >&2
  exit 1
fi
log=$(mktemp)
trap 'rm -f "$log"' EXIT
export DEBIAN_FRONTEND=noninteractive
if ! { apt-get update && apt-get install --yes --no-install-recommends "${missing[@]}"; } >"$log" 2>&1; then
  tail -n 20 "$log" >&2
  exit 1
fi
