#!/bin/sh
# Builds the proofs on a Debian or Ubuntu machine; installs Coq where it is missing and can be installed.
# Where it cannot, this says so and succeeds: the proofs are skipped, by name.
set -eu
cd "$(dirname "$0")"

packages="coq libcoq-mathcomp-ssreflect libcoq-mathcomp-algebra libcoq-mathcomp-algebra-tactics libcoq-mathcomp-zify
  libcoq-flocq libcoq-coquelicot make ocaml-findlib ocaml-nox libzarith-ocaml-dev"

as_root() {
  if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo -n "$@"; fi
}

installed() {
  # shellcheck disable=SC2086
  dpkg-query --show $packages >/dev/null 2>&1
}

if ! installed; then
  # shellcheck disable=SC2086
  { as_root apt-get update --quiet \
    && as_root env DEBIAN_FRONTEND=noninteractive apt-get install --yes --quiet --no-install-recommends $packages; } \
    >/dev/null 2>&1 || true
fi
if ! command -v coqc >/dev/null || { command -v dpkg-query >/dev/null && ! installed; }; then
  echo "skipped: proofs: Coq cannot be installed"
  exit 0
fi
exec make
