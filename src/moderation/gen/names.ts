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
 * likelier branch before the others: the first name that is reached is the one that greedy decoding writes. Tokens that
 * have no other beside them are read in one run.
 *
 * @param whole each name's probability is that of all its tokens; else of those that tell it from the others
 * @param sequel ids behind which a question follows, whatever the name: they are read along with the one that is written
 */
export async function scoreNames(
  reader: AnswerReader,
  { names, answers }: Choice,
  whole: boolean,
  sequel?: readonly number[],
): Promise<Scores> {
  const { root, lead } = treeOf(answers);
  /** Of each name, less what is the same for all. */
  const logs = new Array<number>(names.length).fill(Number.NEGATIVE_INFINITY);
  let written = -1;
  let best = Number.NEGATIVE_INFINITY;
  const settle = (node: Node, log: number) => {
    for (const name of node.names) logs[name] = log - Math.log(node.names.length);
  };
  const visit = async (node: Node, answer: readonly number[], log: number): Promise<void> => {
    if (log < best - Math.log(NEGLIGIBLE)) return settle(node, log);
    const { ids, end } = straight(node, whole);
    const text = [...answer, ...ids];
    const branches = [...end.children.keys()];
    const isName = branches.length === 0 || (!whole && end.names.length === 1);
    const reads = [...ids.keys()].map((i) => answer.length + i);
    if (!isName) reads.push(text.length);
    else if (written === -1 && sequel) {
      await reader.expect([...text, ...sequel], [...reads, text.length + sequel.length]);
    }
    let branchLogs: number[] = [];
    await reader.along(text, reads, (logits, read) => {
      if (read < text.length) log += logProbabilities(logits, [text[read]])[0];
      // Where all names part only ratios count, and those take no sum over the vocabulary.
      else if (node === root) branchLogs = branches.map((id) => logits[id]);
      else branchLogs = logProbabilities(logits, branches);
    });
    if (isName) {
      if (written === -1) written = end.names[0];
      best = Math.max(best, log);
      return settle(end, log);
    }
    const children = branches.map((id, i) => ({ id, log: log + branchLogs[i] }));
    for (const child of children.sort((a, b) => b.log - a.log))
      await visit(end.children.get(child.id) as Node, [...text, child.id], child.log);
  };
  await visit(root, lead, 0);
  return { probabilities: shares(logs), written };
}

/** The tokens that come after a node whatever the name, and where they lead. */
function straight(node: Node, whole: boolean): { ids: number[]; end: Node } {
  const ids: number[] = [];
  let end = node;
  while (end.children.size === 1 && (whole || end.names.length > 1)) {
    const [[id, next]] = end.children;
    ids.push(id);
    end = next;
  }
  return { ids, end };
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
