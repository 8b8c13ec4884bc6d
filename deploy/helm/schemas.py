"""Makes kubeconform's schemas, strict ones, of Kubernetes' own OpenAPI description: schemas.py swagger.json FOLDER"""

import json
import pathlib
import sys

swagger, folder = map(pathlib.Path, sys.argv[1:])
definitions = json.loads(swagger.read_text())["definitions"]
for name, schema in definitions.items():
    if "properties" in schema:
        schema.setdefault("additionalProperties", False)
    if schema.get("format") == "int-or-string":
        definitions[name] = {"type": ["string", "integer"]}
    if name.endswith("resource.Quantity"):
        definitions[name] = {"type": ["string", "number"]}
folder.mkdir(parents=True, exist_ok=True)
(folder / "_definitions.json").write_text(json.dumps({"definitions": definitions}))
for schema in definitions.values():
    for kind in schema.get("x-kubernetes-group-version-kind", []):
        group = "-" + kind["group"].split(".")[0] if kind["group"] else ""
        text = json.dumps(schema).replace("#/definitions/", "_definitions.json#/definitions/")
        (folder / f"{kind['kind'].lower()}{group}-{kind['version']}.json").write_text(text)
