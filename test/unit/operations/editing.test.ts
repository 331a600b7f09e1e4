/**
 * Opening an image to change it: locked as long as it is open, whatever comes of the opening, and left as it
 * was when nothing is changed.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, readdirSync, readFileSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, describe, expect, it } from 'vitest';
import { create } from '../../../src/operations/create.js';
import { openForEditing } from '../../../src/operations/editing.js';
import { host } from '../../support/chain-kit.js';
import { isRoot, tool } from '../../support/requires.js';
import { testFolder } from '../../support/tmp.js';
import { findTool } from '../../support/tools.js';

const MiB = 1024 * 1024;
let holder: ChildProcess | undefined;
afterEach(async () => {
  if (!holder) return;
  holder.kill('SIGKILL');
  await once(holder, 'exit');
  holder = undefined;
});

describe.each(['raw', 'vhd', 'vhdx'] as const)('%s: an image that is opened to be changed', (format) => {
  async function made(): Promise<{ folder: string; file: string }> {
    const folder = testFolder();
    const file = path.join(folder, `disk.${format}`);
    await create(host, { path: file, size: 4 * MiB, format });
    return { folder, file };
  }

  it('is locked under all its names until it is closed, and unchanged when nothing is done', async () => {
    const { folder, file } = await made();
    const link = path.join(folder, 'link');
    symlinkSync(file, link);
    const [before, mtime] = [readFileSync(file), statSync(file).mtimeMs];
    const editing = await openForEditing(host, file);
    for (const name of [file, link]) {
      await expect(openForEditing(host, name)).rejects.toMatchObject({
        code: 'IN_USE',
        message: expect.stringContaining(`process ${process.pid}`),
        context: { pid: process.pid },
      });
    }
    await editing.close();
    expect(readFileSync(file).equals(before)).toBe(true);
    expect(statSync(file).mtimeMs).toBe(mtime);
    expect(readdirSync(folder).sort()).toEqual([path.basename(file), 'link'].sort());
    await (await openForEditing(host, link)).close();
  });

  it.runIf(tool('qemu-io'))('is refused while QEMU writes it, and free when QEMU is gone', async () => {
    const { folder, file } = await made();
    const command = findTool('qemu-io') ?? '';
    holder = spawn(command, ['-f', 'raw', file], { stdio: ['pipe', 'ignore', 'ignore'] });
    let refusal: unknown;
    for (let attempt = 0; refusal === undefined && attempt < 200; attempt += 1) {
      refusal = await openForEditing(host, file).then(
        async (editing) => void (await editing.close()),
        (error: unknown) => error,
      );
      await sleep(20);
    }
    expect(refusal).toMatchObject({
      code: 'IN_USE',
      message: expect.stringContaining(`process ${holder.pid} (qemu-io)`),
    });
    holder.stdin?.end('quit\n');
    await once(holder, 'exit');
    holder = undefined;
    await (await openForEditing(host, file)).close();
    expect(readdirSync(folder)).toEqual([path.basename(file)]);
  });
});

describe('an image that can’t be opened', () => {
  it('gives its lock back', async () => {
    const folder = testFolder();
    const file = path.join(folder, 'disk.vhdx');
    writeFileSync(file, Buffer.concat([Buffer.from('vhdxfile'), Buffer.alloc(MiB)]));
    await expect(openForEditing(host, file)).rejects.toMatchObject({ code: 'IMAGE_CORRUPT' });
    await expect(openForEditing(host, path.join(folder, 'none.vhd'))).rejects.toMatchObject({
      code: 'NOT_FOUND',
    });
    expect(readdirSync(folder)).toEqual(['disk.vhdx']);
  });

  it.runIf(isRoot && typeof process.seteuid === 'function')('for lack of permissions says so', async () => {
    const folder = testFolder();
    const file = path.join(folder, 'disk.vhd');
    await create(host, { path: file, size: MiB });
    for (const place of [folder, path.dirname(folder)]) chmodSync(place, 0o755);
    process.seteuid?.(65534);
    try {
      await expect(openForEditing(host, file)).rejects.toMatchObject({ code: 'PERMISSION_DENIED' });
    } finally {
      process.seteuid?.(0);
    }
  });
});
