import { describe, expect, it } from 'vitest';
import { parentBaseName, parentPaths } from '../../../src/formats/parent-path.js';

function paths(stored: string[], windows = false): string[] {
  const folder = windows ? 'D:\\vm' : '/vm/child';
  return parentPaths(
    stored.map((path) => ({ source: 'test', path })),
    folder,
    windows,
  ).map(({ path }) => path);
}

describe('parentPaths', () => {
  it.each([
    ['a Windows relative path', '.\\base\\p.vhdx', ['/vm/child/base/p.vhdx', '/vm/child/p.vhdx']],
    ['one that climbs', '..\\p.vhdx', ['/vm/p.vhdx', '/vm/child/p.vhdx']],
    ['a bare name', 'p.vhd', ['/vm/child/p.vhd']],
    ['a Windows absolute path', 'C:\\disks\\p.vhd', ['/vm/child/p.vhd']],
    ['a volume path', '\\\\?\\Volume{1b2c}\\disks\\p.vhdx', ['/vm/child/p.vhdx']],
    ['a path of this system', '/disks/p.vhd', ['/disks/p.vhd', '/vm/child/disks/p.vhd', '/vm/child/p.vhd']],
    [
      'a URL',
      'file:///disks/my%20p.vhd',
      ['/disks/my p.vhd', '/vm/child/disks/my p.vhd', '/vm/child/my p.vhd'],
    ],
    ['a URL of a relative path', 'file://./p.vhd', ['/p.vhd', '/vm/child/p.vhd']],
  ])('%s', (_name, stored, expected) => {
    expect(paths([stored])).toEqual(expected);
  });

  it.each(['', '..', '.', 'a\0b', '\\', 'file://%%%'])('makes nothing dangerous of %j', (stored) => {
    for (const path of paths([stored])) expect(path).not.toContain('\0');
  });

  it('tries the stored paths of all locators before bare names, without repetition', () => {
    expect(paths(['.\\a.vhdx', 'C:\\b.vhdx', '.\\a.vhdx'])).toEqual(['/vm/child/a.vhdx', '/vm/child/b.vhdx']);
  });

  it('uses Windows paths as they are on Windows', () => {
    expect(paths(['C:\\disks\\p.vhd'], true)).toEqual(['C:\\disks\\p.vhd', 'D:\\vm\\p.vhd']);
    expect(paths(['..\\p.vhd'], true)).toEqual(['D:\\p.vhd', 'D:\\vm\\p.vhd']);
  });
});

describe('parentBaseName', () => {
  it('knows both notations', () => {
    expect(parentBaseName('C:\\x\\y.vhd')).toBe('y.vhd');
    expect(parentBaseName('/x/y.vhd')).toBe('y.vhd');
    expect(parentBaseName('\\\\?\\C:\\y.vhd')).toBe('y.vhd');
  });
});
