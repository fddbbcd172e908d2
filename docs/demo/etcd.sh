#!/bin/sh
# Three etcd nodes on loopback. One is put an hour ahead while it runs, and etcd logs the drift. Then the leader runs ten
# times as fast, and a lease of a minute ends after six seconds. Needs etcd and etcdctl; ELSEWHEN names the command.
set -eu
elsewhen=${ELSEWHEN:-elsewhen}
folder=$(mktemp -d)
export ELSEWHEN_RUNTIME_DIR="$folder" ETCDCTL_API=3
pids=
trap 'kill $pids 2>/dev/null; wait 2>/dev/null; rm -rf "$folder"' EXIT

port() { echo $((23790 + $1 * 10)); }
peer() { echo $((23791 + $1 * 10)); }
cluster=n1=http://127.0.0.1:$(peer 1),n2=http://127.0.0.1:$(peer 2),n3=http://127.0.0.1:$(peer 3)
for node in 1 2 3; do
  etcd --name n$node --data-dir "$folder/n$node" --logger zap --log-outputs "$folder/n$node.log" \
    --listen-client-urls http://127.0.0.1:"$(port $node)" --advertise-client-urls http://127.0.0.1:"$(port $node)" \
    --listen-peer-urls http://127.0.0.1:"$(peer $node)" --initial-advertise-peer-urls http://127.0.0.1:"$(peer $node)" \
    --initial-cluster "$cluster" --initial-cluster-state new 2>/dev/null &
  pids="$pids $!"
  eval "pid$node=$!"
done
all=http://127.0.0.1:$(port 1),http://127.0.0.1:$(port 2),http://127.0.0.1:$(port 3)
for _ in $(seq 60); do
  etcdctl --endpoints="$all" endpoint health >/dev/null 2>&1 && break
  sleep 0.5
done
etcdctl --endpoints="$all" put before 1

echo "== node 3, process $pid3, an hour ahead, without a restart"
"$elsewhen" attach -t "$pid3" --offset 1h --name ahead
etcdctl --endpoints="$all" put during 1
echo "== what etcd logs about it (nodes look every half minute)"
for _ in $(seq 90); do
  grep -h 'high clock drift' "$folder"/n?.log | head -n 2 >"$folder/found" || true
  [ -s "$folder/found" ] && break
  sleep 1
done
cut -c1-260 "$folder/found"
[ -s "$folder/found" ]
"$elsewhen" detach -t "$pid3"
etcdctl --endpoints="$all" get during

echo "== the leader at rate 10: a lease of 60 seconds"
leader=
for node in 1 2 3; do
  if etcdctl --endpoints=http://127.0.0.1:"$(port $node)" endpoint status -w fields | grep -q '"Leader" : '; then
    status=$(etcdctl --endpoints=http://127.0.0.1:"$(port $node)" endpoint status -w fields)
    id=$(echo "$status" | sed -n 's/^"MemberID" : //p')
    [ "$id" = "$(echo "$status" | sed -n 's/^"Leader" : //p')" ] && leader=$node
  fi
done
eval "leader_pid=\$pid$leader"
lease=$(etcdctl --endpoints="$all" lease grant 60 | sed 's/lease \([0-9a-f]*\) .*/\1/')
etcdctl --endpoints="$all" put --lease="$lease" lock held >/dev/null
"$elsewhen" attach -t "$leader_pid" --rate 10 --name fast
began=$(date +%s)
for _ in $(seq 50); do
  [ -z "$(etcdctl --endpoints="$all" get lock)" ] && break
  sleep 0.5
done
ended=$(date +%s)
[ -z "$(etcdctl --endpoints="$all" get lock)" ]
echo "node $leader led; the lease of a minute ended after $((ended - began)) s"
"$elsewhen" detach -t "$leader_pid"
etcdctl --endpoints="$all" put after 1
