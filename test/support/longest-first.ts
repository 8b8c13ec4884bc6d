import { BaseSequencer, type TestSpecification } from "vitest/node";

/** The files that take longest, so that none of them runs alone at the end. */
const LONG = [
  "deploy/spark",
  "ui/playground",
  "engine/formats",
  "gateway/load",
  "engine/fidelity",
  "examples/examples",
  "deploy/nginx",
  "cli/scan",
  "cli/serve-workers",
  "gateway/proxy",
  "cli/workers",
  "cli/eval",
  "checkpoint/folders.fuzz",
  "tokenizer/incremental.property",
  "cli/audit",
  "ui/report",
  "tokenizer/limits",
  "gate/scan-policy",
  "serve/streams",
  "download/hub",
];

/** Files that share a process come one after the other, after those that have one of their own; of each the long ones first. */
export class LongestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const rank = ({ moduleId, project }: TestSpecification) => {
      const place = LONG.findIndex((name) => moduleId.endsWith(`/test/${name}.test.ts`));
      return (project.config.isolate ? 0 : 1000) + (place < 0 ? LONG.length : place);
    };
    return (await super.sort(files)).sort((a, b) => rank(a) - rank(b));
  }
}
