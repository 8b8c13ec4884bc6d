#!/usr/bin/env bash
# Lints the chart and checks what it renders against Kubernetes' own description of its objects. Needs Go and Python; helm
# and kubeconform are Go modules, installed if they are not there, and so is the description.
set -euo pipefail
cd "$(dirname "$0")"
version=1.30.0
PATH="$PATH:$(go env GOPATH)/bin"
command -v helm > /dev/null || go install helm.sh/helm/v3/cmd/helm@v3.22.0
command -v kubeconform > /dev/null || go install github.com/yannh/kubeconform/cmd/kubeconform@latest
schemas=$(mktemp -d)
trap 'rm -rf "$schemas"' EXIT
module=$(cd "$schemas" && go mod init check 2> /dev/null && go mod download -json "k8s.io/kubernetes@v$version" |
  python3 -c 'import json, sys; print(json.load(sys.stdin)["Dir"])')
python3 schemas.py "$module/api/openapi-spec/swagger.json" "$schemas/strict"
render() { helm template guard qwen3guard --kube-version "$version" "$@"; }
for values in ci/all.yaml ci/serve.yaml; do
  helm lint --strict qwen3guard -f "$values"
  render -f "$values" |
    kubeconform -strict -summary -schema-location "$schemas/strict/{{.ResourceKind}}{{.KindSuffix}}.json"
done
if render > /dev/null 2>&1; then echo "A proxy without an upstream must be refused."; exit 1; fi
