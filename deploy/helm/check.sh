#!/usr/bin/env bash
# Lints the chart and checks what it renders against Kubernetes' own description of its objects: see tools.sh for what it needs.
set -euo pipefail
cd "$(dirname "$0")"
. ./tools.sh
schemas=$(mktemp -d)
trap 'rm -rf "$schemas"' EXIT
python3 schemas.py "$kubernetes/api/openapi-spec/swagger.json" "$schemas/strict"
render() { helm template guard qwen3guard --kube-version "$version" "$@"; }
for values in ci/all.yaml ci/serve.yaml; do
  helm lint --strict qwen3guard -f "$values"
  render -f "$values" |
    kubeconform -strict -summary -schema-location "$schemas/strict/{{.ResourceKind}}{{.KindSuffix}}.json"
done
if render > /dev/null 2>&1; then echo "A proxy without an upstream must be refused."; exit 1; fi
