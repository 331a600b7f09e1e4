/**
 * The auxiliary tokens of a token file, and the sums that belong to them.
 *
 * Invariants: a token's own auxiliary tokens are found by what they say of it, wherever both lie in the file;
 * those of tokens that are not there, and kinds that are not known, are left alone. Lists are looked at when
 * they are needed, and verified then.
 */
import { VhdkitError } from '../../base/errors.js';
import {
  type AuxiliaryFields,
  type AuxiliaryKind,
  type DecodedAuxiliary,
  decodeAuxiliary,
  primaryDigest,
} from '../../offload/auxiliary/auxiliary-codec.js';
import { listOf, type SumList, SumsFile } from '../../offload/auxiliary/sums-file.js';
import type { TokenStore } from '../../offload/store/token-store.js';
import type { Token } from '../../offload/token.js';
import { invalid } from '../../offload/token-refusal.js';
import type { Host } from '../host.js';
import { sumsPath } from './token-file.js';

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('hex');
}

type Refused = Extract<DecodedAuxiliary, { kind: 'refused' }>;

export class AuxiliarySet {
  readonly #host: Host;
  /** Of the token file. */
  readonly #path: string;
  readonly #known = new Map<string, AuxiliaryFields>();
  readonly #refused: Refused[] = [];
  #sums: Promise<SumsFile | undefined> | undefined;
  #close: (() => Promise<void>) | undefined;

  /** @param key the store's */
  constructor(host: Host, path: string, tokens: readonly Token[], key: Uint8Array) {
    this.#host = host;
    this.#path = path;
    for (const token of tokens) {
      const decoded = decodeAuxiliary(token, key);
      if (decoded?.kind === 'refused') this.#refused.push(decoded);
      if (decoded?.kind !== 'known') continue;
      const { fields } = decoded;
      this.#known.set(`${fields.kind} ${hex(fields.primary)}`, fields);
    }
  }

  has(kind: AuxiliaryKind): boolean {
    if (this.#refusedOf(kind)) return true;
    return [...this.#known.values()].some((fields) => fields.kind === kind);
  }

  /**
   * A refusal is counted in the store.
   * @throws TOKEN_INVALID (`forged`, `foreign`, `malformed`) when any token of this kind is not genuine
   */
  async assertGenuine(kind: AuxiliaryKind, store: TokenStore): Promise<void> {
    const bad = this.#refusedOf(kind);
    if (!bad) return;
    await store.countRefusal(bad.reason).catch(() => undefined);
    const { message, context } = invalid(bad.reason);
    const what = kind === 'checksum' ? 'Of a checksum token' : 'Of a hash token';
    throw new VhdkitError('TOKEN_INVALID', `${what}: ${message}`, {
      operation: 'use tokens',
      context: { ...context, path: this.#path, auxiliary: kind },
      hint:
        kind === 'checksum'
          ? 'Nothing was written. Read the tokens anew, or write without checksums (--no-verify).'
          : 'Nothing was written. Read the tokens anew, or write without --have.',
    });
  }

  /** One whose kind was damaged may have been of any. */
  #refusedOf(kind: AuxiliaryKind): Refused | undefined {
    return this.#refused.find(({ auxiliary }) => auxiliary === kind || auxiliary === 'unknown');
  }

  /** What goes with a token. */
  of(token: Token, kind: AuxiliaryKind): AuxiliaryFields | undefined {
    return this.#known.get(`${kind} ${hex(primaryDigest(token))}`);
  }

  /** @throws TOKEN_INVALID (`malformed`), IO_FAILED */
  async list(fields: AuxiliaryFields): Promise<SumList> {
    const path = sumsPath(this.#path);
    if (fields.list) return listOf(fields, undefined, path);
    this.#sums ??= this.#open(path);
    return listOf(fields, await this.#sums, path);
  }

  async #open(path: string): Promise<SumsFile | undefined> {
    const { fileSystem } = this.#host;
    if ((await fileSystem.kind(path)) !== 'file') return undefined;
    const file = await fileSystem.open(path);
    this.#close = () => file.close();
    return SumsFile.open(file);
  }

  async close(): Promise<void> {
    await this.#sums?.catch(() => undefined);
    await this.#close?.();
    this.#close = undefined;
  }
}
