/**
 * Snapshots of raw disks that are served: each one more export, `disk@name`, and commands that change them while
 * the disk is written to.
 *
 * | request | answer |
 * | --- | --- |
 * | `GET /v1/snapshots` | `{images}`: `{name, path}` of the exports that can have some |
 * | `GET /v1/exports/NAME/snapshots` | as `snapshot list` |
 * | `POST /v1/exports/NAME/snapshots` `{name?, device?, writeOnce?, chunkSize?, onFailure?, dryRun?}` | as `snapshot create` |
 * | `POST /v1/exports/NAME/snapshots/delete` `{names}` or `{all: true}`, `dryRun?` | as `snapshot delete` |
 * | `POST /v1/exports/NAME/snapshots/SNAPSHOT/restore` `{keep?, device?, dryRun?}` | as `snapshot restore` |
 * | `POST /v1/exports/NAME/snapshots/SNAPSHOT/export` `{target, to?, type?, provider?, verify?, force?, dryRun?}` | as `snapshot export` |
 *
 * Paths in requests are absolute. Each snapshot is also a meta context of the disk, `vhdkit:dirty-SNAPSHOT`: bit 0 is
 * set where the disk was written to since.
 *
 * Invariant: an export of a snapshot is gone, and nobody uses it any more, before the snapshot is deleted.
 */
import { VhdkitError } from '../../base/errors.js';
import { type AttachedSet, attachSnapshots, type ImageState } from '../../layers/snapshots.js';
import type { ControlRequest, ControlRoute } from '../../nbd/control-routes.js';
import type { MetaContext } from '../../nbd/export-table.js';
import type { Host } from '../host.js';
import { folderOf, snapshotAccess } from '../snapshot/access.js';
import { createIn, lostNames } from '../snapshot/create.js';
import { deleteIn } from '../snapshot/delete.js';
import { exportFrom } from '../snapshot/export.js';
import { factsOf } from '../snapshot/facts.js';
import { restoreIn } from '../snapshot/restore.js';
import type { SnapshotListResult } from '../snapshot/types.js';
import { findVolume } from '../snapshot/volume.js';
import type { OpenedDisk } from './open-disk.js';
import { optional, textsOf } from './request-fields.js';
import type { RunningServer } from './running-server.js';
import { exportRequest, newSnapshotRequest } from './snapshot-requests.js';
import type { ServedVolumes } from './volumes.js';

/** The bit of a dirty context. */
const DIRTY = 1;

interface ServedSet extends AttachedSet {
  name: string;
  /** Of the image, absolute. */
  path: string;
  disk: OpenedDisk;
  /** The disk's own list, which clients are given anew whenever they ask. */
  contexts: MetaContext[];
}

export interface KeptDisk {
  disk: OpenedDisk;
  contexts: readonly MetaContext[];
}

export class ServedSnapshots {
  readonly #host: Host;
  readonly #server: RunningServer;
  readonly #volumes: ServedVolumes;
  readonly #sets = new Map<string, ServedSet>();
  /** What a person should know. */
  readonly notices: string[] = [];

  constructor(host: Host, server: RunningServer, volumes: ServedVolumes) {
    this.#host = host;
    this.#server = server;
    this.#volumes = volumes;
  }

