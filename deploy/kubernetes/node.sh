#!/bin/sh
# On a node whose root directory is mounted at HOST (/host): `install` copies the programs, makes containerd know them, and has it
# read its configuration again; `uninstall` takes that back. Containers go on running meanwhile.
set -eu
host=${HOST:-/host} to=${TO:-/usr/local/bin} from=$(dirname "$0")
config=${CONFIG:-/etc/containerd/config.toml}
# In the node's own namespaces.
restart=${RESTART:-nsenter -t 1 -m -u -i -n -p -- systemctl restart containerd}

# Kept until containerd has been restarted, so that the next try does what this one could not.
wanted=$host$config.elsewhen-restart

sum() { cat "$host$config" 2>/dev/null | md5sum; }
before=$(sum)
if [ -e "$wanted" ]; then before=unknown; fi
mkdir -p "$(dirname "$wanted")"
: >"$wanted"
case ${1:-install} in
install)
  mkdir -p "$host$to"
  for program in elsewhen elsewhen-oci; do
    # Beside it first: a running program cannot be written to.
    cp "$from/$program" "$host$to/$program.new"
    mv "$host$to/$program.new" "$host$to/$program"
  done
  chroot "$host" "$to/elsewhen-oci" install containerd --config "$config"
  ;;
uninstall)
  chroot "$host" "$to/elsewhen-oci" uninstall containerd --config "$config"
  ;;
*)
  echo "usage: node.sh install | uninstall" >&2
  exit 2
  ;;
esac
if [ "$(sum)" != "$before" ]; then
  $restart
fi
rm "$wanted"
