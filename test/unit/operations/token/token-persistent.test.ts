/** Persistent tokens while they are used: what others do to them changes nothing for who has begun. */
import { linkSync, readdirSync, readFileSync, unlinkSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { type MountedFileSystem, mountNew } from '../../../support/mounts.js';
import { canMount } from '../../../support/requires.js';
import { seededBytes } from '../../../support/sample-disk.js';
import { makeTempFolder } from '../../../support/tmp.js';
import { TokenKit } from '../../../support/token-kit.js';

describe.skipIf(!canMount('xfs'))('data that is kept', () => {
  let mount: MountedFileSystem;
  beforeAll(() => {
    mount = mountNew('xfs');
    return () => mount.unmount();
  });

  it('is written to its end although its last token is revoked meanwhile, or another begins to share it', async () => {
    const kit = new TokenKit(mount.path);
    const data = seededBytes(2 ** 20, 4);
    const target = path.join(makeTempFolder('persistent'), 'lun.img');
    for (const disturb of [(name: string) => linkSync(name, `${name}-2`), unlinkSync]) {
      writeFileSync(kit.at('a.img'), data);
      writeFileSync(target, Buffer.alloc(data.length));
      await kit.read('a.img', 't.tok', { mode: 'persistent', force: true });
      const folder = kit.at('.vhdkit-kept');
      const names = readdirSync(folder).filter((name) => !name.endsWith('-2'));
      let times = 0;
      const update = (): void => {
        times += 1;
        if (times === 1) for (const name of names) disturb(path.join(folder, name));
      };
      await kit.write('t.tok', 'a.img', { target, provider: 'buffered', progress: { update } });
      expect(times).toBeGreaterThan(0);
      expect(readFileSync(target).equals(data)).toBe(true);
    }
  });
});
