/**
 * Token sets over real storage: a disk striped over three files, as split(1) makes it, becomes one raw disk.
 *
 * filefrag sees what is shared, cmp sees the bytes, and the kernel counts what this process read and wrote.
 */
import { createReadStream, readFileSync, statSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { StripedSource } from '../../src/block/striped-source.js';
import { openChain } from '../../src/formats/chain.js';
import { nodeFileSystem } from '../../src/io/node-file-system.js';
import type { RandomAccessFile } from '../../src/io/random-access-file.js';
import { ProviderStack } from '../../src/offload/stack/provider-stack.js';
import { offloadReadAll, offloadReadDisk } from '../../src/offload/stack/requestor-read.js';
import { offloadWriteAll } from '../../src/offload/stack/requestor-write.js';
import { MemoryTokenStore } from '../../src/offload/store/memory-store.js';
import { TokenManager } from '../../src/offload/token-manager.js';
import { TokenSet } from '../../src/offload/token-set.js';
import { create } from '../../src/operations/create.js';
import { systemHost } from '../../src/operations/host.js';
import { localMembers, localStack, stackMemory } from '../../src/operations/offload-stack.js';
import { openTokens } from '../../src/operations/token/store.js';
import { write } from '../../src/operations/write.js';
import { fileExtents } from '../support/fiemap.js';
import { type FileSystemKind, type MountedFileSystem, mountNew } from '../support/mounts.js';
import { canMount, lacking } from '../support/requires.js';
import { must } from '../support/run.js';

const MIB = 1024 * 1024;
const CHUNK = 64 * 1024;
const SIZE = 45 * MIB;
const VULNERABLE = { mode: 'change-vulnerable' } as const;
const lacksTools = lacking('split', 'cmp', 'filefrag', 'qemu-img');

/** Bytes that this process read and wrote so far, by its system calls. */
function passed(): number {
  const text = readFileSync('/proc/self/io', 'utf8');
  const number = (name: string) => Number(new RegExp(`^${name}: (\\d+)`, 'm').exec(text)?.[1]);
  return number('rchar') + number('wchar');
}

function newStack(): ProviderStack {
  const host = systemHost();
  return localStack(host, new TokenManager(host));
}

async function newFile(name: string): Promise<RandomAccessFile> {
  writeFileSync(name, '');
  return nodeFileSystem.open(name, { writable: true });
}

describe.each(['xfs', 'btrfs', 'ext4'] as const)('on %s', (kind: FileSystemKind) => {
  const lacks = lacksTools || (canMount(kind) ? '' : ` (can't mount ${kind})`);

  describe.skipIf(lacks)(`a striped disk${lacks}`, () => {
    let mounted: MountedFileSystem;
    let members: RandomAccessFile[];
    const at = (name: string): string => path.join(mounted.path, name);

    beforeAll(async () => {
      mounted = mountNew(kind);
      await must('dd', [
        'if=/dev/urandom',
        `of=${at('disk.raw')}`,
        'bs=1M',
        `count=${SIZE / MIB}`,
        'status=none',
      ]);
      // The chunks in turn, each appended to the file whose turn it is.
      const filter = `n=\${FILE##*x}; exec cat >> "${at('member')}$((10#$n % 3))"`;
      const args = ['-a', '4', '-d', '-b', `${CHUNK}`, `--filter=${filter}`, at('disk.raw'), 'x'];
      await must('env', ['SHELL=/bin/bash', 'split', ...args]);
      members = await Promise.all([0, 1, 2].map((index) => nodeFileSystem.open(at(`member${index}`))));
    });
    afterAll(async () => {
      for (const file of members ?? []) await file.close();
      mounted?.unmount();
    });

    async function writeTo(stack: ProviderStack, set: TokenSet, name: string, offset = 0) {
      const target = await newFile(at(name));
      try {
        return await offloadWriteAll(stack, set, target, offset);
      } finally {
        await target.close();
      }
    }

    it('becomes one raw disk without a byte passing through this process', async () => {
      const stack = newStack();
      const disk = new StripedSource(members, CHUNK);
      expect(disk.virtualSize).toBe(SIZE);
      const before = passed();
      const set = await offloadReadDisk(stack, disk, { offset: 0, length: SIZE }, VULNERABLE);
      const { by, requests } = await writeTo(stack, TokenSet.fromBytes(set.toBytes()), 'target.raw');
      const bytes = passed() - before;
      const shares = kind !== 'ext4';
      expect(by).toEqual({ [shares ? 'reflink' : 'kernel']: SIZE });
      expect(requests).toBe(SIZE / CHUNK);
      // The kernel counts what copy_file_range moves as read and written, though no page of ours saw it.
      expect(shares ? bytes : bytes - 2 * SIZE).toBeLessThan(64 * 1024);
      await must('cmp', [at('disk.raw'), at('target.raw')]);
      if (shares) expect(await fileExtents(at('target.raw'))).toEqual({ shared: SIZE, own: 0 });
    });

    it('in parts, in another order, off the blocks of the file system: by whoever can', async () => {
      const stack = newStack();
      const disk = new StripedSource(members, CHUNK);
      const set = await offloadReadDisk(stack, disk, { offset: 512, length: SIZE - 512 }, VULNERABLE);
      const [from, length] = [7 * MIB - 512, 4 * MIB];
      const mixed = TokenSet.concat([set.slice(from, length), set.slice(0, 1000), set.slice(from, length)]);
      const { by } = await writeTo(stack, mixed, 'mixed.raw');
      const whole = readFileSync(at('disk.raw'));
      const expected = Buffer.concat([
        whole.subarray(512 + from, 512 + from + length),
        whole.subarray(512, 1512),
        whole.subarray(512 + from, 512 + from + length),
      ]);
      expect(Buffer.compare(readFileSync(at('mixed.raw')), expected)).toBe(0);
      // The second copy is shifted by 1000 bytes: nothing of it can be shared.
      expect(by).toEqual(
        kind === 'ext4' ? { kernel: 2 * length + 1000 } : { reflink: length, kernel: length + 1000 },
      );
    });

    it.each([{ id: 'buffered' }, { skip: kind === 'ext4' ? 1 : 2 }])(
      'by whom the caller says: %j',
      async (choice) => {
        const stack = newStack();
        const disk = new StripedSource(members, CHUNK);
        const set = await offloadReadDisk(stack, disk, { offset: 0, length: 3 * MIB }, VULNERABLE);
        const target = await newFile(at(`chosen-${JSON.stringify(choice).length}.raw`));
        const { by } = await offloadWriteAll(stack, set, target, 0, choice);
        expect(by).toEqual({ buffered: 3 * MIB });
        await must('cmp', ['-n', `${3 * MIB}`, at('disk.raw'), target.path]);
        await target.close();
      },
    );

    it.skipIf(kind === 'ext4')('two managers: kept data serves where the other one refuses', async () => {
      const host = systemHost();
      const [watched, kept] = [new MemoryTokenStore(), new MemoryTokenStore()];
      /** As another process with the same stores has it. */
      const open = async () => {
        const tokens = [await openTokens(host, watched), await openTokens(host, kept)] as const;
        const members = [...localMembers(tokens[0].manager), ...localMembers(tokens[1].manager, 'kept')];
        const close = async () => {
          for (const each of tokens) await each.close();
        };
        return { stack: new ProviderStack(members, stackMemory(host)), close };
      };
      await must('cp', ['--reflink=always', at('disk.raw'), at('changing.raw')]);
      const source = await nodeFileSystem.open(at('changing.raw'), { writable: true });
      const first = await open();
      const range = { offset: 0, length: SIZE };
      const vulnerable = await offloadReadAll(first.stack, source, range, { ...VULNERABLE, id: 'reflink' });
      const lasting = await offloadReadAll(first.stack, source, range, {
        mode: 'persistent',
        id: 'kept-reflink',
      });
      const bytes = TokenSet.overlay([vulnerable, lasting]).toBytes();

      const second = await open();
      const both = TokenSet.fromBytes(bytes);
      expect(both.providers).toEqual(['local', 'kept']);
      expect((await writeTo(second.stack, both, 'before.raw')).by).toEqual({ reflink: SIZE });
      // Beyond the tick of the file system's clock.
      await new Promise((resolve) => setTimeout(resolve, 20));
      await source.write(Buffer.alloc(MIB, 0x5a), 5 * MIB);
      expect((await writeTo(second.stack, both, 'after.raw')).by).toEqual({ 'kept-reflink': SIZE });
      await must('cmp', [at('disk.raw'), at('before.raw')]);
      await must('cmp', [at('disk.raw'), at('after.raw')]);
      const alone = writeTo(second.stack, vulnerable, 'alone.raw');
      await expect(alone).rejects.toMatchObject({ code: 'SOURCE_CHANGED' });
      expect(statSync(at('alone.raw')).size).toBe(0);
      for (const opened of [first, second]) await opened.close();
      await source.close();
    });

    it('the chain of a differencing image: tokens of both files, zeros where nobody stores', async () => {
      await must('qemu-img', ['create', '-q', '-f', 'vhdx', at('parent.vhdx'), '64M']);
      const qemuIo = (image: string, ...commands: string[]) =>
        must('qemu-io', ['-f', 'vhdx', ...commands.flatMap((command) => ['-c', command]), at(image)]);
      await qemuIo('parent.vhdx', 'write -P 0x11 0 8M', 'write -P 0x22 40M 3M');
      const host = systemHost();
      await create(host, { path: at('child.vhdx'), type: 'differencing', parent: at('parent.vhdx') });
      const input = createReadStream(at('disk.raw'), { end: 2 * MIB - 1 });
      await write(host, { path: at('child.vhdx'), offset: 4 * MIB, input });
      const chain = await openChain(nodeFileSystem, at('child.vhdx'));
      const stack = newStack();
      const set = await offloadReadDisk(stack, chain, { offset: 0, length: chain.virtualSize }, VULNERABLE);
      const { by } = await writeTo(stack, set, 'flat.raw');
      await chain.close();
      await must('qemu-img', ['convert', '-O', 'raw', at('parent.vhdx'), at('expected.raw')]);
      await must('dd', [
        `if=${at('disk.raw')}`,
        `of=${at('expected.raw')}`,
        'bs=1M',
        'count=2',
        'seek=4',
        'conv=notrunc',
        'status=none',
      ]);
      await must('cmp', [at('expected.raw'), at('flat.raw')]);
      expect(statSync(at('flat.raw')).size).toBe(64 * MIB);
      expect(by[kind === 'ext4' ? 'kernel' : 'reflink']).toBeGreaterThanOrEqual(11 * MIB);
      expect(by.zero).toBeGreaterThan(32 * MIB);
    });
  });
});
