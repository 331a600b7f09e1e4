/** What tests write into chunks of write-once devices, in this process and in others. */

/** Bytes that tell chunk and writer; no two sectors are alike. */
export function filled(length: number, chunk: number, writer = 1): Uint8Array {
  const bytes = new Uint8Array(length).fill(1 + ((chunk * 16 + writer) % 255));
  const view = new DataView(bytes.buffer);
  for (let at = 0; at + 12 <= length; at += 512) {
    view.setUint32(at, chunk);
    view.setUint32(at + 4, writer);
    view.setUint32(at + 8, at);
  }
  return bytes;
}
