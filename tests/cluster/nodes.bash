# shellcheck shell=bash disable=SC2034,SC2154 # sourced by control-plane: the variables are its own
# What control-plane does more when it has nodes.

node_address() { echo "10.111.0.$((${1#node-} + 1))"; }
node_pods() { echo "10.244.${1#node-}.0/24"; }

user kube-scheduler system:kube-scheduler "" "$address" "$inner_port"
user kube-proxy system:kube-proxy "" "$address" "$inner_port"
for ((node = 1; node <= nodes; node++)); do
  user "node-$node" "system:node:node-$node" system:nodes "$address" "$inner_port"
done

# Kubelets do what the holder of this key says, and nobody else.
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 7 -subj /CN=kube-apiserver \
  -keyout kubelet-client.key -out kubelet-client.crt 2>/dev/null
apiserver+=(--kubelet-client-certificate=kubelet-client.crt --kubelet-client-key=kubelet-client.key
  --kubelet-preferred-address-types=InternalIP)

scheduler=("$bin/kube-scheduler" --kubeconfig=kube-scheduler.kubeconfig --leader-elect=false --secure-port=0
  --kube-api-qps=2000 --kube-api-burst=4000)

# Who is below in /sys/fs/cgroup belongs to this run. With version 1 there is such a directory for each controller.
cgroup=kubernaut-$$
if [[ -e /sys/fs/cgroup/cgroup.controllers ]]; then
  hierarchies=(/sys/fs/cgroup)
else
  hierarchies=()
  for hierarchy in /sys/fs/cgroup/*/; do
    ! mountpoint -q "$hierarchy" || hierarchies+=("${hierarchy%/}")
  done
fi

make_cgroup() { # below the cgroup of the run, or '' for that
  local hierarchy file controller parent=$cgroup
  [[ $1 ]] || parent=.
  for hierarchy in "${hierarchies[@]}"; do
    if [[ -e $hierarchy/cgroup.controllers ]]; then
      # A controller that the machine keeps to itself is missed by the kubelet, which says so.
      for controller in cpu cpuset memory pids; do
        echo "+$controller" >"$hierarchy/$parent/cgroup.subtree_control" || true
      done 2>/dev/null
    fi
    mkdir -p "$hierarchy/$cgroup/$1"
    # Nothing may enter a cpuset of version 1 before it has processors and memory.
    for file in cpuset.cpus cpuset.mems; do
      [[ $hierarchy != */cpuset ]] || cat "$hierarchy/$file" >"$hierarchy/$cgroup/$1/$file"
    done
  done
}

remove_cgroups() {
  local hierarchy left i
  # A process that was killed leaves its cgroup a little later.
  for ((i = 0; i < 100; i++)); do
    left=0
    for hierarchy in "${hierarchies[@]}"; do
      [[ -d $hierarchy/$cgroup ]] || continue
      find "$hierarchy/$cgroup" -depth -type d -exec rmdir {} + || left=1
    done
    ((left)) || return 0
    sleep 0.05
  done
}
make_cgroup ''

ip -batch - <<IP
link set lo up
link add nodes type bridge
address add $address/24 dev nodes
link set nodes up
IP

# Where Debian and its descendants put the plugins, and where everybody else does.
cni=/usr/lib/cni
[[ -x $cni/bridge ]] || cni=/opt/cni/bin

# Sets `command` for a part that only a cluster with nodes has.
command_of_node() { # part
  local node=${1#*@}
  case $1 in
    kube-scheduler) command=("${scheduler[@]}") ;;
    node-*)
      configure "$1"
      command=(unshare --mount --net --pid --uts --ipc --fork --kill-child --mount-proc --propagation private --
        "$here/node-init" "$state/$1" "$1")
      ;;
    containerd@node-*) command=(containerd --config="$state/$node/containerd.toml") ;;
    kube-proxy@node-*) command=("$bin/kube-proxy" --config="$state/$node/kube-proxy.yaml") ;;
    kubelet@node-*)
      command=("$bin/kubelet" --config="$state/$node/kubelet.yaml" --kubeconfig="$state/$node.kubeconfig"
        --hostname-override="$node" --node-ip="$(node_address "$node")")
      ;;
    *) return 1 ;;
  esac
  [[ $1 != *@* ]] || command=(nsenter --target "$(<"pid/$node")" --all -- "${command[@]}")
}

