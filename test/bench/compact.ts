/**
 * compact in place, of a disk from which two thirds were deleted, against `qemu-img convert` to a new file;
 * and defrag of what that leaves.
 *
 * What is compared is the time until everything is on stable storage: compact and defrag end only then, the
 * other gets a sync. Each round begins with a fresh copy, which is not counted.
 */
import { copyFileSync, rmSync } from 'node:fs';
import path from 'node:path';
import { makeGuest } from '../support/guest-images.js';
import { must, PROJECT_ROOT } from '../support/run.js';
import { median } from './measure.js';
import { milliseconds, type Row, ratio, table } from './table.js';

const BIN = path.join(PROJECT_ROOT, 'bin/run.js');
const FILE_MIB = 32;
/** Largest ratio of our time to qemu-img's that is wanted. */
const WANTED = 1 / 3;

async function timed(command: string, args: readonly string[], output?: string): Promise<number> {
  await must('sync', []);
  const started = performance.now();
  await must(command, args, { timeout: 1_800_000 });
  if (output) await must('sync', [output], { timeout: 600_000 });
  return performance.now() - started;
}

/** The measurements, in an empty folder. `say` prints. Needs root. */
export async function benchCompact(
  folder: string,
  gib: number,
  rounds: number,
  say: (text: string) => void,
): Promise<void> {
  const raw = path.join(folder, 'guest.raw');
  const files = (gib * 1024) / FILE_MIB;
  await makeGuest(raw, { kind: 'ext4', mib: gib * 1536, files, fileMib: FILE_MIB });
  for (const blockSize of ['1M', '32M']) {
    const pristine = path.join(folder, 'pristine.vhdx');
    const image = path.join(folder, 'image.vhdx');
    const output = path.join(folder, 'output.vhdx');
    const args = ['convert', raw, pristine, '--block-size', blockSize, '--zeros', 'holes', '--force'];
    await must(process.execPath, [BIN, ...args], { timeout: 1_800_000 });
    const times: Record<string, number[]> = { compact: [], defrag: [], qemu: [] };
    for (let round = 0; round < rounds; round += 1) {
      copyFileSync(pristine, image);
      const convert = ['convert', '-O', 'vhdx', '-o', `block_size=${blockSize}`, image, output];
      times.qemu?.push(await timed('qemu-img', convert, output));
      rmSync(output);
      times.compact?.push(await timed(process.execPath, [BIN, 'compact', image, '--free-space', '--quiet']));
      times.defrag?.push(await timed(process.execPath, [BIN, 'defrag', image, '--quiet']));
    }
    const qemu = median(times.qemu ?? []);
    const compact = median(times.compact ?? []);
    const verdict = `${compact / qemu <= WANTED ? '' : 'NOT '}<= ${ratio(WANTED)}`;
    const rows: Row[] = [
      ['vhdkit compact --free-space', milliseconds(compact), '', ''],
      ['qemu-img convert', milliseconds(qemu), ratio(compact / qemu), verdict],
      ['vhdkit defrag, after that', milliseconds(median(times.defrag ?? [])), '', ''],
    ];
    const title = `VHDX, blocks of ${blockSize}: ${gib} GiB of files, two thirds deleted`;
    say(`\n### ${title}\n\n${table(['contender', 'durable', 'vhdkit / it', 'wanted'], rows)}`);
  }
}
