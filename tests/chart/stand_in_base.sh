#!/usr/bin/env bash
# Prints the path of a root file system that stands in for the base image where no image registry can be reached: Debian 13
# with its Python 3.13, and pip in /usr/local. It is made of Debian's packages once (a minute) and kept in a cache.
set -euo pipefail

say() { printf 'stand_in_base.sh: %s\n' "$*" >&2; }

cache=${XDG_CACHE_HOME:-$HOME/.cache}/course-sync-daemon/image-base-trixie
if [ -f "$cache/base.tar" ]; then
  printf '%s\n' "$cache/base.tar"
  exit 0
fi
command -v mmdebstrap >/dev/null || { say "mmdebstrap is missing: apt install mmdebstrap"; exit 1; }

mkdir -p "$cache"
work=$(mktemp -d "$cache/make.XXXXXX")
trap 'rm -rf "$work"' EXIT
# What Debian keeps for virtual environments.
pip='set -- /usr/share/python-wheels/pip-*.whl; python3 "$1/pip" install --quiet --root-user-action=ignore'
pip+=' --no-index --find-links=/usr/share/python-wheels pip'
if ! mmdebstrap --quiet --variant=minbase --include=ca-certificates,netbase,tzdata,python3-venv \
  --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
  --dpkgopt='path-exclude=/usr/share/doc/*' \
  --customize-hook='ln -s python3 "$1/usr/bin/python"' \
  --customize-hook='rm "$1"/usr/lib/python3.*/EXTERNALLY-MANAGED' \
  --customize-hook="chroot \"\$1\" sh -c '$pip'" \
  trixie "$work/base.tar" >"$work/log" 2>&1; then
  say "no root file system could be made of Debian's packages:"
  tail -n 5 "$work/log" >&2
  exit 1
fi
mv "$work/base.tar" "$cache/base.tar" # a rename: a second run sees all of it or nothing
printf '%s\n' "$cache/base.tar"
