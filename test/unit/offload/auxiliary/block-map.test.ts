/** The map of blocks that are looked for. */
import { expect, it } from 'vitest';
import { BlockMap, type HashedRange } from '../../../../src/offload/auxiliary/block-map.js';
import { sha256 } from '../../../support/auxiliary-kit.js';

const BLOCK = 65_536;
const LIKE = sha256(Buffer.from('a block like many others'));
const OTHER = sha256(Buffer.from('the one that is missing'));

it('finds blocks in time that does not grow with how many are alike', async () => {
  const count = 100_000;
  const length = count * BLOCK;
  const fields = { length, blockSize: BLOCK, phase: 0 } as HashedRange['fields'];
  const map = new BlockMap([{ offset: 0, length, tokenOffset: 0, fields }]);
  const list = Buffer.alloc(count * 32);
  for (let at = 0; at < list.length; at += 32) LIKE.copy(list, at);
  OTHER.copy(list, 32 * 1000);
  await map.load(async () => list);
  map.note(7, { source: 3, offset: 5 });
  // As in a candidate of the same kind of data.
  for (let index = 0; index < count; index += 1) map.noteAll(LIKE, { source: 1, offset: index * BLOCK });
  expect(map.missing).toBe(1);
  expect(map.found(1000)).toBeUndefined();
  expect([map.found(7), map.found(0)]).toEqual([
    { source: 3, offset: 5 },
    { source: 1, offset: 0 },
  ]);
  map.noteAll(OTHER, { source: 2, offset: 9 });
  expect(map.found(1000)).toEqual({ source: 2, offset: 9 });
});
