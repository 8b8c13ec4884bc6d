import { type FileHandle, open, rename, rm } from "node:fs/promises";
import { StorageError } from "../../errors.js";
import { writablePlace } from "../../files/regular-file.js";
import { mendOf } from "../../files/write-fault.js";
import { GenGuard } from "../../gen-guard.js";
import type { Guard } from "../../guard.js";
import { NONE } from "../../moderation/gen/answer-forms.js";
import { contentText } from "../../tokenizer/chat-template/messages.js";
import { IncrementalDecoder } from "../../tokenizer/incremental.js";
import type { Tokenizer } from "../../tokenizer/tokenizer.js";
import { scriptJson } from "../../ui/html.js";
import type { Evaluation, JudgedRow } from "../evaluation.js";
import type { EvaluationType } from "../row.js";
import type { ReportData, ReportRow } from "./data.js";
import { labelNames, pageHead, pageTail, type Subject } from "./page.js";

/**
 * One self-contained page: metrics, the delays' histogram, each conversation as a heat map of its tokens. Rows are
 * kept as the text they will be on the page; the file appears when it is complete.
 */
export class Report {
  readonly #path: string;
  readonly #file: FileHandle;
  readonly #type: EvaluationType;
  readonly #labels: string[];
  readonly #categories: string[];
  readonly #tokenizer: Tokenizer;
  /** Each distinct text of a token, and its place. */
  readonly #texts = new Map<string, number>();
  readonly #rows: { line: number; json: string }[] = [];

  private constructor(path: string, file: FileHandle, type: EvaluationType, guard: Guard | GenGuard) {
    this.#path = path;
    this.#file = file;
    // A Gen guard says one thing of an answer, as any guard does of a prompt.
    this.#type = guard instanceof GenGuard ? "prompt" : type;
    const { labels } = guard;
    this.#labels = type === "prompt" ? labels.promptRisk : labels.responseRisk;
    this.#categories = [...(type === "prompt" ? labels.promptCategory : labels.responseCategory), NONE];
    this.#tokenizer = guard.tokenizer;
  }

  /**
   * Begins the file, so that a path that cannot be written shows before hours of work.
   * @throws {StorageError} REPORT_UNWRITABLE
   */
  static async create(path: string, type: EvaluationType, guard: Guard | GenGuard): Promise<Report> {
    try {
      const place = await writablePlace(path);
      return new Report(place, await open(partial(place), "w"), type, guard);
    } catch (cause) {
      throw unwritable(path, cause as Error);
    }
  }

  add({ row, judgements, outcome }: JudgedRow): void {
    const { annotation, messages, line } = row;
    const { label, unsafe, span, source, category, lang } = annotation;
    const {
      pred_risk_levels,
      pred_risk_prob,
      pred_categories,
      split_idx_eval: start,
      input_ids,
    } = judgements;
    const shown: ReportRow = {
      line,
      label,
      unsafe,
      found: outcome.found,
      flagged: outcome.flaggedAt,
      delay: outcome.delay,
      span,
      start,
      source,
      category,
      lang,
      messages: messages.map(({ role, content }) => ({
        role,
        content: contentText(content, role, "ignore"),
      })),
      levels: pred_risk_levels,
      probabilities: pred_risk_prob.map((probability) => Number(probability.toFixed(3))),
      categories: pred_categories.map((name) => this.#categories.indexOf(name)),
      texts: this.#type === "prompt" ? [] : this.#textsOf(input_ids.slice(start)),
    };
    this.#rows.push({ line, json: scriptJson(shown) });
  }

  /** @throws {StorageError} REPORT_UNWRITABLE */
  async finish(subject: Subject, evaluation: Evaluation): Promise<void> {
    this.#rows.sort((a, b) => a.line - b.line);
    try {
      for (const piece of this.#page(subject, evaluation)) await this.#file.appendFile(piece);
      await this.#file.close();
      await rename(partial(this.#path), this.#path);
    } catch (cause) {
      throw unwritable(this.#path, cause as Error);
    }
  }

  /** Leaves nothing behind where the page was not finished. */
  async discard(): Promise<void> {
    await this.#file.close();
    await rm(partial(this.#path), { force: true });
  }

  *#page(subject: Subject, evaluation: Evaluation): Generator<string> {
    yield pageHead(subject, evaluation);
    const data: Omit<ReportData, "rows"> = {
      type: this.#type,
      labels: labelNames(this.#labels),
      categories: this.#categories,
      texts: [...this.#texts.keys()],
    };
    const head = scriptJson(data);
    yield `${head.slice(0, -1)},"rows":[`;
    for (const [index, { json }] of this.#rows.entries()) yield index === 0 ? json : `,\n${json}`;
    yield "]}";
    yield pageTail();
  }

  #textsOf(ids: readonly number[]): number[] {
    const decoder = new IncrementalDecoder(this.#tokenizer);
    return ids.map((id, index) => {
      const text = decoder.push(id) + (index === ids.length - 1 ? decoder.end() : "");
      const known = this.#texts.get(text) ?? this.#texts.size;
      this.#texts.set(text, known);
      return known;
    });
  }
}

function partial(path: string): string {
  return `${path}.partial`;
}

function unwritable(path: string, cause: Error): StorageError {
  const message = `${path} cannot be written: ${cause.message}. ${mendOf(cause)}`;
  return new StorageError("REPORT_UNWRITABLE", message, { cause });
}
