/**
 * Conversions that fail on the way: what is left, and how a later run goes on or starts over.
 */
import * as fs from 'node:fs/promises';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { VhdkitError } from '../../../../src/base/errors.js';
import type { RandomAccessFile } from '../../../../src/io/random-access-file.js';
import { type ConvertOptions, type ConvertResult, convert } from '../../../../src/operations/convert.js';
import { type Host, systemHost } from '../../../../src/operations/host.js';
import { seededBytes } from '../../../support/sample-disk.js';
import { testFolder } from '../../../support/tmp.js';

const MiB = 1024 * 1024;
const SIZE = 24 * MiB;

/** Every other MiB holds data. */
async function makeSource(folder: string): Promise<{ source: string; content: Buffer }> {
  const content = Buffer.alloc(SIZE);
  for (let at = 0; at < SIZE; at += 2 * MiB) seededBytes(MiB, at / MiB + 1).copy(content, at);
  const source = path.join(folder, 'source.img');
  const handle = await fs.open(source, 'w');
  for (let at = 0; at < SIZE; at += 2 * MiB) await handle.write(content, at, MiB, at);
  await handle.truncate(SIZE);
  await handle.close();
  return { source, content };
}

/** A host whose reads of a file call `hook` with the bytes read so far; it may throw or change things. */
function hooked(source: string, hook: (read: number) => Promise<void> | void): Host {
  const host = systemHost();
  let read = 0;
  const wrap = (file: RandomAccessFile): RandomAccessFile =>
    new Proxy(file, {
      get(target, key) {
        if (key === 'read') {
          return async (buffer: Uint8Array, offset: number) => {
            read += buffer.length;
            await hook(read);
            return target.read(buffer, offset);
          };
        }
        const value: unknown = Reflect.get(target, key, target);
        return typeof value === 'function' ? value.bind(target) : value;
      },
    });
  const open: Host['fileSystem']['open'] = async (name, options) => {
    const file = await host.fileSystem.open(name, options);
    return name === source ? wrap(file) : file;
  };
  return { ...host, fileSystem: { ...host.fileSystem, open } };
}

function broken(after: number): (read: number) => void {
  return (read) => {
    if (read > after) throw new VhdkitError('IO_FAILED', 'the cable was pulled');
  };
}

async function hidden(folder: string): Promise<string[]> {
  return (await fs.readdir(folder)).filter((name) => name.startsWith('.')).sort();
}

interface Setting {
  folder: string;
  source: string;
  content: Buffer;
  target: string;
  options: ConvertOptions;
}

async function setting(): Promise<Setting> {
  const folder = testFolder('resume');
  const { source, content } = await makeSource(folder);
  const target = path.join(folder, 'target.img');
  const options: ConvertOptions = {
    source,
    target,
    provider: 'buffered',
    resume: true,
    checkpointInterval: 0,
  };
  return { folder, source, content, target, options };
}

async function failHalfWay({ source, options }: Setting): Promise<void> {
  await expect(convert(hooked(source, broken(7 * MiB)), options)).rejects.toMatchObject({
    code: 'IO_FAILED',
  });
}

async function goOn(
  { options, content, target, folder }: Setting,
  extra: object = {},
): Promise<ConvertResult> {
  const result = await convert(systemHost(), { ...options, ...extra });
  if (result.to === 'raw') expect((await fs.readFile(target)).equals(content)).toBe(true);
  expect(await hidden(folder)).toEqual([]);
  return result;
}

