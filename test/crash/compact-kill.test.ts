/**
 * compact and defrag killed at random moments (kill -9), on real files: nothing is lost, and running again
 * finishes. VHDKIT_SOAK=100 does it that many times for each.
 */
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import * as fs from 'node:fs/promises';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { systemRandom } from '../../src/base/random.js';
import { readDisk } from '../../src/formats/image-reader.js';
import { createImage, openImage } from '../../src/formats/registry.js';
import { nodeFileSystem } from '../../src/io/node-file-system.js';
import { compact } from '../../src/operations/compact.js';
import { defrag } from '../../src/operations/defrag.js';
import { systemHost } from '../../src/operations/host.js';
import { must, PROJECT_ROOT } from '../support/run.js';
import { testFolder } from '../support/tmp.js';

const BIN = path.join(PROJECT_ROOT, 'bin/run.js');
const ROUNDS = Number(process.env.VHDKIT_SOAK ?? 2);
const MiB = 1024 * 1024;
const BLOCKS = 48;
const BLOCK = 2 * MiB;

/** Blocks in an order of their own; every third holds zeros, stored all the same. */
async function build(file: string, format: 'vhd' | 'vhdx'): Promise<void> {
  await fs.writeFile(file, '');
  const image = await createImage(await nodeFileSystem.open(file, { writable: true }), format, {
    type: 'dynamic',
    virtualSize: BLOCKS * BLOCK,
    blockSize: BLOCK,
    clock: { now: () => 1.7e12 },
    random: systemRandom,
  });
  for (let index = 0; index < BLOCKS; index += 1) {
    // 29 is prime to the number of blocks.
    const block = (index * 29) % BLOCKS;
    const write = await image.prepareWrite(block * BLOCK, BLOCK);
    const bytes = Buffer.alloc(BLOCK, block % 3 === 0 ? 0 : block + 1);
    for (const place of write.places)
      await place.file.write(bytes.subarray(0, place.length), place.fileOffset);
    await write.commit();
  }
  await image.flush();
  await image.close();
}

async function contentOf(file: string): Promise<string> {
  const image = await openImage(await nodeFileSystem.open(file));
  const hash = createHash('sha256');
  const bytes = Buffer.alloc(BLOCK);
  for (let block = 0; block < BLOCKS; block += 1) {
    await readDisk(image, bytes, block * BLOCK);
    hash.update(bytes);
  }
  const errors = (await image.check()).filter(({ severity }) => severity === 'error');
  expect(errors).toEqual([]);
  await image.close();
  return hash.digest('hex');
}

/** Kills the command some time after it began to say how far it is; true when it got to its end. */
function runAndKill(args: readonly string[], delay: number): Promise<boolean> {
  return new Promise((resolve, reject) => {
    const running = spawn(process.execPath, [BIN, ...args, '--progress', 'json', '--provider', 'buffered'], {
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    let begun = false;
    running.stderr.on('data', () => {
      if (!begun) setTimeout(() => running.kill('SIGKILL'), delay);
      begun = true;
    });
    running.on('error', reject);
    running.on('close', (status) => resolve(status === 0));
  });
}

const host = systemHost();
const CASES = (['compact', 'defrag'] as const).flatMap((verb) =>
  (['vhd', 'vhdx'] as const).map((format) => [verb, format] as const),
);

describe.each(CASES)('a %s of a %s that is killed', (verb, format) => {
  it(`loses nothing at ${ROUNDS} moments`, { timeout: 60_000 + ROUNDS * 6000 }, async () => {
    const folder = testFolder('kill');
    const pristine = path.join(folder, `pristine.${format}`);
    await build(pristine, format);
    const wanted = await contentOf(pristine);
    let interrupted = 0;
    for (let round = 0; round < ROUNDS; round += 1) {
      const image = path.join(folder, `image.${format}`);
      await must('cp', ['--sparse=never', pristine, image]);
      const complete = await runAndKill([verb, image, '--rate', '100M'], (round * 53) % 420);
      if (!complete) interrupted += 1;
      expect(await contentOf(image)).toBe(wanted);
      if (verb === 'compact') {
        const { after } = await compact(host, { path: image });
        expect(after.allocatedBlocks).toBe((BLOCKS / 3) * 2);
        expect(after.fileSize).toBeLessThan((BLOCKS / 3) * 2 * BLOCK + 6 * MiB);
      } else {
        const { after } = await defrag(host, { path: image });
        expect(after.fragmentation).toEqual({ percent: 0, extents: 1 });
      }
      expect(await contentOf(image)).toBe(wanted);
    }
    // The test must have met what it is about.
    expect(interrupted).toBeGreaterThan(0);
  });
});
