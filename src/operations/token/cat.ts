/**
 * `token cat`: the bytes that tokens stand for, read through them; for when nothing can be offloaded.
 *
 * Invariant: at the end the tokens are verified once more, so that whoever took all bytes knows whether they
 * are of one moment.
 */
import { throwIfAborted } from '../../base/errors.js';
import type { Host } from '../host.js';
import { resolveContent, type Selection } from './content.js';
import { openTokens, type StoreChoice } from './store.js';
import { takeTokens } from './token-file.js';
import { watchTokens } from './watch.js';

const CHUNK = 1024 * 1024;

export interface TokenCatOptions extends Selection {
  /** The token file. */
  tokens: string;
  store?: StoreChoice;
  signal?: AbortSignal;
}

export interface TokenBytes {
  readonly length: number;
  /** The bytes in order. A chunk's buffer is valid only until the next step. @throws SOURCE_CHANGED at the end */
  chunks(): AsyncGenerator<Uint8Array>;
  close(): Promise<void>;
}

/** @throws TOKEN_INVALID, TOKEN_EXPIRED, SOURCE_CHANGED, PERMISSION_DENIED, OUT_OF_RANGE, TOKEN_STORE_FAILED */
export async function openTokenBytes(host: Host, options: TokenCatOptions): Promise<TokenBytes> {
  const { tokens: path, signal } = options;
  const tokens = await openTokens(host, options.store);
  try {
    const { ranges } = await takeTokens(host, path, tokens.store);
    const content = await resolveContent(tokens.manager, ranges, options, path);
    const watch = watchTokens(host, tokens.manager, {});
    return {
      length: content.length,
      async *chunks() {
        const buffer = new Uint8Array(Math.min(CHUNK, content.length));
        for (const extent of content.extents) {
          for (let done = 0; done < extent.length; done += CHUNK) {
            throwIfAborted(signal, 'read tokens');
            const part = buffer.subarray(0, Math.min(CHUNK, extent.length - done));
            const count =
              extent.state === 'data' ? await extent.file.read(part, extent.fileOffset + done) : 0;
            part.fill(0, count);
            yield part;
          }
        }
        await content.verifyUnchanged();
      },
      async close() {
        await watch.stop();
        content.release();
        await tokens.close();
      },
    };
  } catch (error) {
    await tokens.close();
    throw error;
  }
}
