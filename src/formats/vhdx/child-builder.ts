/**
 * A new differencing VHDX while it is being filled.
 *
 * It is changed as an existing one is, with another sink for its tables. Invariant: nobody reads the file
 * before `flush` has written its headers, which comes after everything they lead to is durable; so there is no
 * log to write, and what was interrupted is judged by its tables (`resume`).
 */
import type { RandomAccessFile } from '../../io/random-access-file.js';
import { SpaceAllocator } from './allocator.js';
import { examineBlocks } from './check.js';
import type { MetadataSink } from './edit-session.js';
import { EditableVhdx } from './editable-vhdx.js';
import { encodeHeader } from './header.js';
import { HEADER_OFFSETS } from './layout.js';
import type { LogUpdate } from './log-codec.js';
import { applyUpdates } from './log-writer.js';
import type { NewImagePlan } from './new-image.js';
import type { VhdxStructures } from './open.js';
import { decodeParentLocator, parentLinkOf } from './parent-locator.js';

/** The structures are in the file. Goes on from the BAT that is there; of a new file it is empty. */
export async function buildChild(file: RandomAccessFile, plan: NewImagePlan): Promise<EditableVhdx> {
  const structures = structuresOf(file, plan);
  const { space } = await examineBlocks(structures);
  const allocator = new SpaceAllocator(file, space, file.size() + plan.geometry.blockSize);
  await file.truncate(Math.max(allocator.end, plan.payloadOffset));
  return new EditableVhdx(structures, allocator, () => new NewImageSink(file, plan));
}

function structuresOf(file: RandomAccessFile, plan: NewImagePlan): VhdxStructures {
  const { geometry, header, metadata, bat, log } = plan;
  const locator = plan.locator ?? new Uint8Array();
  const pairs = decodeParentLocator(locator, metadata.offset, file.path);
  return {
    file,
    creator: plan.creator,
    header,
    headerOffset: HEADER_OFFSETS[0] ?? 0,
    log,
    overlay: undefined,
    regions: { bat, metadata, all: [bat, metadata], findings: [] },
    metadata: {
      blockSize: geometry.blockSize,
      leaveBlocksAllocated: false,
      hasParent: true,
      virtualSize: geometry.virtualSize,
      virtualDiskId: plan.virtualDiskId,
      logicalSectorSize: plan.logicalSectorSize,
      physicalSectorSize: plan.physicalSectorSize,
      parentLocator: { bytes: locator, offset: metadata.offset },
      findings: [],
    },
    geometry,
    type: 'differencing',
    parentLink: parentLinkOf(pairs, metadata.offset, file.path),
    warnings: [],
  };
}

/** Tables go straight into the file. */
class NewImageSink implements MetadataSink {
  readonly #file: RandomAccessFile;
  readonly #plan: NewImagePlan;

  constructor(file: RandomAccessFile, plan: NewImagePlan) {
    this.#file = file;
    this.#plan = plan;
  }

  get dataWriteGuid(): string {
    return this.#plan.header.dataWriteGuid;
  }

  async begin(): Promise<void> {}

  async write(updates: readonly LogUpdate[]): Promise<void> {
    await this.#file.flush();
    await applyUpdates(this.#file, updates);
  }

  async flush(): Promise<void> {
    await this.#file.flush();
    for (const [index, offset] of HEADER_OFFSETS.entries()) {
      const sequence = this.#plan.header.sequence + BigInt(index);
      await this.#file.write(encodeHeader({ ...this.#plan.header, sequence }), offset);
      await this.#file.flush();
    }
  }

  /** A new image has nothing to cut off. */
  async shorten(): Promise<number> {
    return 0;
  }

  async close(): Promise<void> {}
}
