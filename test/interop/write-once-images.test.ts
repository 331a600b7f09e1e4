/** Write-once devices that are images, as QEMU sees them. */
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { expect, it } from 'vitest';
import { createWriteOnce, openWriteOnce } from '../../src/layers/write-once/open.js';
import { PRIMARY, writeChunk } from '../conformance/write-once.suite.js';
import { lacking } from '../support/requires.js';
import { must } from '../support/run.js';
import { testFolder } from '../support/tmp.js';
import { filled } from '../support/write-once-content.js';

const lacks = lacking('qemu-img');
it.skipIf(lacks).each([
  ['vhd', 'vpc', 64 * 1024],
  ['vhdx', 'vhdx', 1024 * 1024],
] as const)(`a %s shows its chunks, and zeros between them${lacks}`, async (kind, format, chunkSize) => {
  const folder = testFolder('write-once-image');
  const [file, raw] = [path.join(folder, `device.${kind}`), path.join(folder, 'raw')];
  // A size that CHS geometry can say, because QEMU goes by it in VHDs of others.
  const size = 8 * 17 * 16 * 63 * 512;
  await createWriteOnce(kind, file, { size, chunkSize, primaryId: PRIMARY });
  const device = await openWriteOnce(file);
  const last = Math.ceil(size / chunkSize) - 1;
  for (const chunk of [last, 1, 4]) expect(await writeChunk(device, chunk)).toBe('written');
  await device.close();
  await must('qemu-img', ['check', '-f', format, file]).catch((error: unknown) => {
    // VHDs can't be checked.
    if (kind !== 'vhd') throw error;
  });
  await must('qemu-img', ['convert', '-f', format, '-O', 'raw', file, raw]);
  const wanted = Buffer.alloc(size);
  for (const chunk of [1, 4, last]) {
    const length = Math.min(chunkSize, size - chunk * chunkSize);
    wanted.set(filled(length, chunk), chunk * chunkSize);
  }
  const found = readFileSync(raw).subarray(0, size);
  expect(Buffer.compare(found, wanted)).toBe(0);
});
