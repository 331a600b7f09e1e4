/**
 * Conversions killed at random moments (kill -9): either nothing is there under the final name, or all of
 * it; going on afterwards ends byte-equal and does not read again what a checkpoint holds.
 */
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import * as fs from 'node:fs/promises';
import path from 'node:path';
import { beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import type { FileSystem } from '../../src/io/file-system.js';
import type { RandomAccessFile } from '../../src/io/random-access-file.js';
import { convert } from '../../src/operations/convert.js';
import { hash } from '../../src/operations/hash.js';
import { type Host, systemHost } from '../../src/operations/host.js';
import { makeChildProgram } from '../support/child-program.js';
import { mountNew } from '../support/mounts.js';
import { overriding } from '../support/overriding.js';
import { canMount } from '../support/requires.js';
import { seededBytes } from '../support/sample-disk.js';
import { testFolder } from '../support/tmp.js';

const KiB = 1024;
const MiB = 1024 * KiB;
const SIZE = 12 * MiB;
/** Every other one of these holds data, so that there are many places to stop at. */
const STEP = 128 * KiB;
/** All hundred moments are for the long run. Kinds and places go round every 15. */
const ROUNDS = process.env.VHDKIT_SOAK ? 100 : 30;
let child: string;

beforeAll(async () => {
  child = await makeChildProgram('convert-child');
});

async function makeSource(file: string): Promise<string> {
  const content = Buffer.alloc(SIZE);
  for (let at = 0; at < SIZE; at += 2 * STEP) seededBytes(STEP, at / STEP + 1).copy(content, at);
  const handle = await fs.open(file, 'w');
  for (let at = 0; at < SIZE; at += 2 * STEP) await handle.write(content, at, STEP, at);
  await handle.truncate(SIZE);
  await handle.close();
  return createHash('sha256').update(content).digest('hex');
}

/**
 * Runs the child and kills it once it has come that far, and some milliseconds later. Answers whether it got to the
 * end.
 */
function runAndKill(options: object, position: number, delay: number): Promise<boolean> {
  return new Promise((resolve, reject) => {
    const running = spawn(process.execPath, [child, JSON.stringify(options)], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    let said = '';
    let aimed = false;
    running.stdout.on('data', (chunk: Buffer) => {
      said += chunk.toString();
      if (aimed || !said.endsWith('\n') || Number(said.trimEnd().split('\n').at(-1)) < position) return;
      aimed = true;
      setTimeout(() => running.kill('SIGKILL'), delay);
    });
    running.on('error', reject);
    running.on('close', () => resolve(said.includes('done')));
  });
}

/** A host that counts what is read from one file. */
function countingHost(counted: string): { host: Host; read: () => number } {
  let bytes = 0;
  const host = systemHost();
  const fileSystem: FileSystem = {
    ...host.fileSystem,
    async open(name, options) {
      const file = await host.fileSystem.open(name, options);
      if (name !== counted) return file;
      const read: RandomAccessFile['read'] = async (buffer, offset) => {
        const count = await file.read(buffer, offset);
        bytes += count;
        return count;
      };
      return overriding(file, { read });
    },
  };
  return { host: { ...host, fileSystem }, read: () => bytes };
}

/** A folder of the temporary file system, and of XFS and tmpfs where they can be mounted. */
function folders(): string[] {
  const mounted = (['xfs', 'tmpfs'] as const)
    .filter((kind) => canMount(kind))
    .map((kind) => mountNew(kind, 512));
  onTestFinished(() => {
    for (const each of mounted) each.unmount();
  });
  return [testFolder('kill'), ...mounted.map((each) => each.path)];
}

const kinds = [
  { to: 'raw' },
  { to: 'vhd', type: 'dynamic' },
  { to: 'vhdx', type: 'dynamic' },
  { to: 'vhdx', type: 'fixed' },
  { to: 'vhd', type: 'fixed' },
] as const;

describe('a conversion that is killed', () => {
  it(`leaves nothing, or can be continued, at ${ROUNDS} moments`, { timeout: 400_000 }, async () => {
    const places = folders();
    let expected = '';
    for (const folder of places) expected = await makeSource(path.join(folder, 'source.img'));
    let continued = 0;
    for (let round = 0; round < ROUNDS; round += 1) {
      const folder = places[round % places.length] as string;
      const source = path.join(folder, 'source.img');
      const kind = kinds[Math.floor(round / places.length) % kinds.length];
      const target = path.join(folder, `target-${round}.${kind?.to}`);
      const options = {
        source,
        target,
        ...kind,
        provider: 'buffered',
        resume: true,
        checkpointInterval: 2,
      } as const;
      // Up to three kills in a row, at moments spread over a whole run: the first ones while it begins, the
      // last ones while it ends.
      let complete = false;
      const [position, delay] = [((round * 37) % 101) / 100, (round * 7) % 11];
      for (let kills = round % 4 < 2 ? 1 : round % 4; kills > 0 && !complete; kills -= 1) {
        complete = await runAndKill(options, position * SIZE, delay);
        const exists = (await fs.stat(target).catch(() => undefined)) !== undefined;
        // Whatever has the final name is complete: its hash is compared below.
        if (complete) expect(exists).toBe(true);
        complete = exists;
      }
      if (!complete) {
        const { host, read } = countingHost(source);
        const result = await convert(host, options);
        const position = result.resumed?.position ?? 0;
        expect(result.resumed?.reason).toBeUndefined();
        if (position > 0) continued += 1;
        const left = (SIZE - position) / 2 + STEP;
        // Probing the format reads some KiB of the head and tail.
        expect(read()).toBeLessThanOrEqual(left + 64 * KiB);
        const { shared, kernelCopied, buffered, zeroed } = result.bytes;
        expect(shared + kernelCopied + buffered + zeroed).toBe(SIZE);
      }
      expect((await hash(systemHost(), { path: target, format: kind?.to ?? 'raw' })).sha256).toBe(expected);
      const hidden = async (): Promise<string[]> =>
        (await fs.readdir(folder)).filter((name) => name.startsWith('.'));
      // Killed after the file got its name, but before the lock was given back: the next run tidies up.
      if (complete && (await hidden()).length > 0) await convert(systemHost(), { ...options, force: true });
      expect(await hidden()).toEqual([]);
      await fs.rm(target);
    }
    // The test must have met what it is about.
    expect(continued).toBeGreaterThan(ROUNDS / 10);
  });
});
