#!/usr/bin/env bash
# A pod of a real kubelet, a year ahead. Debian has no packages of Kubernetes' servers, so they are built from its source package
# (five minutes, and two gigabytes in CACHE); then etcd, kube-apiserver, containerd and the kubelet run for half a minute, in a network
# and with cgroups of their own. As root, on Debian 12 with `elsewhen` and `elsewhen-oci` in PATH, and
#
#   apt-get install containerd runc podman busybox-static etcd-server golang-go kubernetes-client jq iproute2 containernetworking-plugins \
#     iptables dpkg-dev openssl
set -euo pipefail
cache=${CACHE:-$HOME/.cache/elsewhen-kubelet}
self=$(realpath "$0")
deploy=$(realpath "$(dirname "$self")/../../deploy/kubernetes")
export GOPATH=$cache/go GO111MODULE=off GOPROXY=off CGO_ENABLED=0 GOCACHE=$cache/gocache GOFLAGS=

build() {
  mkdir -p "$cache/source" "$GOPATH/src/k8s.io"
  local list=$cache/source/deb-src.list
  echo "deb-src [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian bookworm main" >"$list"
  local apt=(-o Dir::Etc::SourceList="$list" -o Dir::Etc::SourceParts=- -o Dir::State::Lists="$cache/lists")
  mkdir -p "$cache/lists/partial"
  apt-get "${apt[@]}" update -qq
  (cd "$cache/source" && apt-get "${apt[@]}" source -qq --download-only kubernetes && tar xzf kubernetes_*.orig.tar.gz)
  rm -rf "$GOPATH/src/k8s.io/kubernetes"
  mv "$cache"/source/kubernetes-*/ "$GOPATH/src/k8s.io/kubernetes"
  cd "$GOPATH/src/k8s.io/kubernetes"
  go build -o "$cache/kubelet" ./cmd/kubelet
  # What describes the API is generated.
  go build -o "$cache/openapi-gen" ./vendor/k8s.io/kube-openapi/cmd/openapi-gen
  local folders
  folders=$(grep -rl --include='*.go' '^// +k8s:openapi-gen=' staging/src pkg | xargs -n 1 dirname | sort -u |
    sed -e 's|^staging/src/|k8s.io/kubernetes/vendor/|' -e 's|^pkg/|k8s.io/kubernetes/pkg/|' | paste -sd,)
  "$cache/openapi-gen" -O zz_generated.openapi -p k8s.io/kubernetes/pkg/generated/openapi -r /dev/null \
    -h hack/boilerplate/boilerplate.generatego.txt -i "$folders"
  go build -o "$cache/kube-apiserver" ./cmd/kube-apiserver
}

if [ "${1:-}" != inside ]; then
  { [ -x "$cache/kubelet" ] && [ -x "$cache/kube-apiserver" ]; } || build
  # What a kubelet changes of the kernel, and does not put back.
  settings=(vm.overcommit_memory vm.panic_on_oom kernel.panic kernel.panic_on_oops)
  for setting in "${settings[@]}"; do saved+=("$setting=$(sysctl -n "$setting")"); done
  trap 'sysctl -qw "${saved[@]}"' EXIT
  unshare -n -m --propagation private "$self" inside
  exit
fi

ip link set lo up
ip addr add 10.77.0.1/32 dev lo
ip route add default dev lo
if [ -e /sys/fs/cgroup/unified ]; then
  mount -t tmpfs -o mode=755 cg1 /sys/fs/cgroup
  for controller in cpu cpuacct cpuset memory devices freezer blkio pids; do
    mkdir /sys/fs/cgroup/$controller
    mount -t cgroup -o $controller cgroup /sys/fs/cgroup/$controller
  done
  mkdir /sys/fs/cgroup/systemd
  mount -t cgroup -o none,name=systemd cgroup /sys/fs/cgroup/systemd
