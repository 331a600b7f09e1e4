/** Write-once devices under several processes at once, some of them killed in the middle. */
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, statSync } from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createWriteOnce, deleteWriteOnce, openWriteOnce } from '../../../../src/layers/write-once/open.js';
import {
  expectChunk,
  PRIMARY,
  readChunk,
  refusal,
  writeChunk,
  writtenOf,
} from '../../../conformance/write-once.suite.js';
import { makeChildProgram } from '../../../support/child-program.js';
import { mountedFileSystem } from '../../../support/mounts.js';
import { testFolder } from '../../../support/tmp.js';
import { filled } from '../../../support/write-once-content.js';

let program: string;
beforeAll(async () => {
  program = await makeChildProgram('write-once-child');
});
const CHUNK = 4096;
const CHUNKS = 60;

// Every write is flushed: in memory that takes no time, and a process that is killed leaves the same.
const memory = mountedFileSystem('tmpfs');
afterAll(() => memory?.unmount());

interface Worker {
  child: ChildProcess;
  writer: number;
  log: string;
  ended: Promise<number | null>;
}

async function newDevice(kind: 'sparse' | 'thin' | 'vhd', chunks = CHUNKS): Promise<string> {
  const folder = memory ? mkdtempSync(path.join(memory.path, 'shared-')) : testFolder('write-once-shared');
  const file = path.join(folder, 'device');
  await createWriteOnce(kind, file, { size: chunks * CHUNK, chunkSize: CHUNK, primaryId: PRIMARY });
  return file;
}

function start(file: string, writer: number, from: number, gather: number | 'hold'): Worker {
  const log = `${file}.log-${writer}`;
  const args = [program, file, log, ...[writer, CHUNKS, from, gather].map(String)];
  const child = spawn(process.execPath, args, { stdio: ['ignore', 'ignore', 'inherit'] });
  return { child, writer, log, ended: new Promise((resolve) => child.once('exit', resolve)) };
}

function lines({ log }: Worker): string[] {
  return existsSync(log) ? readFileSync(log, 'utf8').split('\n').slice(0, -1) : [];
}

async function until(condition: () => boolean): Promise<void> {
  for (let attempt = 0; attempt < 2400 && !condition(); attempt += 1)
    await new Promise((resolve) => setTimeout(resolve, 25));
  expect(condition()).toBe(true);
}

describe.each(['sparse', 'thin'] as const)('processes that share a %s write-once device', (kind) => {
  it('win each chunk once', async () => {
    const file = await newDevice(kind);
    const workers = [start(file, 1, 0, 1), start(file, 2, 20, 4), start(file, 3, 7, 9)];
    expect(await Promise.all(workers.map(({ ended }) => ended))).toEqual([0, 0, 0]);
    const won = workers.flatMap((worker) =>
      lines(worker).map((line) => [Number(line), worker.writer] as const),
    );
    expect(won.map(([chunk]) => chunk).sort((a, b) => a - b)).toEqual(
      Array.from({ length: CHUNKS }, (_, chunk) => chunk),
    );
    const device = await openWriteOnce(file, { writable: false });
    for (const [chunk, writer] of won)
      expectChunk(await readChunk(device, chunk), filled(CHUNK, chunk, writer), `chunk ${chunk}`);
    await device.close();
  });

  it('lose nothing that was sealed when some are killed, and leave nothing in the way', async () => {
    const file = await newDevice(kind);
    const device = await openWriteOnce(file);
    const killed: Worker[] = [];
    for (const writer of [1, 2]) {
      const worker = start(file, writer, writer * 13, writer === 1 ? 1 : 3);
      killed.push(worker);
      // One that was so quick that nothing is left for the next is as good.
      await until(() => lines(worker).length >= writer * 6 || worker.child.exitCode !== null);
      worker.child.kill('SIGKILL');
      await worker.ended;
    }
    for (const worker of killed)
      for (const line of lines(worker))
        expectChunk(await readChunk(device, Number(line)), filled(CHUNK, Number(line), worker.writer), line);
    for (let chunk = 0; chunk < CHUNKS; chunk += 1) {
      const was = await device.isWritten(chunk);
      expect(await writeChunk(device, chunk, 9)).toBe(was ? 'lost' : 'written');
    }
    expect((await writtenOf(device)).length).toBe(CHUNKS);
    // Chunks that a killed process had sealed without having been told are whole, too.
    for (let chunk = 0; chunk < CHUNKS; chunk += 1) {
      const bytes = await readChunk(device, chunk);
      const writers = [1, 2, 9].filter(
        (writer) => bytes && Buffer.compare(bytes, filled(CHUNK, chunk, writer)) === 0,
      );
      expect(writers.length, `chunk ${chunk}`).toBe(1);
    }
    await device.close();
  });
});

it('a chunk that a process has begun is waited for, and free as soon as that is killed', async () => {
  const file = await newDevice('sparse');
  const device = await openWriteOnce(file);
  const worker = start(file, 1, 5, 'hold');
  await until(() => lines(worker).length === 1);
  let done = false;
  const written = writeChunk(device, 5, 2).then((end) => {
    done = true;
    return end;
  });
  expect(await writeChunk(device, 6, 2)).toBe('written');
  expect(await device.isWritten(5)).toBe(false);
  expect(done).toBe(false);
  await expect(deleteWriteOnce(file)).rejects.toMatchObject({
    code: 'IN_USE',
    context: { pid: worker.child.pid },
  });
  worker.child.kill('SIGKILL');
  await worker.ended;
  expect(await written).toBe('written');
  expectChunk(await readChunk(device, 5), filled(CHUNK, 5, 2));
  await device.close();
});

it('places that a killed process has reserved in a thin device are given out again', async () => {
  const file = await newDevice('thin');
  const workers = [start(file, 1, 5, 'hold'), start(file, 2, 5, 'hold')];
  await until(() => workers.every((worker) => lines(worker).length === 1));
  expect(await refusal(deleteWriteOnce(file))).toBe('IN_USE');
  for (const { child, ended } of workers) {
    child.kill('SIGKILL');
    await ended;
  }
  const device = await openWriteOnce(file);
  for (let chunk = 0; chunk < CHUNKS; chunk += 1) expect(await writeChunk(device, chunk)).toBe('written');
  await device.close();
  // Without giving them out again 32 places would lie before those used now.
  expect(statSync(file).size).toBeLessThanOrEqual(65_536 + (CHUNKS + 16) * CHUNK);
  await deleteWriteOnce(file);
  expect(existsSync(file) || existsSync(`${file}.map`)).toBe(false);
});

it('one process at a time has a device that is an image, and the second is told who', async () => {
  const file = await newDevice('vhd');
  const worker = start(file, 1, 5, 'hold');
  await until(() => lines(worker).length === 1);
  await expect(openWriteOnce(file)).rejects.toMatchObject({
    code: 'IN_USE',
    context: { pid: worker.child.pid },
  });
  await expect(openWriteOnce(file, { writable: false })).rejects.toMatchObject({ code: 'IN_USE' });
  expect(await refusal(deleteWriteOnce(file))).toBe('IN_USE');
  worker.child.kill('SIGKILL');
  await worker.ended;
  const device = await openWriteOnce(file);
  expect(await writtenOf(device)).toEqual([]);
  await device.close();
});