  /**
   * Puts the snapshots of a raw disk on top of it; other disks stay as they are. Closing the answer's device closes
   * all. @param asked the folder of its snapshots; default: beside it. @throws what opening them throws; then the disk is open as it was
   */
  async attach(name: string, disk: OpenedDisk, asked?: string): Promise<KeptDisk> {
    const { rawFile } = disk;
    if (!rawFile || (rawFile.kind === 'device' && asked === undefined)) return { disk, contexts: [] };
    const { fileSystem } = this.#host;
    const path = (await fileSystem.realPath?.(disk.path)) ?? disk.path;
    const folder = await folderOf(this.#host, path, asked);
    const access = snapshotAccess(this.#host);
    const attached = await attachSnapshots(disk.device, rawFile, access, { folder, writable: true });
    const kept = { ...disk, device: attached.set.volume };
    const served: ServedSet = { ...attached, name, path, disk: kept, contexts: [] };
    this.#sets.set(name, served);
    this.#notice(served, attached.state);
    // Goes on beside everything else; if it fails, `restore` takes it up again.
    attached.set.finishRestore().catch(() => undefined);
    return { disk: kept, contexts: served.contexts };
  }

  /** Exports the snapshots of a disk that is served by now. */
  publish(name: string): void {
    const served = this.#sets.get(name);
    for (const entry of served?.set.store.record.snapshots ?? [])
      if (served && entry.state === 'intact') this.#export(served, entry.name);
  }

  routes(): ControlRoute[] {
    const path = '/v1/exports/:name/snapshots';
    const one = `${path}/:snapshot`;
    const answer = async (result: object): Promise<object> => ({ schemaVersion: 1, ...result });
    return [
      {
        method: 'GET',
        path: '/v1/snapshots',
        handle: () => answer({ images: [...this.#sets.values()].map(({ name, path }) => ({ name, path })) }),
      },
      { method: 'GET', path, handle: async (request) => answer(await this.#list(this.#of(request))) },
      { method: 'POST', path, handle: async (request) => answer(await this.#create(request)) },
      {
        method: 'POST',
        path: `${path}/delete`,
        handle: async (request) => answer(await this.#delete(request)),
      },
      {
        method: 'POST',
        path: `${one}/restore`,
        handle: async (request) => answer(await this.#restore(request)),
      },
      {
        method: 'POST',
        path: `${one}/export`,
        handle: async (request) => answer(await this.#exportImage(request)),
      },
    ];
  }

  #notice({ path, set }: ServedSet, state: ImageState): void {
    const lost = lostNames(set);
    if (state === 'changed')
      this.notices.push(
        `${path} was changed by something else than vhdkit: its snapshots are lost (${lost.join(', ')})`,
      );
    if (state === 'not-closed')
      this.notices.push(`${path} was not closed properly: its snapshots are as they were`);
    const { restoring } = set.volume;
    if (restoring) this.notices.push(`${path} is still being put back to '${restoring.source.name}'`);
  }

  #of({ params }: ControlRequest): ServedSet {
    const served = this.#sets.get(params.name ?? '');
    if (served) return served;
    throw new VhdkitError('NOT_FOUND', `There is no raw disk '${params.name}' that can be written to`, {
      operation: 'find export',
      hint: '`GET /v1/snapshots` tells what can have snapshots.',
    });
  }

  #exportName(served: ServedSet, snapshot: string): string {
    return `${served.name}@${snapshot}`;
  }

  #export(served: ServedSet, snapshot: string): void {
    const { set, disk } = served;
    const view = { ...disk, device: set.view(snapshot), readOnly: true };
    const description = `${served.name} as it was when the snapshot ${snapshot} was made`;
    this.#server.add(this.#exportName(served, snapshot), view, { borrowed: true, description });
    served.contexts.push({
      name: `vhdkit:dirty-${snapshot}`,
      extents: async (offset, length) => {
        const runs = await set.changes(snapshot, offset, length);
        return runs.map((run) => ({ length: run.length, flags: run.changed ? DIRTY : 0 }));
      },
    });
  }

  async #withdraw(served: ServedSet, snapshot: string): Promise<void> {
    const index = served.contexts.findIndex(({ name }) => name === `vhdkit:dirty-${snapshot}`);
    if (index >= 0) served.contexts.splice(index, 1);
    await this.#server.remove(this.#exportName(served, snapshot));
  }

  async #list({ set, path, state }: ServedSet): Promise<SnapshotListResult> {
    const { store, volume } = set;
    const snapshots = [];
    for (const entry of store.record.snapshots) snapshots.push(await factsOf(store, entry, { set }));
    return {
      path,
      folder: store.folder,
      virtualSize: volume.size,
      chunkSize: store.record.chunkSize,
      image: state,
      restoring: volume.restoring?.source.name ?? null,
      snapshots,
      volume: (await findVolume(this.#host, path)) ?? null,
    };
  }

  async #create(request: ControlRequest): Promise<object> {
    const served = this.#of(request);
    const options = newSnapshotRequest(request);
    const { name } = options;
    if (name !== undefined && this.#server.disk(this.#exportName(served, name)))
      throw new VhdkitError(
        'ALREADY_EXISTS',
        `There is an export '${this.#exportName(served, name)}' already`,
        {
          operation: 'create snapshot',
          hint: 'Choose another name.',
        },
      );
    const result = await createIn(this.#host, served.set, served.path, options);
    if (!result.dryRun) this.#export(served, result.snapshot.name);
    return result;
  }

  async #delete(request: ControlRequest): Promise<object> {
    const served = this.#of(request);
    const { all, dryRun } = optional(request, { all: 'boolean', dryRun: 'boolean' });
    const options = { path: served.path, names: textsOf(request, 'names'), all: all ?? false };
    const wanted = await deleteIn(this.#host, served.set, { ...options, dryRun: true });
    if (dryRun) return wanted;
    for (const name of wanted.snapshots) await this.#withdraw(served, name);
    return deleteIn(this.#host, served.set, { ...options, signal: request.signal });
  }

  async #restore(request: ControlRequest): Promise<object> {
    const served = this.#of(request);
    const options = optional(request, { keep: 'string', device: 'string', dryRun: 'boolean' });
    const name = request.params.snapshot ?? '';
    // What is put back is put below a preserved volume, which would show it.
    try {
      return await this.#volumes.below(served.name, () =>
        restoreIn(this.#host, served, { path: served.path, name, ...options }),
      );
    } finally {
      // What was kept is there, also where putting back failed afterwards.
      const kept = served.set.store.record.snapshots.find((entry) => entry.name === options.keep);
      const isNew = kept && !this.#server.disk(this.#exportName(served, kept.name));
      if (kept?.state === 'intact' && isNew) this.#export(served, kept.name);
    }
  }

  async #exportImage(request: ControlRequest): Promise<object> {
    const { set, path } = this.#of(request);
    const name = request.params.snapshot ?? '';
    const { signal } = request;
    return exportFrom(this.#host, set, { ...exportRequest(request), path, name, signal }, true);
  }
}
