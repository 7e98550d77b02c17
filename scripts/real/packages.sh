#!/bin/sh
# Installs what the `real` test ring needs of the system: an MPI library with its headers, libclang to read them, Slurm,
# a browser.
# Debian and Ubuntu; elsewhere it says what is missing.
set -eu

missing=
for tool in mpirun mpicc clang pkg-config slurmctld slurmd srun munged chromium; do
    command -v "$tool" >/dev/null || [ -x "/usr/sbin/$tool" ] || missing="$missing $tool"
done
[ -z "$missing" ] && exit 0

packages="openmpi-bin libopenmpi-dev libclang-dev clang pkg-config slurm-wlm slurm-wlm-basic-plugins munge chromium"
if ! command -v apt-get >/dev/null; then
    echo "packages.sh: install these first:$missing (Debian: $packages)" >&2
    exit 1
fi
as_root=
if [ "$(id -u)" != 0 ]; then
    command -v sudo >/dev/null || { echo "packages.sh: as root: apt-get install $packages" >&2; exit 1; }
    as_root=sudo
fi
export DEBIAN_FRONTEND=noninteractive
$as_root apt-get update -qq >&2
# shellcheck disable=SC2086 # The words are packages.
$as_root apt-get install -y -qq --no-install-recommends $packages >/dev/null
