/**
 * What a server offers: exports by name, each a block device, and the meta contexts of each.
 *
 * Invariant: a table can change while it is served; the server asks it anew for every negotiation and keeps
 * the export that a connection has chosen until that connection ends (`NbdServer.drop` ends them). Whoever
 * takes an export out drops it, waits, and only then closes the device: devices belong to their makers.
 */
import { VhdkitError } from '../base/errors.js';
import type { BlockDevice } from '../block/block-device.js';
import { MAX_STRING } from './protocol.js';

/** A run of a meta context. */
export interface ContextExtent {
  /** Bytes. */
  length: number;
  /** What the context says of it: 32 bits. */
  flags: number;
}

/** Something that can be asked of every block of an export, besides `base:allocation`, which the device tells. */
export interface MetaContext {
  /** `namespace:name`, for example `vhdkit:dirty-monday`. */
  readonly name: string;
  /** In order from `offset`; may end before the range does, but covers at least its first block. */
  extents(offset: number, length: number): Promise<ContextExtent[]>;
}

export interface NbdExport {
  readonly name: string;
  readonly description?: string;
  readonly device: BlockDevice;
  readonly readOnly: boolean;
  readonly contexts?: readonly MetaContext[];
}

export interface ExportTable {
  list(): readonly NbdExport[];
  find(name: string): NbdExport | undefined;
  /** What clients get that ask for the empty name. */
  readonly default?: NbdExport | undefined;
}

/** The export meant by a name; the empty one means the default, unless an export is called so. */
export function resolveExport(table: ExportTable, name: string): NbdExport | undefined {
  return table.find(name) ?? (name === '' ? table.default : undefined);
}

/** A table in memory. The default is the first export, or the one said to be. */
export class ExportList implements ExportTable {
  readonly #exports = new Map<string, NbdExport>();
  #default: string | undefined;

  /** @throws ALREADY_EXISTS, INVALID_ARGUMENT (a name that can't travel) */
  add(exported: NbdExport, options: { default?: boolean } = {}): void {
    const { name } = exported;
    if (Buffer.byteLength(name) > MAX_STRING || name.includes('\0'))
      throw new VhdkitError('INVALID_ARGUMENT', `Not a name for an export: '${name.slice(0, 80)}'`, {
        operation: 'add export',
        hint: `Choose a name of at most ${MAX_STRING} bytes.`,
      });
    if (this.#exports.has(name))
      throw new VhdkitError('ALREADY_EXISTS', `There is an export '${name}' already`, {
        operation: 'add export',
        hint: 'Choose another name.',
      });
    this.#exports.set(name, exported);
    if (options.default) this.#default = name;
  }

  /** The export that was taken out. Its connections go on until they are dropped. */
  remove(name: string): NbdExport | undefined {
    const exported = this.#exports.get(name);
    this.#exports.delete(name);
    if (this.#default === name) this.#default = undefined;
    return exported;
  }

  list(): readonly NbdExport[] {
    return [...this.#exports.values()];
  }

  find(name: string): NbdExport | undefined {
    return this.#exports.get(name);
  }

  get default(): NbdExport | undefined {
    if (this.#default !== undefined) return this.#exports.get(this.#default);
    return this.#exports.values().next().value;
  }
}
