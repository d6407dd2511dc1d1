#!/usr/bin/env bash
# Prints the folder with the binaries of Kubernetes, etcd and Helm 3. They are built once, from Go modules, and kept in a
# cache: 500 MB, after 6 to 17 minutes on two cores. `--cached` prints the folder only if they are there already.
set -euo pipefail

version=v1.34.4 # the last line whose kubelet is sure to accept cgroup v1
etcd=v3.6.13
helm3=v3.22.0

say() { printf 'kubernetes.sh: %s\n' "$*" >&2; }

cache=${XDG_CACHE_HOME:-$HOME/.cache}/course-sync-daemon/kubernetes-$version
if [ -x "$cache/etcd" ]; then
  printf '%s\n' "$cache"
  exit 0
fi
if [ "${1:-}" = --cached ]; then exit 1; fi
command -v go >/dev/null || { say "Go is missing. Install Go 1.24 or newer."; exit 1; }

say "building Kubernetes $version, etcd $etcd and Helm $helm3 into $cache, once; this takes 6 to 17 minutes"
mkdir -p "$cache"
exec 9>"$cache/.lock"
flock 9
if [ -x "$cache/etcd" ]; then # built while we waited
  printf '%s\n' "$cache"
  exit 0
fi
work=$(mktemp -d "$cache/build.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
export CGO_ENABLED=0 GOFLAGS="-buildvcs=false -mod=mod"

# The module of Kubernetes replaces its parts by folders of its repository, which a module of the proxy does not contain.
# So they are taken from the proxy too, each at the version that belongs to this one.
mkdir "$work/kubernetes" && cd "$work/kubernetes"
module=$(GOFLAGS='' go mod download -json "k8s.io/kubernetes@$version")
field() { sed -n "s/.*\"$1\": \"\(.*\)\".*/\1/p" <<<"$module"; }
sed -E "s#^module .*#module cluster#; s#=> \./staging/src/(k8s.io/[^ ]+)#=> \1 v0.${version#v1.}#" "$(field GoMod)" >go.mod
install -m 644 "$(field Dir)/go.sum" go.sum
go mod edit -require "k8s.io/kubernetes@$version"
# Without a version, `helm` sees v0.0.0-master, and the chart's kubeVersion refuses that.
flags="-s -w"
for package in k8s.io/client-go/pkg/version k8s.io/component-base/version; do
  flags+=" -X $package.gitVersion=$version -X $package.gitMajor=1 -X $package.gitMinor=$(cut -d. -f2 <<<"$version")"
  flags+=" -X $package.gitTreeState=clean -X $package.gitCommit=module -X $package.buildDate=2026-01-01T00:00:00Z"
done
for program in kube-apiserver kube-controller-manager kube-scheduler kubelet kubectl; do
  say "$program"
  go build -ldflags "$flags" -o "$cache/" "k8s.io/kubernetes/cmd/$program"
done

build() { # PACKAGE VERSION FILE
  say "$1"
  mkdir "$work/module-$2" && cd "$work/module-$2"
  go mod init it >"$work/log" 2>&1
  go get "$1@$2" >>"$work/log" 2>&1 || { tail -n 5 "$work/log" >&2; exit 1; }
  go build -ldflags "-s -w" -o "$3" "$1"
}
build helm.sh/helm/v3/cmd/helm "$helm3" "$cache/helm3"
build go.etcd.io/etcd/server/v3 "$etcd" "$work/etcd-built"
mv "$work/etcd-built" "$cache/etcd" # the last one, by a rename: whoever sees it sees all of them
printf '%s\n' "$cache"
