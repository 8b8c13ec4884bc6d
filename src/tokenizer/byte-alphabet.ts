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

const BYTE_OF_LETTER = new Map(BYTE_LETTERS.map((letter, byte) => [letter, byte]));

/** The bytes written by `token`, or null when it holds a character outside the alphabet. */
export function bytesOfLetters(token: string): Uint8Array | null {
  const bytes = new Uint8Array(token.length);
  for (let i = 0; i < token.length; i++) {
    const byte = BYTE_OF_LETTER.get(token[i]);
    if (byte === undefined) return null;
    bytes[i] = byte;
  }
  return bytes;
}

function letters(): string[] {
  let spare = 0x100;
  return Array.from({ length: 256 }, (_, byte) =>
    String.fromCharCode(PRINTABLE.some(([from, to]) => byte >= from && byte <= to) ? byte : spare++),
  );
}
