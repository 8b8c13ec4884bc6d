import type { Choice } from "./answer-forms.js";
import { type AnswerReader, logProbabilities } from "./answer-reader.js";

/** What a model makes of a choice of names. */
export interface Scores {
  /** Of each name, among all of them: they add up to 1. */
  probabilities: number[];
  /** Index of the name that greedy decoding writes. */
  written: number;
}

/**
 * Names that are this many times less likely than the likeliest are not read to their end: their probability, which
 * can only be less, is given as what it is up to there.
 */
const NEGLIGIBLE = 1000;

/** Of a tree of names by their tokens. */
interface Node {
  children: Map<number, Node>;
  /** Names from here on, by index. */
  names: number[];
}

/**
 * The probability of each name at an answer's next place. The names are a tree of tokens, gone through depth first, the
 * likelier branch before the others: the first name that is reached is the one that greedy decoding writes.
 *
 * @param whole each name's probability is that of all its tokens; else of those that tell it from the others
 */
export async function scoreNames(
  reader: AnswerReader,
  { names, answers }: Choice,
  whole: boolean,
): Promise<Scores> {
  const logs = new Array<number>(names.length).fill(Number.NEGATIVE_INFINITY);
  let written = -1;
  let best = Number.NEGATIVE_INFINITY;
  const settle = (node: Node, log: number) => {
    for (const name of node.names) logs[name] = log - Math.log(node.names.length);
  };
  const visit = async (node: Node, answer: readonly number[], log: number): Promise<void> => {
    if (node.children.size === 0 || (!whole && node.names.length === 1)) {
      if (written === -1) written = node.names[0];
      best = Math.max(best, log);
      settle(node, log);
      return;
    }
    if (log < best - Math.log(NEGLIGIBLE)) return settle(node, log);
    const ids = [...node.children.keys()];
    const found = await reader.after(answer, (logits) => logProbabilities(logits, ids));
    const branches = ids.map((id, i) => ({ id, log: log + found[i] })).sort((a, b) => b.log - a.log);
    for (const branch of branches) {
      await visit(node.children.get(branch.id) as Node, [...answer, branch.id], branch.log);
    }
  };
  const { root, lead } = treeOf(answers);
  await visit(root, lead, 0);
  return { probabilities: shares(logs), written };
}

/** The tree of the answers behind what all of them begin with. */
function treeOf(answers: readonly (readonly number[])[]): { root: Node; lead: readonly number[] } {
  const [first, ...others] = answers;
  let common = 0;
  while (common < first.length - 1 && others.every((ids) => ids[common] === first[common])) common++;
  const root: Node = { children: new Map(), names: [] };
  answers.forEach((ids, name) => {
    let node = root;
    node.names.push(name);
    for (const id of ids.slice(common)) {
      let next = node.children.get(id);
      if (!next) {
        next = { children: new Map(), names: [] };
        node.children.set(id, next);
      }
      next.names.push(name);
      node = next;
    }
  });
  return { root, lead: first.slice(0, common) };
}

function shares(logs: readonly number[]): number[] {
  const highest = Math.max(...logs);
  const weights = logs.map((log) => Math.exp(log - highest));
  const sum = weights.reduce((total, weight) => total + weight, 0);
  return weights.map((weight) => weight / sum);
}
