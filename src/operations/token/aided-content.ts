/**
 * What a token file stands for, with the help of the auxiliary tokens that came along: hashes say what may be
 * taken from elsewhere, checksums whether it arrived.
 *
 * Invariant: what is not genuine or not complete among those that are needed is refused before anything is
 * written. Kinds that are not known are left alone.
 */
import type { FormatId } from '../../formats/disk-image.js';
import type { Host, ProgressSink } from '../host.js';
import { AuxiliarySet } from './auxiliary-read.js';
import { resolveContent, type Selection, select, type TokenContent } from './content.js';
import { type FoundContent, resolveFound } from './have.js';
import type { OpenTokens } from './store.js';
import { takeTokens } from './token-file.js';
import { compareWith, expectationOf, type Verified } from './verify.js';

export interface AidOptions {
  /** Compare the target with the checksums that came along, if any did. Default true. */
  verify?: boolean;
  /** Images that may hold blocks of the data: used where hashes say so, the tokens for the rest. */
  have?: readonly string[];
  /** Called when another piece of work begins: whom to tell how far it got. */
  onStage?: (stage: 'search' | 'write' | 'verify') => Promise<ProgressSink>;
}

interface ContentOptions extends AidOptions, Selection {
  tokens: string;
  target: string;
  offset?: number;
  dryRun?: boolean;
  signal?: AbortSignal;
}

export interface AidedContent {
  content: TokenContent;
  /** Who is told of the writing, if that is another one than at the beginning. */
  progress: ProgressSink | undefined;
  /** Bytes that were found in other images; null when none were named. Final once everything was written. */
  reused(): number | null;
  /**
   * Compares the target with the checksums; null where there is nothing to compare.
   * @throws VERIFY_FAILED, CANCELLED, IO_FAILED
   */
  verify(format: FormatId): Promise<Verified | null>;
  close(): Promise<void>;
}

/** @throws what resolveContent, resolveFound and expectationOf throw */
export async function openAidedContent(
  host: Host,
  { manager, store }: Pick<OpenTokens, 'manager' | 'store'>,
  options: ContentOptions,
): Promise<AidedContent> {
  const { tokens: path, target, offset = 0, verify = true, dryRun = false, have = [], signal } = options;
  const { ranges, auxiliary: tokens } = await takeTokens(host, path, store);
  const key = await store.key();
  const auxiliary = new AuxiliarySet(host, path, tokens, key);
  const watch = signal ? { signal } : {};
  try {
    const selected = select(ranges, options, path);
    const expectation = verify && !dryRun ? await expectationOf(auxiliary, selected, store) : undefined;
    let found: FoundContent | undefined;
    if (have.length > 0) {
      const progress = await options.onStage?.('search');
      const search = {
        ...selectionOf(options),
        ...watch,
        ...(progress ? { progress } : {}),
        have,
        key,
        store,
      };
      found = await resolveFound(host, manager, ranges, auxiliary, path, search);
    }
    const content = found ?? (await resolveContent(manager, ranges, options, path));
    return {
      content,
      progress: found ? await options.onStage?.('write') : undefined,
      reused: () => found?.reused() ?? null,
      async verify(format) {
        if (!expectation) return null;
        const progress = await options.onStage?.('verify');
        const comparison = { target, format, offset, ...watch, ...(progress ? { progress } : {}) };
        return compareWith(host, store, expectation, comparison);
      },
      async close() {
        if (found) await found.close();
        else content.release();
        await auxiliary.close();
      },
    };
  } catch (error) {
    await auxiliary.close();
    throw error;
  }
}

function selectionOf({ tokenOffset, length }: Selection): Selection {
  return {
    ...(tokenOffset === undefined ? {} : { tokenOffset }),
    ...(length === undefined ? {} : { length }),
  };
}
