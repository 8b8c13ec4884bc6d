/**
 * Byte-level BPE writes tokens in an alphabet of 256 printable characters, one for each byte: bytes that Latin-1
 * prints stand for themselves, the others count up from U+0100 in byte order.
 */
const PRINTABLE: readonly (readonly [number, number])[] = [
  [0x21, 0x7e],
  [0xa1, 0xac],
  [0xae, 0xff],
];

/** `BYTE_LETTERS[byte]` is the letter of that byte. */
export const BYTE_LETTERS: readonly string[] = letters();

const BYTE_OF_CODE = new Int16Array(0x200).fill(-1);
for (const [byte, letter] of BYTE_LETTERS.entries()) BYTE_OF_CODE[letter.charCodeAt(0)] = byte;

/** All letters: the last is that of the 68th byte which Latin-1 does not print. */
const WRITTEN = /^[!-~\xa1-\xac\xae-\u0143]+$/;

/** The byte that the letter at `index` of `token` stands for, -1 when it is not in the alphabet. */
export function byteAt(token: string, index: number): number {
  const code = token.charCodeAt(index);
  return code < BYTE_OF_CODE.length ? BYTE_OF_CODE[code] : -1;
}

/** The bytes that a text in the alphabet stands for. */
export function bytesOf(text: string): Uint8Array {
  const codes = Buffer.from(text, "utf16le");
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < bytes.length; i++) bytes[i] = BYTE_OF_CODE[codes[2 * i] | (codes[2 * i + 1] << 8)];
  return bytes;
}

/** Whether a token is written in the alphabet throughout. */
export function isWritten(token: string): boolean {
  return WRITTEN.test(token);
}

function letters(): string[] {
  let spare = 0x100;
  return Array.from({ length: 256 }, (_, byte) =>
    String.fromCharCode(PRINTABLE.some(([from, to]) => byte >= from && byte <= to) ? byte : spare++),
  );
}
