/**
 * A process that writes chunks of a shared write-once device: `node BUNDLE DEVICE LOG WRITER CHUNKS
 * START GATHER`. Begins at chunk START, goes round, and seals GATHER chunks at a time. Each chunk that it has won goes to
 * the log at once. With `hold` for GATHER it begins START,
 * says so, and waits.
 */
import { appendFileSync } from 'node:fs';
import { openWriteOnce } from '../../src/layers/write-once/open.js';
import { filled } from './write-once-content.js';

const [, , path, log, writer, chunks, start, gather] = process.argv;
const device = await openWriteOnce(path);
const count = Number(chunks);
if (gather === 'hold') {
  const write = await device.begin(Number(start));
  await write.place.file.write(
    filled(write.place.length, Number(start), Number(writer)),
    write.place.fileOffset,
  );
  appendFileSync(log, 'held\n');
  setInterval(() => undefined, 1000);
} else {
  for (let at = 0; at < count; at += Number(gather)) {
    const writes = [];
    const batch = [];
    for (let index = at; index < Math.min(at + Number(gather), count); index += 1)
      batch.push((Number(start) + index) % count);
    // Whoever has several begun begins them in ascending order, so that nobody waits in a circle.
    for (const chunk of batch.sort((a, b) => a - b)) {
      const write = await device.begin(chunk);
      if (write === 'written') continue;
      await write.place.file.write(filled(write.place.length, chunk, Number(writer)), write.place.fileOffset);
      writes.push([chunk, write]);
    }
    const ends = await device.sealAll(writes.map(([, write]) => write));
    for (const [index, [chunk]] of writes.entries())
      if (ends[index] === 'written') appendFileSync(log, `${chunk}\n`);
  }
  await device.close();
}
