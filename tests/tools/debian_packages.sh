#!/usr/bin/env bash
# Installs the Debian packages that `make test` (first list), `make image` (second list) and `make cluster` (second and third list)
# need, as far as they are missing.
# Only on a machine for CI, as root; elsewhere it prints the command for a person.
set -euo pipefail

test=(chromium fonts-dejavu-core)
image=(podman runc mmdebstrap)
cluster=(containerd containernetworking-plugins iproute2 iptables dnsmasq-base socat)

case "${1:-}" in
  test) wanted=("${test[@]}") ;;
  cluster) wanted=("${image[@]}" "${cluster[@]}") ;;
  *) wanted=("${image[@]}") ;;
esac
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
