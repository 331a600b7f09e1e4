/**
 * CRC-32C (Castagnoli), reflected polynomial 0x82F63B78, as VHDX uses it.
 *
 * Sixteen table lookups per sixteen bytes ("slicing by 16"), taken from the bytes as 32-bit words: one flat
 * table of 16 KiB that is built in well under a millisecond, and more than a gigabyte per second, so that no
 * native code is needed. Not the polynomial of zip and of `zlib.crc32`.
 */

const POLYNOMIAL = 0x82f63b78;
const SLICES = 16;

/** Row `s` of 256 entries: the remainder of a byte with `s` zero bytes behind it. */
function buildTable(): Int32Array {
  const table = new Int32Array(SLICES * 256);
  for (let value = 0; value < 256; value += 1) {
    let crc = value;
    for (let bit = 0; bit < 8; bit += 1) crc = crc & 1 ? (crc >>> 1) ^ POLYNOMIAL : crc >>> 1;
    table[value] = crc;
  }
  for (let at = 256; at < table.length; at += 1) {
    const previous = table[at - 256] as number;
    table[at] = (previous >>> 8) ^ (table[previous & 0xff] as number);
  }
  return table;
}

let built: Int32Array | undefined;

const LITTLE_ENDIAN = new Uint8Array(new Uint32Array([1]).buffer)[0] === 1;

/** One byte after the other; in and out is the running remainder. */
function byBytes(table: Int32Array, bytes: Uint8Array, from: number, to: number, remainder: number): number {
  let crc = remainder;
  for (let at = from; at < to; at += 1)
    crc = (crc >>> 8) ^ (table[(crc ^ (bytes[at] as number)) & 0xff] as number);
  return crc;
}

/** Four words at a time. The first of them takes the remainder in, and has the longest way to go. */
function byWords(table: Int32Array, words: Int32Array, remainder: number): number {
  // Every index is masked or shifted to what the table has, and the words are counted: never undefined.
  const t = table as unknown as number[];
  const w = words as unknown as number[];
  const count = words.length;
  let crc = remainder;
  for (let at = 0; at < count; at += 4) {
    const a = (w[at] as number) ^ crc;
    const b = w[at + 1] as number;
    const c = w[at + 2] as number;
    const d = w[at + 3] as number;
    crc =
      (t[3840 | (a & 0xff)] as number) ^
      (t[3584 | ((a >>> 8) & 0xff)] as number) ^
      (t[3328 | ((a >>> 16) & 0xff)] as number) ^
      (t[3072 | (a >>> 24)] as number) ^
      (t[2816 | (b & 0xff)] as number) ^
      (t[2560 | ((b >>> 8) & 0xff)] as number) ^
      (t[2304 | ((b >>> 16) & 0xff)] as number) ^
      (t[2048 | (b >>> 24)] as number) ^
      (t[1792 | (c & 0xff)] as number) ^
      (t[1536 | ((c >>> 8) & 0xff)] as number) ^
      (t[1280 | ((c >>> 16) & 0xff)] as number) ^
      (t[1024 | (c >>> 24)] as number) ^
      (t[768 | (d & 0xff)] as number) ^
      (t[512 | ((d >>> 8) & 0xff)] as number) ^
      (t[256 | ((d >>> 16) & 0xff)] as number) ^
      (t[d >>> 24] as number);
  }
  return crc;
}

/** CRC-32C of the bytes; pass an earlier result as `seed` to go on with it. */
export function crc32c(bytes: Uint8Array, seed = 0): number {
  built ??= buildTable();
  const { buffer, byteOffset, length } = bytes;
  // Words begin at multiples of four of the underlying buffer.
  const start = LITTLE_ENDIAN ? Math.min(length, -byteOffset & 3) : length;
  const words = ((length - start) >>> 4) << 2;
  let crc = byBytes(built, bytes, 0, start, ~seed);
  if (words > 0) crc = byWords(built, new Int32Array(buffer, byteOffset + start, words), crc);
  return ~byBytes(built, bytes, start + words * 4, length, crc) >>> 0;
}
