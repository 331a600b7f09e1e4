/** What `resize` refuses, what it says, and what it leaves alone. Crashes are tested elsewhere. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { isVhdkitError, type VhdkitError } from '../../../src/base/errors.js';
import { type ResizeOptions, resize } from '../../../src/operations/resize.js';
import { CrashDisk } from '../../support/crash-disk.js';
import { crashDiskWith, hostOn, IMAGE, MiB, PARENT, shownBy } from '../../support/resize-kit.js';
import { gptDisk, numbered, putMbr, sealHeader } from '../guestfs/disks.js';

const RAW = { format: 'raw', type: 'fixed' } as const;
const VHDX = { format: 'vhdx', type: 'dynamic', blockSize: MiB } as const;
const PARTITIONS = [
  { offset: MiB, length: MiB, name: 'boot' },
  { offset: 2 * MiB, length: 2 * MiB, name: 'data' },
];

const gpt = (sectorSize: 512 | 4096 = 512): Buffer =>
  gptDisk({ sectorSize, size: 8 * MiB, partitions: PARTITIONS });
const onDisk = (bytes: Uint8Array): CrashDisk => new CrashDisk([[IMAGE, bytes]]);

type Asked = Partial<Omit<ResizeOptions, 'size'>> & { to?: number; by?: number };

function run(disk: CrashDisk, { to, by = 0, ...options }: Asked) {
  return resize(hostOn(disk), { path: IMAGE, ...options, size: to === undefined ? { by } : { to } });
}

/** The error of a run that changes nothing. */
async function refused(disk: CrashDisk, asked: Asked): Promise<VhdkitError> {
  disk.start();
  const error: unknown = await run(disk, asked).then(
    () => new Error('not refused'),
    (reason: unknown) => reason,
  );
  expect(disk.count).toBe(0);
  if (!isVhdkitError(error)) throw error;
  if (error.code !== 'CANCELLED') expect(error.hint).toMatch(/\S/);
  return error;
}

