// Merges a VHD into its parent with vhd-lib: `node merge-vhd-lib.mjs PARENT CHILD`. For the benchmark.
import { open } from 'node:fs/promises';
import vhdLib from 'vhd-lib';

const [parent, child] = process.argv.slice(2);

const handler = {
  openFile: (path, flags) => open(path, flags),
  closeFile: (file) => file.close(),
  getSize: async (file) => (await file.stat()).size,
  async read(file, buffer, position) {
    const { bytesRead } = await file.read(buffer, 0, buffer.length, position);
    return { bytesRead, buffer };
  },
  async write(file, buffer, position) {
    await file.write(buffer, 0, buffer.length, position);
    return { bytesWritten: buffer.length, buffer };
  },
};

await vhdLib.mergeVhd(handler, parent, handler, child);
