import { BaseSequencer, type TestSpecification } from "vitest/node";

/** The files that take longest, so that none of them runs alone at the end. */
const LONG = [
  "deploy/spark",
  "gateway/load",
  "deploy/nginx",
  "ui/playground",
  "cli/stop",
  "examples/examples",
  "engine/formats",
  "engine/fidelity",
  "cli/workers",
  "gateway/answer/answers.fuzz",
  "cli/audit",
  "cli/serve-workers",
  "cli/scan",
  "tokenizer/incremental.property",
  "serve/streams",
  "checkpoint/folders.fuzz",
  "gateway/access/access",
  "tokenizer/chat-template/jinja-template",
  "cli/eval",
  "tokenizer/limits",
  "runtime/devices/cuda/install/install",
  "ui/report",
  "gateway/proxy",
  "gen-guard",
  "gate/scan-policy",
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
