/** Durable maps: what processes that share one do not do at the same time. */
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { LmdbMap } from '../../../src/io/lmdb-map.js';
import { nativeCalls } from '../../../src/native/native.js';
import { testFolder } from '../../support/tmp.js';
import { besideHolder } from '../../support/turn-holder.js';

const SHAPE = { maps: ['m'], limit: 1 << 20 };

describe.skipIf(!nativeCalls())('processes that share a map', () => {
  it('wait for each other when they open, change and close, not when they read', async () => {
    const file = path.join(testFolder('map'), 'x.map');
    const map = await LmdbMap.open(file, SHAPE);
    map.change((change) => change.put('m', 1, 7));
    const read = await besideHolder(file, () => map.read((view) => view.get('m', 1)));
    const change = await besideHolder(file, () => map.change((view) => view.put('m', 1, 8)));
    const close = await besideHolder(file, () => map.close());
    const open = await besideHolder(file, () => LmdbMap.open(file, { ...SHAPE, readOnly: true }));
    expect(read.result).toBe(7);
    expect([read, change, close, open].map(({ waited }) => waited)).toEqual([false, true, true, true]);
    expect(open.result.read((view) => view.get('m', 1))).toBe(8);
    await open.result.close();
  });
});
