#!/usr/bin/env bash
# Usage: prometheus.sh prometheus|promtool
# Prints the path of this program: the one in PATH, else one that is taken once out of Debian's package `prometheus` and kept
# in a cache. The package is not installed, so no service starts.
set -euo pipefail

program=$1

say() { printf 'prometheus.sh: %s\n' "$*" >&2; }

if command -v "$program"; then exit 0; fi

cache=${XDG_CACHE_HOME:-$HOME/.cache}/course-sync-daemon/prometheus
if [ -x "$cache/$program" ]; then
  printf '%s\n' "$cache/$program"
  exit 0
fi

for tool in apt-get dpkg-deb; do
  if ! command -v "$tool" >/dev/null; then
    say "no $program in PATH, and without $tool it cannot be taken from Debian's package."
    say "Install Prometheus and put $program in PATH."
    exit 1
  fi
done

mkdir -p "$cache"
work=$(mktemp -d "$cache/fetch.XXXXXX")
trap 'rm -rf "$work"' EXIT
cd "$work"
if ! apt-get download --quiet prometheus >log 2>&1; then
  say "'apt-get download prometheus' failed; 'apt-get update' as root may help, or a $program in PATH. It said:"
  tail -n 5 log >&2
  exit 1
fi
dpkg-deb -x prometheus_*.deb unpacked
mv unpacked/usr/bin/prometheus unpacked/usr/bin/promtool "$cache" # renames: a second run sees all of a program or nothing
printf '%s\n' "$cache/$program"
