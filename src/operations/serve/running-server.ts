/**
 * A server with its disks: what is served by what name, and the order in which everything ends.
 *
 * Invariants: a device is closed only when no connection uses it any more; closing goes on with the others when
 * one fails, and the first failure is told at the end. Ending again does nothing.
 *
 * Not here: opening images (open-disk.ts), what the control socket says (routes.ts).
 */
import { VhdkitError } from '../../base/errors.js';
import { GuardedDevice } from '../../block/guarded-device.js';
import type { ControlServer } from '../../nbd/control-server.js';
import type { ConnectionInfo } from '../../nbd/events.js';
import { ExportList, type MetaContext, type NbdExport } from '../../nbd/export-table.js';
import type { NbdAddress, NbdServer } from '../../nbd/server.js';
import { exportUri } from './addresses.js';
import type { OpenedDisk } from './open-disk.js';
import type { ServedExport, ServeEnd } from './types.js';

/** How an export is added. */
export interface ExportOptions {
  /** For what is exported beside the disks, for example a snapshot: not closed with the server. */
  borrowed?: boolean;
  contexts?: readonly MetaContext[];
  description?: string;
}

interface Served {
  exported: NbdExport;
  disk: OpenedDisk;
  borrowed: boolean;
}

export class RunningServer {
  readonly table = new ExportList();
  readonly #encrypted: boolean;
  readonly #grace: number;
  readonly #served = new Map<string, Served>();
  readonly #addresses: NbdAddress[] = [];
  readonly #requestEnd: (reason: ServeEnd) => void;
  #nbd: NbdServer | undefined;
  #control: ControlServer | undefined;
  #ending: Promise<void> | undefined;

  /** @param requestEnd told when somebody asks for the end; ends the server in its own time */
  constructor(options: { encrypted: boolean; grace: number; requestEnd: (reason: ServeEnd) => void }) {
    this.#encrypted = options.encrypted;
    this.#grace = options.grace;
    this.#requestEnd = options.requestEnd;
  }

  /** @throws ALREADY_EXISTS (the name), INVALID_ARGUMENT (no name) */
  add(name: string, disk: OpenedDisk, options: ExportOptions = {}): void {
    const { borrowed = false, contexts, description } = options;
    const { readOnly } = disk;
    const exported: NbdExport = {
      name,
      device: new GuardedDevice(disk.device, { readOnly }),
      readOnly,
      ...(contexts ? { contexts } : {}),
      ...(description === undefined ? {} : { description }),
    };
    this.table.add(exported);
    this.#served.set(name, { exported, disk, borrowed });
  }

  /** Takes an export out of service; resolves when no client uses it any more. Its device stays open. */
  async remove(name: string): Promise<void> {
    const served = this.#served.get(name);
    this.#served.delete(name);
    this.table.remove(name);
    if (served) await this.#nbd?.drop(served.exported, { grace: this.#grace });
  }

  async listen(nbd: NbdServer, addresses: readonly NbdAddress[]): Promise<void> {
    this.#nbd = nbd;
    for (const address of addresses) this.#addresses.push(await nbd.listen(address));
  }

  /** The control server ends with this one. */
  attach(control: ControlServer): void {
    this.#control = control;
  }

  get addresses(): readonly NbdAddress[] {
    return this.#addresses;
  }

  disk(name: string): OpenedDisk | undefined {
    return this.#served.get(name)?.disk;
  }

  exports(): ServedExport[] {
    return [...this.#served].map(([name, { disk }]) => ({
      name,
      path: disk.path,
      format: disk.format,
      type: disk.type,
      virtualSize: disk.device.size,
      readOnly: disk.readOnly,
      overlay: disk.overlay,
      uris: this.#addresses.map((address) => exportUri(address, name, this.#encrypted)),
    }));
  }

  connections(): ConnectionInfo[] {
    return this.#nbd?.connections() ?? [];
  }

  /** Makes durable what was answered before. Answers the names. @throws NOT_FOUND */
  async flush(name?: string): Promise<string[]> {
    if (name !== undefined && !this.#served.has(name)) {
      throw new VhdkitError('NOT_FOUND', `There is no export '${name}'`, {
        operation: 'flush',
        hint: '`GET /v1/exports` tells what is served.',
      });
    }
    const wanted = [...this.#served].filter(([each]) => name === undefined || each === name);
    for (const [, { exported, disk }] of wanted) if (!disk.readOnly) await exported.device.flush();
    return wanted.map(([each]) => each);
  }

  stop(reason: ServeEnd): void {
    this.#requestEnd(reason);
  }

  /**
   * Stops listening, lets what is under way end, flushes, closes and unlocks everything.
   * @throws what closing the first device that failed threw
   */
  end(): Promise<void> {
    this.#ending ??= this.#end();
    return this.#ending;
  }

  async #end(): Promise<void> {
    const failures: unknown[] = [];
    const attempt = async (work: Promise<void> | undefined): Promise<void> => {
      try {
        await work;
      } catch (error) {
        failures.push(error);
      }
    };
    await attempt(this.#nbd?.close({ grace: this.#grace }));
    for (const { exported, borrowed } of this.#served.values()) {
      if (!borrowed) await attempt(exported.device.close());
    }
    await attempt(this.#control?.close());
    if (failures.length > 0) throw failures[0];
  }
}
