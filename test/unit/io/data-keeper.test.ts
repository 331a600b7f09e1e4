/** Kept data: who may read it, and whose files are left alone. */
import { chmodSync, chownSync, renameSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { expect, it, onTestFinished } from 'vitest';
import { nodeDataKeeper } from '../../../src/io/data-keeper.js';
import { nodeFileSystem } from '../../../src/io/node-file-system.js';
import { nativeCalls } from '../../../src/native/native.js';
import { isRoot } from '../../support/requires.js';
import { testFolder } from '../../support/tmp.js';

it.skipIf(!isRoot)('gives nothing but the clone to the readers of the original', async () => {
  const folder = testFolder();
  const [source, victim] = [path.join(folder, 'a.img'), path.join(folder, 'victim')];
  writeFileSync(source, '');
  chownSync(source, 65534, 65534);
  chmodSync(source, 0o664);
  writeFileSync(victim, 'secret', { mode: 0o600 });
  const place = nodeDataKeeper.placeFor(source, '0123456789abcdef');
  const file = await nodeFileSystem.open(source);
  onTestFinished(() => file.close());
  // Somebody who may write to the folder, at the worst moment: the clone is there, its rights are not.
  const size = file.size.bind(file);
  file.size = () => {
    renameSync(place, `${place}.moved`);
    symlinkSync(victim, place);
    return size();
  };
  await nodeDataKeeper.keep(file, place).catch(() => undefined);
  expect([statSync(victim).uid, statSync(victim).mode & 0o777]).toEqual([0, 0o600]);
  expect([statSync(`${place}.moved`).uid, statSync(`${place}.moved`).mode & 0o777]).toEqual([65534, 0o444]);
});

it.skipIf(!nativeCalls())(
  'finds its folder again however often others remove it with their last name',
  async () => {
    const source = path.join(testFolder(), 'a.img');
    writeFileSync(source, '');
    const file = await nodeFileSystem.open(source);
    onTestFinished(() => file.close());
    const comeAndGo = async (_: unknown, who: number): Promise<void> => {
      for (let round = 0; round < 100; round += 1) {
        const place = nodeDataKeeper.placeFor(source, `${who}`);
        await nodeDataKeeper.keep(file, place);
        await nodeDataKeeper.release(place);
      }
    };
    await Promise.all(Array.from({ length: 4 }, comeAndGo));
  },
);
