/** Tokens that are found in the text itself before anything else, such as `<think>`: leftmost first, longest first. */
export class AddedTokens {
  readonly #byFirst = new Map<string, { content: string; id: number }[]>();

  /** `tokens`: text → id. */
  constructor(tokens: ReadonlyMap<string, number>) {
    for (const [content, id] of [...tokens].sort(([a], [b]) => b.length - a.length)) {
      const others = this.#byFirst.get(content[0]);
      if (others === undefined) this.#byFirst.set(content[0], [{ content, id }]);
      else others.push({ content, id });
    }
  }

  /**
   * Hands over the text piece by piece: plain stretches and tokens' ids, in order. Returns where it stopped: at
   * the text's end if it is `complete`, else where a token, or a longer one, may have begun.
   */
  split(text: string, complete: boolean, plain: (text: string) => void, token: (id: number) => void): number {
    let done = 0;
    let i = 0;
    while (i < text.length) {
      let found: { content: string; id: number } | undefined;
      for (const candidate of this.#byFirst.get(text[i]) ?? []) {
        if (text.startsWith(candidate.content, i)) {
          found = candidate;
          break;
        }
        if (!complete && candidate.content.startsWith(text.slice(i, i + candidate.content.length))) {
          if (i > done) plain(text.slice(done, i));
          return i;
        }
      }
      if (found === undefined) {
        i++;
        continue;
      }
      if (i > done) plain(text.slice(done, i));
      token(found.id);
      i += found.content.length;
      done = i;
    }
    if (i > done) plain(text.slice(done, i));
    return i;
  }
}