describe('shrinking', () => {
  it.each([512, 4096] as const)(
    'names the partition it would cut (GPT, %d-byte sectors)',
    async (sectorSize) => {
      const error = await refused(onDisk(gpt(sectorSize)), { to: 3 * MiB, moveGpt: true });
      expect(error.code).toBe('UNSUPPORTED');
      expect(error.message).toContain(`cut off ${MiB} bytes of partition 2 (data)`);
      expect(error.hint).toContain('--shrink');
      // What the hint calls enough is enough.
      const enough = Number(/at least (\d+) bytes/.exec(error.hint ?? '')?.[1]);
      await expect(run(onDisk(gpt(sectorSize)), { to: enough, moveGpt: true })).resolves.toMatchObject({
        lost: [],
      });
      expect(enough).toBeLessThan(4 * MiB + 64 * 1024);
    },
  );

  it('asks for --move-gpt where the copy lies behind the new end', async () => {
    const error = await refused(onDisk(gpt()), { to: 6 * MiB });
    expect(error.message).toContain('the backup copy of the GPT lies behind the new end');
    expect(error.hint).toContain('--move-gpt');
  });

  it('needs no --move-gpt for an earlier growth that is undone', async () => {
    const disk = onDisk(gpt());
    expect(await run(disk, { by: MiB })).toMatchObject({
      gptBackup: 'left',
      warnings: [{ code: 'RESIZE_GPT_BACKUP' }],
    });
    expect(await run(disk, { by: -MiB })).toMatchObject({ gptBackup: 'inPlace', warnings: [] });
    expect(Buffer.from(disk.files().get(IMAGE) ?? []).equals(gpt())).toBe(true);
  });

  it('refuses although the backup is missing, because what is usable would end behind the disk', async () => {
    const bytes = gpt().fill(0, 8 * MiB - 512);
    expect((await refused(onDisk(bytes), { to: 6 * MiB })).hint).toContain('--move-gpt');
  });

  it('cuts with --shrink, and says what is lost', async () => {
    const disk = onDisk(gpt());
    const result = await run(disk, { to: 3 * MiB, shrink: true, moveGpt: true });
    const [lost] = result.lost;
    expect(lost?.what).toBe('partition 2 (data)');
    expect((lost?.offset ?? 0) + (lost?.length ?? 0)).toBe(4 * MiB);
    expect(lost?.offset).toBe(3 * MiB - 512 - 16384);
    expect(result.warnings.map(({ code }) => code)).toEqual(['RESIZE_CUT']);
    expect((await shownBy(disk.files(), 'raw')).table).toMatchObject({ kind: 'gpt', defects: [] });
  });

  it('follows logical partitions of an MBR', async () => {
    const bytes = numbered(8 * MiB);
    for (const sector of [0, 4096]) bytes.fill(0, sector * 512, (sector + 1) * 512);
    putMbr(bytes, [{ type: 0x0f, first: 4096, count: 4096 }]);
    putMbr(bytes, [{ type: 0x83, first: 63, count: 2000 }], 4096 * 512);
    const { message } = await refused(onDisk(bytes), { to: 2.5 * MiB });
    expect(message).toContain('of partition 1 (extended) and 1 more');
    expect(await run(onDisk(bytes), { to: 4 * MiB })).toMatchObject({
      table: 'mbr',
      gptBackup: null,
      lost: [],
    });
    bytes.fill(0, 4096 * 512, 4097 * 512);
    expect((await refused(onDisk(bytes), { to: 4 * MiB })).message).toContain('logical partitions is broken');
    const forced = await run(onDisk(bytes), { to: 4 * MiB, shrink: true });
    expect(forced.warnings.map(({ code }) => code)).toEqual(['RESIZE_TABLE_DAMAGED']);
  });

  it('looks for data where there is no table', async () => {
    const bytes = Buffer.alloc(8 * MiB);
    bytes[5 * MiB + 3] = 1;
    const error = await refused(onDisk(bytes), { to: 4 * MiB });
    expect(error.context.offset).toBe(5 * MiB + 3);
    expect(await run(onDisk(bytes), { to: 6 * MiB })).toMatchObject({ table: 'none', lost: [] });
    const { lost } = await run(onDisk(bytes), { to: 4 * MiB, shrink: true });
    expect(lost).toEqual([{ what: 'data', offset: 5 * MiB + 3, length: 3 * MiB - 3 }]);
  });

  it('finds data that only the parent has', async () => {
    const kind = { format: 'vhd', type: 'differencing', blockSize: 256 * 1024 } as const;
    const content = Buffer.alloc(4 * MiB);
    content[MiB] = 1;
    const disk = await crashDiskWith(kind, content.fill(0x50, 3 * MiB), 4 * MiB);
    expect((await refused(disk, { to: 3.5 * MiB })).context.offset).toBe(3.5 * MiB);
  });

  it('keeps a file system that says it is larger, whatever its end holds', async () => {
    const bytes = Buffer.alloc(8 * MiB);
    bytes.write('XFSB', 0, 'latin1');
    bytes.writeUInt32BE(4096, 4);
    bytes.writeBigUInt64BE(1536n, 8);
    const { message } = await refused(onDisk(bytes), { to: 4 * MiB });
    expect(message).toContain(`${2 * MiB} bytes of the XFS file system`);
    await expect(run(onDisk(bytes), { to: 6 * MiB })).resolves.toMatchObject({ lost: [] });
  });

  it('never cuts a partition unless told to, whatever the size', async () => {
    const sectors = fc.integer({ min: 100, max: 16_000 });
    const where = fc.tuple(fc.integer({ min: 64, max: 8000 }), fc.integer({ min: 1, max: 7000 }));
    await fc.assert(
      fc.asyncProperty(sectors, where, fc.boolean(), async (size, [first, count], isGpt) => {
        const bytes = isGpt
          ? gptDisk({
              sectorSize: 512,
              size: 8 * MiB,
              partitions: [{ offset: first * 512, length: count * 512 }],
            })
          : Buffer.alloc(8 * MiB);
        if (!isGpt) putMbr(bytes, [{ type: 0x83, first, count }]);
        const disk = onDisk(bytes);
        const end = first + count;
        const done = await run(disk, { to: size * 512, moveGpt: isGpt }).then(
          () => true,
          () => false,
        );
        expect(done).toBe(size >= end + (isGpt ? 33 : 0));
        const now = disk.files().get(IMAGE) ?? new Uint8Array(0);
        expect(now.length).toBe(done ? size * 512 : 8 * MiB);
        const kept = Buffer.compare(
          now.subarray(first * 512, end * 512),
          bytes.subarray(first * 512, end * 512),
        );
        expect(kept).toBe(0);
      }),
      { numRuns: 40 },
    );
  });
});

describe('growing', () => {
  it('moves the copy of the GPT also at the same size', async () => {
    const disk = onDisk(Buffer.concat([gpt(), Buffer.alloc(MiB)]));
    expect(await run(disk, { by: 0, moveGpt: true })).toMatchObject({ gptBackup: 'moved', oldSize: 9 * MiB });
    expect((await shownBy(disk.files(), 'raw')).table).toMatchObject({ kind: 'gpt', defects: [] });
    disk.start();
    expect(await run(disk, { by: 0, moveGpt: true })).toMatchObject({ gptBackup: 'inPlace' });
    expect(disk.count).toBe(0);
  });

  it('refuses where only the copy at the end is sound: nobody would find it any more', async () => {
    const bytes = gpt();
    bytes[512 + 60] = 0;
    for (const moveGpt of [false, true]) {
      expect((await refused(onDisk(bytes), { by: MiB, moveGpt })).message).toContain('primary copy');
    }
  });

  it('says so when there is no GPT to move', async () => {
    const { warnings, gptBackup } = await run(onDisk(Buffer.alloc(MiB)), { by: MiB, moveGpt: true });
    expect(gptBackup).toBeNull();
    expect(warnings.map(({ code }) => code)).toEqual(['RESIZE_NO_GPT']);
  });

  it('never shows what a larger parent has behind the old end', async () => {
    const kind = { format: 'vhdx', type: 'differencing', blockSize: MiB } as const;
    const disk = await crashDiskWith(kind, numbered(3 * MiB), 8 * MiB);
    await run(disk, { to: 7 * MiB });
    const { content } = await shownBy(disk.files(), 'vhdx');
    expect(content.subarray(0, 3 * MiB).equals(numbered(3 * MiB))).toBe(true);
    expect(content.subarray(3 * MiB).every((byte) => byte === 0)).toBe(true);
  });
});

