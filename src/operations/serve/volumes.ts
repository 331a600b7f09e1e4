/**
 * Preserved volumes of what is served: one more export for each, `disk@name`, beside the live one.
 *
 * | request | answer |
 * | --- | --- |
 * | `GET /v1/volumes` | `{images}`: `{name, path}` of the exports that can have one |
 * | `GET /v1/exports/NAME/volumes` | `{volumes}` |
 * | `POST /v1/exports/NAME/volumes` `{name, blockSize?, onFailure?}` | `{volume}` |
 * | `DELETE /v1/exports/NAME/volumes/VOLUME` | `{deleted}` |
 *
 * Invariant: the live volume goes on being served whatever becomes of the preserved one.
 */
import { VhdkitError } from '../../base/errors.js';
import { makePrivateFolder, removeEmptyFolder } from '../../io/private-folder.js';
import { type NewVolume, type VolumeFacts, VolumeSite } from '../../layers/volumes.js';
import type { ControlRequest, ControlRoute } from '../../nbd/control-routes.js';
import type { Host } from '../host.js';
import type { OpenedDisk } from './open-disk.js';
import type { ExportOptions, RunningServer } from './running-server.js';
import { newVolumeRequest } from './snapshot-requests.js';

const OPERATION = 'control';

export type VolumeAnswer = VolumeFacts & { export: string };

interface ServedSite {
  site: VolumeSite;
  disk: OpenedDisk;
  /** Of the image, absolute. */
  image: string;
}

export class ServedVolumes {
  readonly #host: Host;
  readonly #server: RunningServer;
  readonly #sites = new Map<string, ServedSite>();

  constructor(host: Host, server: RunningServer) {
    this.#host = host;
    this.#server = server;
  }

  /**
   * Serves a disk that clients can change, and its preserved volume if it has one of an earlier run.
   * @throws what opening that throws; then the disk is open and not served
   */
  async add(name: string, disk: OpenedDisk, options: ExportOptions = {}): Promise<void> {
    const { fileSystem, clock } = this.#host;
    const image = (await fileSystem.realPath?.(disk.path)) ?? disk.path;
    const access = { fileSystem, clock, makeFolder: makePrivateFolder, removeFolder: removeEmptyFolder };
    const site = await VolumeSite.open(access, image, disk.device);
    this.#server.add(name, { ...disk, device: site.front }, options);
    this.#sites.set(name, { site, disk, image });
    this.#serve(name);
  }

  /** Which volume is preserved of an export, if any. @throws NOT_FOUND (the export) */
  async list(name: string): Promise<VolumeAnswer[]> {
    const facts = await this.#of(name).site.facts();
    return facts ? [{ ...facts, export: `${name}@${facts.name}` }] : [];
  }

  /** @throws NOT_FOUND, and what `VolumeSite.create` throws */
  async create(name: string, options: NewVolume): Promise<VolumeAnswer | undefined> {
    const { site } = this.#of(name);
    const exported = `${name}@${options.name}`;
    if (this.#server.disk(exported)) {
      throw new VhdkitError('ALREADY_EXISTS', `There is an export '${exported}' already`, {
        operation: OPERATION,
        hint: 'Choose another name.',
      });
    }
    await site.create(options);
    this.#serve(name);
    return (await this.list(name))[0];
  }

  /** Changes a disk below its volumes. @throws HAS_SNAPSHOTS where it has a preserved one, and what the work throws */
  below<T>(name: string, work: () => Promise<T>): Promise<T> {
    return this.#of(name).site.withoutVolume(work);
  }

  /** @throws NOT_FOUND, IO_FAILED */
  async delete(name: string, volume: string): Promise<void> {
    await this.#of(name).site.delete(volume, () => this.#server.remove(`${name}@${volume}`));
  }

  routes(): ControlRoute[] {
    const path = '/v1/exports/:name/volumes';
    const named = ({ params }: ControlRequest, key: string): string => params[key] ?? '';
    return [
      {
        method: 'GET',
        path: '/v1/volumes',
        handle: async () => ({
          schemaVersion: 1,
          images: [...this.#sites].map(([name, { image }]) => ({ name, path: image })),
        }),
      },
      {
        method: 'GET',
        path,
        handle: async (request) => ({ schemaVersion: 1, volumes: await this.list(named(request, 'name')) }),
      },
      {
        method: 'POST',
        path,
        handle: async (request) => ({
          schemaVersion: 1,
          volume: await this.create(named(request, 'name'), newVolumeRequest(request)),
        }),
      },
      {
        method: 'DELETE',
        path: `${path}/:volume`,
        handle: async (request) => {
          await this.delete(named(request, 'name'), named(request, 'volume'));
          return { schemaVersion: 1, deleted: named(request, 'volume') };
        },
      },
    ];
  }

  #of(name: string): ServedSite {
    const found = this.#sites.get(name);
    if (found) return found;
    throw new VhdkitError('NOT_FOUND', `There is no export '${name}' that can be changed`, {
      operation: OPERATION,
      hint: '`GET /v1/volumes` tells what can have volumes.',
    });
  }

  #serve(name: string): void {
    const { site, disk } = this.#of(name);
    const { preserved } = site;
    if (!preserved) return;
    const description = `${name} as it was when ${preserved.name} was made, and what was written to that since`;
    this.#server.add(
      `${name}@${preserved.name}`,
      { ...disk, device: preserved.device },
      { borrowed: true, description },
    );
  }
}
