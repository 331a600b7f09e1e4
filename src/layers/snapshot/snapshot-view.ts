/**
 * One snapshot as a device for reading.
 *
 * Invariant: it shows the same as long as it lives, whatever is written to the disk meanwhile.
 */
import { VhdkitError } from '../../base/errors.js';
import type { BlockDevice, DeviceCapabilities, DeviceExtent } from '../../block/block-device.js';
import { ReadOnlyDevice } from '../../block/read-only-device.js';
import type { SnapshotLayer } from './catalogue.js';
import { assertIntact } from './chunk-reader.js';
import type { SnapshotVolume } from './snapshot-volume.js';

/** Bytes that one answer of `extents` looks at: bounds the questions to devices. */
const EXTENTS_WINDOW = 64 * 1024 * 1024;

export class SnapshotView extends ReadOnlyDevice implements BlockDevice {
  readonly label: string;
  readonly size: number;
  readonly blockSize = 1;
  readonly preferredSize: number;
  readonly capabilities: DeviceCapabilities = {
    writable: false,
    trim: false,
    zero: false,
    fastZero: false,
    extents: true,
    multiConn: true,
  };
  readonly #volume: SnapshotVolume;
  readonly #layer: SnapshotLayer;

  constructor(volume: SnapshotVolume, layer: SnapshotLayer) {
    super();
    this.#volume = volume;
    this.#layer = layer;
    this.label = `${volume.label}@${layer.name}`;
    this.size = volume.size;
    this.preferredSize = volume.preferredSize;
  }

  async read(buffer: Uint8Array, offset: number): Promise<void> {
    if (buffer.length === 0) return;
    await this.#volume.reader.read(this.#layer, buffer, offset);
  }

  async extents(offset: number, length: number): Promise<DeviceExtent[]> {
    const { reader, catalogue, label } = this.#volume;
    assertIntact(this.#layer, label);
    const window = Math.min(length, EXTENTS_WINDOW);
    return catalogue.reading(async (layers) => {
      const found: DeviceExtent[] = [];
      for (const run of await reader.runs(layers, this.#layer, offset, window)) {
        const { place, ...range } = run;
        // Whatever the primary has there now may change: only what stays a hole in a device is told.
        if (!place) found.push(...(await this.#primaryExtents(range)));
        else found.push({ ...range, hole: false, zero: false });
      }
      return found;
    });
  }

  /** A hole of the primary is told only if the chunk was still there afterwards. */
  async #primaryExtents({ offset, length }: { offset: number; length: number }): Promise<DeviceExtent[]> {
    const { reader, catalogue } = this.#volume;
    const extents: DeviceExtent[] = [];
    for (let at = offset; at < offset + length; ) {
      const part = await this.#volume.primaryExtents(at, offset + length - at);
      extents.push(...part);
      at += part.reduce((sum, extent) => sum + extent.length, 0);
    }
    const after = await catalogue.reading((layers) => reader.runs(layers, this.#layer, offset, length));
    if (after.every(({ place }) => place === undefined)) return extents;
    return [{ offset, length, hole: false, zero: false }];
  }

  async close(): Promise<void> {}

  protected refusal(): VhdkitError {
    return new VhdkitError('READ_ONLY', `${this.label} is a snapshot: it can't be written to`, {
      operation: 'write',
      context: { path: this.label },
      hint: 'Write to the disk itself, or export the snapshot as an image of its own.',
    });
  }
}