describe('sizes', () => {
  it.each([
    [{ to: 3 * MiB + 100 }, `${3 * MiB + 512}`],
    [{ by: -9 * MiB }, 'above 0'],
    [{ to: 0 }, 'above 0'],
  ])('%j is refused with what would do', async (asked, hint) => {
    const error = await refused(onDisk(Buffer.alloc(8 * MiB)), asked);
    expect(error.code).toBe('INVALID_ARGUMENT');
    expect(error.hint).toContain(hint);
  });

  it('must be whole sectors of the disk, and of its GPT', async () => {
    const native = await crashDiskWith({ ...VHDX, sectorSize: 4096 }, Buffer.alloc(4 * MiB));
    expect((await refused(native, { by: 512 })).message).toContain('sectors of 4096');
    const error = await refused(onDisk(gpt(4096)), { by: 512 });
    expect(error.message).toContain('which the GPT counts in');
  });

  it('beyond what the format holds are refused by it, and nothing is changed', async () => {
    const disk = await crashDiskWith(
      { format: 'vhd', type: 'dynamic', blockSize: 2 * MiB },
      Buffer.alloc(4 * MiB),
    );
    expect((await refused(disk, { to: 3 * 1024 ** 4 })).code).toBe('TARGET_TOO_SMALL');
  });
});

describe('what forbids it', () => {
  it('children, by name; --force overrides', async () => {
    const kind = { format: 'vhdx', type: 'differencing', blockSize: MiB } as const;
    const disk = await crashDiskWith(kind, numbered(3 * MiB));
    const host = hostOn(disk);
    const asked = { path: PARENT, size: { by: MiB } };
    await expect(resize(host, asked)).rejects.toMatchObject({
      code: 'IN_USE',
      message: expect.stringContaining(IMAGE),
    });
    await expect(resize(host, { ...asked, force: true })).resolves.toMatchObject({ virtualSize: 4 * MiB });
  });

  it('somebody who holds the image, also in a dry run', async () => {
    const disk = onDisk(Buffer.alloc(MiB));
    const host = hostOn(disk);
    const lock = await host.fileSystem.lock(IMAGE);
    for (const dryRun of [false, true]) {
      const error = resize(host, { path: IMAGE, size: { by: MiB }, dryRun });
      await expect(error).rejects.toMatchObject({ code: 'IN_USE', context: { pid: 1 } });
    }
    await lock.release();
  });

  it('a virtual machine that was only saved', async () => {
    const disk = await crashDiskWith({ format: 'vhd', type: 'fixed' }, Buffer.alloc(MiB));
    const bytes = Buffer.from(disk.files().get(IMAGE) ?? []);
    const footer = bytes.subarray(MiB);
    footer[84] = 1;
    footer.writeUInt32BE(footer.readUInt32BE(64) - 1, 64);
    expect((await refused(onDisk(bytes), { by: MiB })).code).toBe('UNSUPPORTED');
  });

  it('a missing parent', async () => {
    const kind = { format: 'vhd', type: 'differencing', blockSize: 256 * 1024 } as const;
    const disk = await crashDiskWith(kind, numbered(MiB));
    const alone = onDisk(disk.files().get(IMAGE) ?? new Uint8Array(0));
    expect((await refused(alone, { by: MiB })).code).toBe('PARENT_MISSING');
  });

  it('Ctrl-C', async () => {
    const signal = AbortSignal.abort();
    const bytes = Buffer.alloc(4 * MiB).fill(1, 3 * MiB);
    expect((await refused(onDisk(bytes), { to: MiB, signal })).code).toBe('CANCELLED');
    expect((await refused(onDisk(gpt()), { by: MiB, signal })).code).toBe('CANCELLED');
  });
});

describe('a dry run', () => {
  it.each([RAW, VHDX])('of %j decides the same and changes nothing', async (kind) => {
    const disk = await crashDiskWith(kind, gpt());
    disk.start();
    const asked = { to: 12 * MiB, moveGpt: true };
    const dry = await run(disk, { ...asked, dryRun: true });
    expect(disk.count).toBe(0);
    const wet = await run(disk, asked);
    expect({ ...dry, dryRun: false, fileSize: wet.fileSize }).toEqual(wet);
    expect((await refused(disk, { to: 2 * MiB, dryRun: true })).message).toContain('partition 2 (data)');
  });

  it('notices a GPT that was tampered with', async () => {
    const bytes = gpt();
    const header = bytes.subarray(512, 1024);
    header.writeUInt32LE(1 << 20, 80);
    sealHeader(header);
    const error = await refused(onDisk(bytes), { to: 6 * MiB, moveGpt: true, dryRun: true });
    expect(error.message).toContain('primary copy is damaged');
  });
});
