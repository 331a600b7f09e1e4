/**
 * The providers against their contract, on the file systems this machine has.
 */
import { mkdtempSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { systemRandom } from '../../src/base/random.js';
import { MemoryFile } from '../../src/io/memory-file.js';
import { nodeFileSystem } from '../../src/io/node-file-system.js';
import type { RandomAccessFile } from '../../src/io/random-access-file.js';
import { nativeCalls } from '../../src/native/native.js';
import { BufferPool } from '../../src/offload/buffer-pool.js';
import type { OffloadProvider } from '../../src/offload/offload-provider.js';
import { bufferedProvider } from '../../src/offload/providers/buffered-provider.js';
import { copyRangeProvider } from '../../src/offload/providers/copy-range-provider.js';
import { reflinkProvider } from '../../src/offload/providers/reflink-provider.js';
import { zeroProvider } from '../../src/offload/providers/zero-provider.js';
import { ZERO_TOKEN } from '../../src/offload/token-codec.js';
import { TokenManager } from '../../src/offload/token-manager.js';
import { type FileSystemKind, type MountedFileSystem, mountNew } from '../support/mounts.js';
import { canMount } from '../support/requires.js';
import { stackAsProvider } from '../support/stack-as-provider.js';
import { newStack } from '../support/stack-kit.js';
import { makeTempFolder, removeFolder } from '../support/tmp.js';
import { describeOffloadProvider, type OffloadSubject } from './offload-provider.suite.js';

const buffered = (manager: TokenManager): OffloadProvider =>
  bufferedProvider(manager, new BufferPool(16 * 1024, 3));

/** Whatever the first can't is done by the second, which reads and writes. */
const stackOf =
  (first: OffloadSubject['provider']): OffloadSubject['provider'] =>
  (manager) =>
    stackAsProvider(
      newStack([
        { id: 'first', provider: first(manager), tokens: 'local' },
        { id: 'second', provider: buffered(manager), tokens: 'local' },
      ]),
    );

describeOffloadProvider({
  name: 'buffered, in memory',
  provider: buffered,
  fingerprints: false,
  file: async (content) => new MemoryFile(content),
  readOnly: async (file) => {
    (file as MemoryFile).writable = false;
    return file;
  },
});

/** Files in a folder that exists when the tests run. */
function onDisk(name: string, folder: () => string, provider: OffloadSubject['provider']): OffloadSubject {
  let count = 0;
  return {
    name,
    provider,
    fingerprints: true,
    async file(content) {
      count += 1;
      const file = path.join(mkdtempSync(path.join(folder(), 'provider-')), `file-${count}`);
      writeFileSync(file, content);
      return nodeFileSystem.open(file, { writable: true });
    },
    readOnly: (file: RandomAccessFile) => nodeFileSystem.open(file.path),
  };
}

const native = nativeCalls() !== undefined;
const folder = makeTempFolder('providers');
afterAll(() => removeFolder(folder));

describeOffloadProvider(onDisk('buffered, in the temporary folder', () => folder, buffered));
describe.skipIf(!native)('with native calls', () => {
  describeOffloadProvider(onDisk('kernel, in the temporary folder', () => folder, copyRangeProvider));
});

const PROVIDERS: [string, OffloadSubject['provider'], FileSystemKind[]][] = [
  ['reflink', reflinkProvider, ['xfs', 'btrfs']],
  ['kernel', copyRangeProvider, ['xfs', 'btrfs', 'ext4', 'tmpfs']],
  ['buffered', buffered, ['xfs', 'btrfs']],
  ['a stack of reflink and buffered', stackOf(reflinkProvider), ['xfs', 'ext4']],
  ['a stack of kernel and buffered', stackOf(copyRangeProvider), ['ext4']],
];

describe.each(['xfs', 'btrfs', 'ext4', 'tmpfs'] as const)('on %s', (kind) => {
  const able = native && canMount(kind);
  describe.skipIf(!able)(able ? 'mounted' : `(can't mount ${kind})`, () => {
    let mounted: MountedFileSystem | undefined;
    beforeAll(() => {
      mounted = mountNew(kind);
    });
    afterAll(() => mounted?.unmount());
    const place = (): string => mounted?.path ?? '';
    for (const [name, provider, kinds] of PROVIDERS) {
      if (kinds.includes(kind)) describeOffloadProvider(onDisk(`${name} on ${kind}`, place, provider));
    }

    it.skipIf(kind === 'xfs' || kind === 'btrfs')(
      'extents can not be shared, and the reason says so',
      async () => {
        const manager = new TokenManager({ clock: { now: () => 0 }, random: systemRandom });
        const { file } = onDisk('', place, reflinkProvider);
        const [a, b] = [await file(new Uint8Array(8192)), await file(new Uint8Array(8192))];
        expect(reflinkProvider(manager).capabilities(a, b)).toMatchObject({
          supported: false,
          reason: expect.stringContaining('EOPNOTSUPP'),
        });
      },
    );

    it('neither sharing nor a kernel copy reaches another file system', async () => {
      const manager = new TokenManager({ clock: { now: () => 0 }, random: systemRandom });
      const here = await onDisk('', () => folder, reflinkProvider).file(new Uint8Array(8192).fill(1));
      const there = await onDisk('', place, reflinkProvider).file(new Uint8Array(8192));
      const sharing = reflinkProvider(manager).capabilities(here, there);
      expect(sharing).toMatchObject({ supported: false, reason: expect.stringContaining('EXDEV') });
      const kernel = copyRangeProvider(manager);
      const [bound] = await kernel.offloadRead(
        here,
        { offset: 0, length: 8192 },
        { mode: 'point-in-time', ttl: 0 },
      );
      if (!bound) throw new Error('no token');
      const request = { token: bound.token, tokenOffset: 0, target: there, targetOffset: 0, length: 8192 };
      expect(await kernel.offloadWrite(request)).toMatchObject({
        status: 'unsupported',
        reason: expect.stringContaining('EXDEV'),
      });
    });
  });
});

describe('the zero provider', () => {
  const manager = new TokenManager({ clock: { now: () => 0 }, random: systemRandom });
  const provider = zeroProvider(manager);

  it('makes zeros anywhere, of any token that is zero there, and takes no data', async () => {
    const target = new MemoryFile(new Uint8Array(10_000).fill(7));
    const request = { tokenOffset: 1e9, target, targetOffset: 100, length: 5000 };
    expect(await provider.offloadWrite({ token: ZERO_TOKEN, ...request })).toEqual({
      status: 'done',
      length: 5000,
    });
    const expected = new Uint8Array(10_000).fill(7).fill(0, 100, 5100);
    expect(target.bytes()).toEqual(expected);

    const source = new MemoryFile(new Uint8Array(1000).fill(1));
    const { token } = await manager.bind(
      source,
      { offset: 0, length: 1000 },
      { mode: 'point-in-time', ttl: 0 },
    );
    expect(await provider.offloadWrite({ ...request, token, tokenOffset: 999 })).toMatchObject({
      status: 'unsupported',
    });
    expect(await provider.offloadWrite({ ...request, token, tokenOffset: 1000, targetOffset: 5100 })).toEqual(
      {
        status: 'done',
        length: 5000,
      },
    );
    expect(target.bytes().subarray(5100)).toEqual(new Uint8Array(5000));
  });

  it('binds zeros only', async () => {
    const file = new MemoryFile(new Uint8Array(10));
    const range = { offset: 0, length: 10 };
    expect(await provider.offloadRead(file, range, { mode: 'zero', ttl: 0 })).toEqual([
      { token: ZERO_TOKEN, ...range },
    ]);
    const data = provider.offloadRead(file, range, { mode: 'point-in-time', ttl: 0 });
    await expect(data).rejects.toMatchObject({ code: 'UNSUPPORTED' });
  });

  it('refuses targets that are open for reading only', async () => {
    const target = new MemoryFile(new Uint8Array(10));
    target.writable = false;
    const request = { token: ZERO_TOKEN, tokenOffset: 0, target, targetOffset: 0, length: 5 };
    await expect(provider.offloadWrite(request)).rejects.toMatchObject({ code: 'READ_ONLY' });
  });
});
