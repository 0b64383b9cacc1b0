#!/usr/bin/env bash
# Installs every system tool that the test suites and benchmarks use, on Debian 12 or later and its relatives.
set -euo pipefail

packages=(
  qemu-utils qemu-block-extra     # qemu-img, qemu-io, qemu-nbd
  qemu-system-x86                 # qemu-system-x86_64, for guests that are migrated live
  nbdkit libnbd-bin python3-libnbd # nbdkit, nbdinfo, nbdcopy, and a client that tests can steer byte by byte
  fio                             # load with verification
  e2fsprogs util-linux            # mke2fs, e2fsck; mount, losetup
  etcd-server etcd-client         # the peer of the raft benchmark
  procps                          # ps, pgrep
  ceph-mon ceph-osd ceph-common   # a Ceph cluster for development (`npm run ceph`)
  librados-dev g++                # what the store `rados` is built with
)

sudo=()
if [ "$(id -u)" -ne 0 ]; then sudo=(sudo); fi
"${sudo[@]}" apt-get update
"${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "${packages[@]}"