describe('a conversion that fails', () => {
  it('leaves nothing without --resume', async () => {
    const s = await setting();
    const options = { ...s.options, resume: false };
    await expect(convert(hooked(s.source, broken(7 * MiB)), options)).rejects.toMatchObject({
      code: 'IO_FAILED',
    });
    expect(await fs.readdir(s.folder)).toEqual(['source.img']);
  });

  it('goes on with --resume from its last checkpoint', async () => {
    const s = await setting();
    await failHalfWay(s);
    expect(await hidden(s.folder)).toEqual(['.target.img.vhdkit-journal', '.target.img.vhdkit-partial']);
    expect(await fs.readdir(s.folder)).not.toContain('target.img');
    const { resumed } = await goOn(s);
    expect(resumed?.position).toBeGreaterThan(0);
    expect(resumed?.reason).toBeUndefined();
  });

  it.each([
    { to: 'raw', type: 'fixed' },
    { to: 'vhd', type: 'dynamic' },
    { to: 'vhd', type: 'fixed' },
    { to: 'vhdx', type: 'dynamic' },
    { to: 'vhdx', type: 'fixed' },
  ] as const)('goes on after a second run that came to nothing ($to, $type)', async ({ to, type }) => {
    const s = await setting();
    const target = path.join(s.folder, `target.${to}`);
    const again = { ...s, target, options: { ...s.options, target, to, type } };
    await failHalfWay(again);
    // Taken up, and cut off behind what its tables name, but no checkpoint was reached.
    await expect(
      convert(hooked(s.source, broken(MiB)), { ...again.options, checkpointInterval: 1e9 }),
    ).rejects.toMatchObject({ code: 'IO_FAILED' });
    const { resumed } = await goOn(again);
    expect(resumed?.reason).toBeUndefined();
    expect(resumed?.position).toBeGreaterThan(0);
  });

  it('says so when there was nothing to go on with', async () => {
    expect((await goOn(await setting())).resumed).toEqual({ position: 0 });
  });

  it.each<[string, RegExp, (s: Setting) => Promise<object | undefined>]>([
    [
      'the source changed',
      /source/,
      async (s) => {
        s.content[0] = (s.content[0] ?? 0) ^ 1;
        const handle = await fs.open(s.source, 'r+');
        await handle.write(s.content, 0, 1, 0);
        await handle.close();
        return undefined;
      },
    ],
    ['the options are others', /options/, async () => ({ zeros: 'holes' })],
    [
      'the journal was cut',
      /journal/,
      async (s) => {
        await fs.truncate(path.join(s.folder, '.target.img.vhdkit-journal'), 100);
        return undefined;
      },
    ],
    [
      'the journal is not one',
      /journal/,
      async (s) => {
        await fs.writeFile(path.join(s.folder, '.target.img.vhdkit-journal'), 'something else\n');
        return undefined;
      },
    ],
    [
      'the unfinished file was cut',
      /shorter/,
      async (s) => {
        await fs.truncate(path.join(s.folder, '.target.img.vhdkit-partial'), MiB);
        return undefined;
      },
    ],
  ])('starts over when %s', async (_name, reason, change) => {
    const s = await setting();
    await failHalfWay(s);
    const extra = await change(s);
    const { resumed } = await goOn(s, extra);
    expect(resumed).toMatchObject({ position: 0, reason: expect.stringMatching(reason) });
  });

  it('forgets what an earlier run left when it is not asked to go on', async () => {
    const s = await setting();
    await failHalfWay(s);
    const result = await goOn(s, { resume: false });
    expect(result.resumed).toBeUndefined();
  });

  it('starts over when the unfinished image contradicts itself', async () => {
    const s = await setting();
    s.target = path.join(s.folder, 'target.img');
    s.options = { ...s.options, to: 'vhdx' };
    await failHalfWay(s);
    const partial = path.join(s.folder, '.target.img.vhdkit-partial');
    const handle = await fs.open(partial, 'r+');
    // The first block's entry, at 3 MiB, names a place far outside the file.
    const entry = Buffer.alloc(8);
    entry.writeBigUInt64LE((900n << 20n) | 6n);
    await handle.write(entry, 0, 8, 3 * MiB);
    await handle.close();
    const { resumed } = await goOn(s);
    expect(resumed).toMatchObject({ position: 0, reason: expect.stringContaining('damaged') });
  });

  it('leaves an interrupted run alone in a dry run', async () => {
    const s = await setting();
    await failHalfWay(s);
    const before = await hidden(s.folder);
    await convert(systemHost(), { ...s.options, dryRun: true });
    expect(await hidden(s.folder)).toEqual(before);
  });
});

describe('a source that changes while it is read', () => {
  it.each([true, false])(
    'ends in an error that names it, and publishes nothing (resume: %s)',
    async (resume) => {
      const s = await setting();
      let changed = false;
      const host = hooked(s.source, async (read) => {
        if (changed || read < 5 * MiB) return;
        changed = true;
        await fs.appendFile(s.source, 'x');
      });
      await expect(convert(host, { ...s.options, resume })).rejects.toMatchObject({
        code: 'SOURCE_CHANGED',
        context: { path: s.source },
      });
      expect(await fs.readdir(s.folder)).not.toContain('target.img');
    },
  );
});
