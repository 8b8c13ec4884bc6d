import { BaseSequencer, type TestSpecification } from "vitest/node";

/** The files that take longest, so that none of them runs alone at the end. */
const LONG = [
  "deploy/spark",
  "engine/formats",
  "gateway/load",
  "cli/stop",
  "ui/playground",
  "deploy/nginx",
  "engine/fidelity",
  "examples/examples",
  "cli/workers",
  "cli/serve-workers",
  "gateway/answer/answers.fuzz",
  "cli/audit",
  "cli/eval",
  "serve/streams",
  "tokenizer/limits",
  "deploy/hadoop",
  "checkpoint/folders.fuzz",
  "cli/scan",
  "runtime/devices/cuda/install/install",
  "gen-guard",
  "cli/proxy-upstream",
  "moderation/reuse-slides",
  "ui/report",
  "moderation/closely",
  "gateway/access/access",
  "gateway/proxy",
  "tokenizer/incremental.property",
  "tokenizer/chat-template/jinja-template",
  "gate/moderate",
  "moderation/gen/golden",
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
