import { describe, expect, it } from 'vitest';
import { systemClock } from '../../../src/base/clock.js';
import { VhdkitError } from '../../../src/base/errors.js';
import { systemRandom } from '../../../src/base/random.js';
import { MemoryFile } from '../../../src/io/memory-file.js';
import { nodeFileSystem } from '../../../src/io/node-file-system.js';
import { CopyAndWriter, CopyFailure } from '../../../src/offload/copy-and-write.js';
import type { ProviderChoice } from '../../../src/offload/transfer-types.js';
import { fileExtents } from '../../support/fiemap.js';
import { type FileSystemKind, mountedFileSystem } from '../../support/mounts.js';
import { canMount } from '../../support/requires.js';

const KiB = 1024;
const MiB = 1 << 20;

function writer(provider: ProviderChoice = 'auto'): CopyAndWriter {
  return new CopyAndWriter({ clock: systemClock, random: systemRandom, provider });
}

function filled(length: number, byte: number): Uint8Array {
  return new Uint8Array(length).fill(byte);
}

describe('copyAndWrite', () => {
  it('keeps the range durably before it is overwritten', async () => {
    const source = new MemoryFile(filled(4 * KiB, 1));
    const target = new MemoryFile();
    const steps: string[] = [];
    await writer().copyAndWrite({
      source: { file: source, fileOffset: KiB },
      target: { file: target, fileOffset: 512 },
      size: 2 * KiB,
      buffer: filled(10, 7),
      bufferOffset: 100,
      preserve: async () => {
        steps.push(`kept ${target.bytes().at(512)}, source ${source.bytes().at(KiB + 100)}`);
      },
    });
    expect(steps).toEqual(['kept 1, source 1']);
    expect([...source.bytes().subarray(KiB + 99, KiB + 111)]).toEqual([1, ...filled(10, 7), 1]);
    expect(target.bytes().subarray(512)).toEqual(filled(2 * KiB, 1));
  });

  it.each(['copying', 'preserving'])('leaves the source as it was when %s fails', async (what) => {
    const source = new MemoryFile(filled(4 * KiB, 1));
    const target = new MemoryFile();
    const full = new VhdkitError('NO_SPACE', 'full');
    if (what === 'copying') target.writable = false;
    const failed = writer().copyAndWrite({
      source: { file: source, fileOffset: 0 },
      target: { file: target, fileOffset: 0 },
      size: 4 * KiB,
      buffer: filled(10, 7),
      bufferOffset: 0,
      preserve: async () => {
        throw full;
      },
    });
    await expect(failed).rejects.toBeInstanceOf(CopyFailure);
    expect(source.bytes()).toEqual(filled(4 * KiB, 1));
  });

  it('keeps what lies past the end of the source as zeros', async () => {
    const target = new MemoryFile(filled(4 * KiB, 9));
    const source = { file: new MemoryFile(filled(KiB, 1)), fileOffset: 0 };
    await writer().copy(source, { file: target, fileOffset: 0 }, 2 * KiB);
    expect([
      ...target.bytes().subarray(KiB - 1, KiB + 1),
      ...target.bytes().subarray(2 * KiB - 1, 2 * KiB + 1),
    ]).toEqual([1, 0, 0, 9]);
  });
});

describe.skipIf(!canMount('xfs'))('a range that is to be overwritten, on XFS', () => {
  it.each([
    { size: 64 * KiB, what: 'is copied by the kernel if it is short', shared: 0 },
    { size: 256 * KiB, what: 'is shared if it is long', shared: 256 * KiB },
  ])('$what', async ({ size, shared }) => {
    const folder = mountedFileSystem('xfs')?.path;
    const [source, target] = await Promise.all(
      ['source', 'target'].map(async (name) => {
        const path = `${folder}/${name}-${size}`;
        await nodeFileSystem.createPending(path).then((file) => file.publish());
        return nodeFileSystem.open(path, { writable: true });
      }),
    );
    if (!source || !target) throw new Error('two files');
    const content = Uint8Array.from({ length: size }, (_, index) => index % 251);
    await source.write(content, 0);
    const copier = writer();
    const place = { file: source, fileOffset: 0 };
    const request = { source: place, target: { file: target, fileOffset: 0 }, size, bufferOffset: 5 };
    await copier.copyAndWrite({ ...request, buffer: filled(10, 255) });
    const kept = new Uint8Array(size);
    await target.read(kept, 0);
    expect(Buffer.compare(kept, content)).toBe(0);
    expect(copier.tally).toMatchObject({ shared, kernelCopied: size - shared, throughProcess: 10 });
    // All blocks but the one that was overwritten, as the file system tells.
    await source.flush();
    const extents = await fileExtents(source.path);
    expect(extents.shared).toBe(shared === 0 ? 0 : shared - 4 * KiB);
    // What is put back, or moved between devices, is shared whatever its length.
    await copier.copy({ file: target, fileOffset: 0 }, place, size);
    expect(copier.tally.shared).toBe(shared + size);
    await source.close();
    await target.close();
  });
});

/** Bytes through the process for 4 KiB writes into chunks of 1 MiB: all of the write, and what is copied by hand twice. */
async function measure(kind: FileSystemKind, provider: ProviderChoice): Promise<CopyAndWriter['tally']> {
  const folder = mountedFileSystem(kind)?.path;
  const path = `${folder}/source-${provider}`;
  for (const name of [path, `${path}-kept`])
    await nodeFileSystem.createPending(name).then((file) => file.publish());
  const source = await nodeFileSystem.open(path, { writable: true });
  const target = await nodeFileSystem.open(`${path}-kept`, { writable: true });
  await source.write(filled(8 * MiB, 3), 0);
  await source.flush();
  const copier = writer(provider);
  for (let chunk = 0; chunk < 8; chunk += 1) {
    await copier.copyAndWrite({
      source: { file: source, fileOffset: chunk * MiB },
      target: { file: target, fileOffset: chunk * MiB },
      size: MiB,
      buffer: filled(4 * KiB, 5),
      bufferOffset: 64 * KiB,
    });
  }
  const kept = new Uint8Array(8 * MiB);
  await target.read(kept, 0);
  expect(Buffer.compare(kept, filled(8 * MiB, 3))).toBe(0);
  await source.close();
  await target.close();
  return copier.tally;
}

describe('bytes through the process, for each 4 KiB written into a chunk of 1 MiB', () => {
  it.skipIf(!canMount('xfs'))(
    'are 4 KiB where extents are shared, and 2 MiB more without offload',
    async () => {
      const shared = await measure('xfs', 'auto');
      expect(shared).toMatchObject({
        shared: 8 * MiB,
        kernelCopied: 0,
        buffered: 0,
        throughProcess: 8 * 4 * KiB,
      });
      const buffered = await measure('xfs', 'buffered');
      expect(buffered.throughProcess).toBe(8 * (4 * KiB + 2 * MiB));
    },
  );

  it.skipIf(!canMount('ext4'))('are 4 KiB where the kernel copies', async () => {
    const copied = await measure('ext4', 'auto');
    expect(copied).toMatchObject({ shared: 0, kernelCopied: 8 * MiB, throughProcess: 8 * 4 * KiB });
  });
});
