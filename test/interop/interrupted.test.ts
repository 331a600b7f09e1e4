/**
 * Conversions that meet the world: full storage, running machines, and a terminal that says stop.
 */
import { execFileSync, spawn } from 'node:child_process';
import * as fs from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type MountedFileSystem, mountNew } from '../support/mounts.js';
import { canMount } from '../support/requires.js';
import { vhdkit } from '../support/run.js';
import { seededBytes } from '../support/sample-disk.js';
import { testFolder } from '../support/tmp.js';

const MiB = 1024 * 1024;

function makeSource(file: string, sizeMiB: number): void {
  const fd = fs.openSync(file, 'w');
  for (let at = 0; at < sizeMiB; at += 1) fs.writeSync(fd, seededBytes(MiB, at + 1), 0, MiB, at * MiB);
  fs.closeSync(fd);
}

describe.skipIf(!canMount('tmpfs'))('a target that fills up (needs to mount tmpfs)', () => {
  let small: MountedFileSystem;
  beforeAll(() => {
    small = mountNew('tmpfs', 24);
  });
  afterAll(() => small.unmount());

  it.each(['raw', 'vhd', 'vhdx'])('%s: says so, says what to do, and leaves nothing', async (format) => {
    const folder = testFolder();
    const source = path.join(folder, 'source.img');
    makeSource(source, 40);
    const result = await vhdkit(['convert', source, path.join(small.path, 'target'), '-O', format]);
    expect(result.status).toBe(1);
    expect(result.stderr).toMatch(/ENOSPC|no space/i);
    expect(result.stderr.trim().split('\n').length).toBeLessThanOrEqual(3);
    expect(fs.readdirSync(small.path)).toEqual([]);
  });

  it('keeps what it did with --resume, and ends when there is room', async () => {
    const folder = testFolder();
    const source = path.join(folder, 'source.img');
    makeSource(source, 20);
    const ballast = path.join(small.path, 'ballast');
    fs.writeFileSync(ballast, Buffer.alloc(12 * MiB, 1));
    const target = path.join(small.path, 'target.img');
    const args = ['convert', source, target, '--resume', '--json'];
    expect((await vhdkit(args)).status).toBe(1);
    expect(fs.readdirSync(small.path)).not.toContain('target.img');
    fs.rmSync(ballast);
    expect((await vhdkit(args)).status).toBe(0);
    expect(fs.readFileSync(target).equals(fs.readFileSync(source))).toBe(true);
    expect(fs.readdirSync(small.path)).toEqual(['target.img']);
    fs.rmSync(target);
  });
});

describe.each(['xfs', 'btrfs'] as const)('a running machine’s disk on %s', (kind) => {
  describe.skipIf(!canMount(kind))(`(needs to mount ${kind})`, () => {
    let mounted: MountedFileSystem;
    beforeAll(() => {
      mounted = mountNew(kind, 512);
    });
    afterAll(() => mounted.unmount());

    it('converts as of one moment with --snapshot-source, while it is written to', async () => {
      const source = path.join(mounted.path, 'running.img');
      makeSource(source, 64);
      // A guest that counts in two far-apart places: first the head, then the tail.
      const guest = spawn(process.execPath, [
        '-e',
        `const fs=require('fs');const fd=fs.openSync(process.argv[1],'r+');const b=Buffer.alloc(8);
         for(let i=1n;;i++){b.writeBigUInt64LE(i);fs.writeSync(fd,b,0,8,0);fs.writeSync(fd,b,0,8,64*1024*1024-8);}`,
        source,
      ]);
      try {
        await new Promise((resolve) => setTimeout(resolve, 200));
        for (let round = 0; round < 3; round += 1) {
          const target = path.join(mounted.path, `copy-${round}.img`);
          const args = ['convert', source, target, '--snapshot-source', '--json'];
          const result = await vhdkit(args);
          expect(result.stderr).toBe('');
          expect(JSON.parse(result.stdout)).toMatchObject({
            bytes: { shared: 64 * MiB, buffered: 0, kernelCopied: 0 },
          });
          const copy = fs.readFileSync(target);
          const head = copy.readBigUInt64LE(0);
          const tail = copy.readBigUInt64LE(64 * MiB - 8);
          expect(head).toBeGreaterThan(0n);
          // As of one moment: the tail is at most one step behind the head.
          expect([head, head - 1n]).toContain(tail);
          expect(copy.subarray(MiB, 2 * MiB).equals(seededBytes(MiB, 2))).toBe(true);
        }
        expect(fs.readdirSync(mounted.path).filter((name) => name.startsWith('.'))).toEqual([]);
        const plain = await vhdkit(['convert', source, path.join(mounted.path, 'plain.img')]);
        expect(plain.status).toBe(1);
        expect(plain.stderr).toContain('running.img');
        expect(plain.stderr).toContain('--snapshot-source');
        expect(fs.existsSync(path.join(mounted.path, 'plain.img'))).toBe(false);
      } finally {
        guest.kill('SIGKILL');
      }
    });
  });
});

describe('where extents can not be shared', () => {
  it.skipIf(!canMount('tmpfs'))('--snapshot-source is refused by name (needs to mount tmpfs)', async () => {
    const mounted = mountNew('tmpfs', 32);
    try {
      const source = path.join(mounted.path, 'disk.img');
      makeSource(source, 2);
      const result = await vhdkit([
        'convert',
        source,
        path.join(mounted.path, 'out.img'),
        '--snapshot-source',
      ]);
      expect(result.status).toBe(1);
      expect(result.stderr).toContain('disk.img');
      expect(fs.readdirSync(mounted.path)).toEqual(['disk.img']);
    } finally {
      mounted.unmount();
    }
  });
});

describe('two conversions onto one target', () => {
  it('the second is refused, with the first one’s process id', async () => {
    const folder = testFolder();
    const source = path.join(folder, 'source.img');
    makeSource(source, 8);
    const target = path.join(folder, 'target.img');
    const holder = spawn(process.execPath, ['-e', 'setInterval(() => {}, 1000)']);
    try {
      const host = execFileSync('uname', ['-n']).toString().trim();
      fs.writeFileSync(path.join(folder, '.target.img.vhdkit-lock'), `${holder.pid} ${host}\n`);
      const result = await vhdkit(['convert', source, target]);
      expect(result.status).toBe(1);
      expect(result.stderr).toContain(String(holder.pid));
      expect(fs.existsSync(target)).toBe(false);
    } finally {
      holder.kill('SIGKILL');
    }
  });
});