# Gives a node its cable and its addresses, and returns when node-init has done the rest.
plug_in() { # node, number of its first process
  local node=$1 other
  # A link of before goes with its node, but not at once.
  ip link delete "$node" 2>/dev/null || true
  ip link add "$node" type veth peer name eth0 netns "$2"
  ip link set "$node" master nodes up
  ip route replace "$(node_pods "$node")" via "$(node_address "$node")"
  # For webhooks: the API server has no kube-proxy beside it.
  [[ $node != node-1 ]] || ip route replace 10.96.0.0/24 via "$(node_address "$node")"
  {
    echo "link set lo up"
    echo "link set eth0 up"
    echo "address add $(node_address "$node")/24 dev eth0"
    # What a node itself sends to a Service needs a way before kube-proxy gives it another.
    echo "route add 10.96.0.0/24 dev eth0"
    for ((other = 1; other <= nodes; other++)); do
      [[ $node == "node-$other" ]] ||
        echo "route add $(node_pods "node-$other") via $(node_address "node-$other")"
    done
  } | nsenter --target "$2" --net ip -batch -
  until [[ -e $node/up ]]; do
    if ! kill -0 "$2" 2>/dev/null; then
      echo "control-plane: $node ended at once:" >&2
      cat "log/$node.log" >&2
      exit 1
    fi
    sleep 0.01
  done
}

configure() { # node
  local node=$1
  rm -rf "$node"
  mkdir -p "$node/cni"
  make_cgroup "$node"

  cat >"$node/cni/bridge.conflist" <<JSON
{"cniVersion": "1.0.0", "name": "pods", "plugins": [{
  "type": "bridge", "bridge": "pods", "isGateway": true, "hairpinMode": true,
  "ipam": {"type": "host-local", "ranges": [[{"subnet": "$(node_pods "$node")"}]], "routes": [{"dst": "0.0.0.0/0"}]}
}]}
JSON

  # A root without CAP_SYS_RESOURCE may not lower the score by which the kernel chooses what to kill.
  cat >"$node/containerd.toml" <<TOML
version = 2
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "kubernaut.test/pause:1"
  restrict_oom_score_adj = true
  disable_apparmor = true
[plugins."io.containerd.grpc.v1.cri".cni]
  bin_dir = "$cni"
  conf_dir = "$state/$node/cni"
TOML

  # No DNS runs, yet without an address of one each pod gets a warning. Nothing is evicted because the disk of a
  # developer is full. A lease this short lets a test see within seconds that a node is gone.
  cat >"$node/kubelet.yaml" <<YAML
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication: {anonymous: {enabled: false}, webhook: {enabled: false}, x509: {clientCAFile: $state/kubelet-client.crt}}
authorization: {mode: AlwaysAllow}
cgroupDriver: cgroupfs
cgroupRoot: /$cgroup/$node
failCgroupV1: false
failSwapOn: false
oomScoreAdj: 0
containerRuntimeEndpoint: unix:///run/containerd/containerd.sock
volumePluginDir: /var/lib/kubelet/volume-plugins
clusterDomain: cluster.local
clusterDNS: [10.96.0.10]
resolvConf: ""
makeIPTablesUtilChains: false
healthzPort: 0
evictionHard: {memory.available: 0%, nodefs.available: 0%, nodefs.inodesFree: 0%, imagefs.available: 0%, imagefs.inodesFree: 0%}
imageGCHighThresholdPercent: 100
nodeLeaseDurationSeconds: 8
nodeStatusUpdateFrequency: 2s
kubeAPIQPS: 200
kubeAPIBurst: 400
eventRecordQPS: 0
seccompDefault: true
YAML

  # The limits of connection tracking are the machine's, which a namespace may not set.
  cat >"$node/kube-proxy.yaml" <<YAML
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: nftables
clientConnection: {kubeconfig: $state/kube-proxy.kubeconfig}
clusterCIDR: 10.244.0.0/16
hostnameOverride: $node
healthzBindAddress: ""
metricsBindAddress: 127.0.0.1:10249
oomScoreAdj: 0
conntrack: {maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}
YAML
}