fi
work=$(mktemp -d)
pids=()
finish() {
  kill "${pids[@]}" 2>/dev/null || true
  wait
  mount | sed -n "s|.* on \($work/[^ ]*\) .*|\1|p" | sort -r | xargs -r umount -l
  rm -rf "$work"
}
trap finish EXIT
start() {
  local name=$1
  shift
  "$@" >"$work/$name.log" 2>&1 &
  pids+=($!)
}
until_true() {
  for _ in $(seq 300); do
    "$@" >/dev/null 2>&1 && return
    sleep 0.2
  done
  echo "waited in vain for: $*" >&2
  tail -n 20 "$work"/*.log >&2
  return 1
}

# containerd, which is told of elsewhen as on any node, and two images.
mkdir -p "$work/cni" "$work/rootfs/bin"
echo '{"cniVersion":"0.4.0","name":"none","plugins":[{"type":"loopback"}]}' >"$work/cni/10-none.conflist"
cat >"$work/containerd.toml" <<C
version = 2
root = "$work/root"
state = "$work/state"
oom_score = 0
[grpc]
  address = "$work/c.sock"
[ttrpc]
  address = "$work/t.sock"
[plugins."io.containerd.internal.v1.opt"]
  path = "$work/opt"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "localhost/pause:1"
  restrict_oom_score_adj = true
  disable_tcp_service = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "$work/cni"
C
elsewhen-oci install containerd --config "$work/containerd.toml" >/dev/null
start containerd containerd -c "$work/containerd.toml"
ctr=(ctr -a "$work/c.sock" -n k8s.io)
until_true "${ctr[@]}" version
cp /bin/busybox "$work/rootfs/bin"
for name in sh date sleep cat; do ln -s busybox "$work/rootfs/bin/$name"; done
tar -C "$work/rootfs" -cf "$work/rootfs.tar" .
for image in pause busybox; do
  podman=(podman --root "$work/podman" --runroot "$work/podman-run")
  "${podman[@]}" import --change 'CMD=["/bin/sleep","100000"]' "$work/rootfs.tar" "localhost/$image:1" >/dev/null 2>&1
  "${podman[@]}" save -q --format docker-archive -o "$work/$image.tar" "localhost/$image:1"
  "${ctr[@]}" images import "$work/$image.tar" >/dev/null
done

# The control plane: no scheduler and no controllers, since a pod can name its node.
start etcd etcd --data-dir "$work/etcd"
openssl genrsa -out "$work/sa.key" 2048 2>/dev/null
echo 'secret,admin,admin,system:masters' >"$work/tokens"
start kube-apiserver "$cache/kube-apiserver" --etcd-servers http://127.0.0.1:2379 --service-cluster-ip-range 10.96.0.0/24 \
  --token-auth-file "$work/tokens" --authorization-mode AlwaysAllow --disable-admission-plugins ServiceAccount \
  --kubelet-preferred-address-types InternalIP --insecure-port 0 --service-account-key-file "$work/sa.key" \
  --service-account-signing-key-file "$work/sa.key" --service-account-issuer https://elsewhen.test --cert-dir "$work/certs" \
  --advertise-address 10.77.0.1 --allow-privileged
cat >"$work/kubeconfig" <<C
apiVersion: v1
kind: Config
clusters: [{ name: c, cluster: { server: "https://10.77.0.1:6443", insecure-skip-tls-verify: true } }]
users: [{ name: u, user: { token: secret } }]
contexts: [{ name: c, context: { cluster: c, user: u } }]
current-context: c
C
export KUBECONFIG=$work/kubeconfig
until_true kubectl get --raw /readyz
cat >"$work/kubelet.yaml" <<C
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication: { anonymous: { enabled: true }, webhook: { enabled: false } }
authorization: { mode: AlwaysAllow }
cgroupDriver: cgroupfs
cgroupsPerQOS: false
enforceNodeAllocatable: []
failSwapOn: false
oomScoreAdj: 0
resolvConf: ""
C
start kubelet "$cache/kubelet" --kubeconfig "$work/kubeconfig" --config "$work/kubelet.yaml" --node-ip 10.77.0.1 \
  --hostname-override node --node-labels elsewhen=yes --container-runtime remote \
  --container-runtime-endpoint "unix://$work/c.sock" --root-dir "$work/kubelet" --cert-dir "$work/kubelet-certs"
ready() { kubectl get node node -o jsonpath='{.status.conditions[?(@.type=="Ready")].status}' | grep -q True; }
until_true ready

# The runtime class as it is, and the pod of the example, on this node.
kubectl create --dry-run=client -o json -f "$deploy/install.yaml" | jq 'if .items then .items[] else . end | select(.kind == "RuntimeClass")' |
  kubectl apply -f - >/dev/null
pod() { # NAME, and a filter of jq
  kubectl create --dry-run=client -o json -f "$deploy/example.yaml" | jq ".spec.template | {
    apiVersion: \"v1\", kind: \"Pod\", metadata: (.metadata + {name: \"$1\"}), spec: (.spec + {nodeName: \"node\", hostNetwork: true})
  } | .spec.containers[0].image = \"localhost/busybox:1\" | .spec.containers[0].imagePullPolicy = \"Never\" | $2" |
    kubectl apply -f - >/dev/null
  until_true kubectl wait --for=condition=Ready --timeout=1s "pod/$1"
}
pod a-year-ahead .
pod plain 'del(.spec.runtimeClassName) | del(.metadata.annotations)'
seen() { # what, and the year that was printed
  printf '%-34s %s\n' "$1" "$2"
}
year=$(date +%Y)
ahead=$(date -d '+31536000 seconds' +%Y)
logs() { kubectl logs --insecure-skip-tls-verify-backend "$1" | grep -o '[0-9]*$' | head -n 1; }
of_logs=$(logs a-year-ahead) of_exec=$(kubectl exec a-year-ahead -- date +%Y) of_plain=$(kubectl exec plain -- date +%Y)
seen "kubectl logs a-year-ahead" "$of_logs"
seen "kubectl exec a-year-ahead -- date" "$of_exec"
seen "kubectl exec plain -- date" "$of_plain"
elsewhen ls -o CONTAINER,MEMBERS,OFFSET
kubectl delete pod a-year-ahead plain --wait=true >/dev/null
gone() { [ -z "$(ls -A /run/elsewhen/.containers 2>/dev/null)" ]; }
until_true gone
[ "$of_logs $of_exec $of_plain" = "$ahead $ahead $year" ]
