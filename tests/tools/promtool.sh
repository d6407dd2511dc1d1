#!/usr/bin/env bash
# Prints the path of a promtool: the one in PATH, else one that is taken once out of Debian's package
# `prometheus` and kept in a cache. The package is not installed, so no service starts.
set -euo pipefail

say() { printf 'promtool.sh: %s\n' "$*" >&2; }

if command -v promtool; then exit 0; fi

cache=${XDG_CACHE_HOME:-$HOME/.cache}/course-sync-daemon/promtool
if [ -x "$cache/promtool" ]; then
  printf '%s\n' "$cache/promtool"
  exit 0
fi

for tool in apt-get dpkg-deb; do
  if ! command -v "$tool" >/dev/null; then
    say "no promtool in PATH, and without $tool it cannot be taken from Debian's package."
    say "Install Prometheus's promtool and put it in PATH."
    exit 1
  fi
done

mkdir -p "$cache"
work=$(mktemp -d "$cache/fetch.XXXXXX")
trap 'rm -rf "$work"' EXIT
cd "$work"
if ! apt-get download --quiet prometheus >log 2>&1; then
  say "'apt-get download prometheus' failed; 'apt-get update' as root may help, or a promtool in PATH. It said:"
  tail -n 5 log >&2
  exit 1
fi
dpkg-deb -x prometheus_*.deb unpacked
mv unpacked/usr/bin/promtool "$cache/promtool" # a rename: a second run sees all of it or nothing
printf '%s\n' "$cache/promtool"
