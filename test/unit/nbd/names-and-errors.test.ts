/** Addresses, tables of exports, and errors on their way there and back. */
import { describe, expect, it } from 'vitest';
import { VhdkitError } from '../../../src/base/errors.js';
import { MemoryDevice } from '../../../src/block/memory-device.js';
import { parseNbdUri } from '../../../src/nbd/client/address.js';
import { mergeExtents } from '../../../src/nbd/commands/block-status.js';
import { fromWire, toWire } from '../../../src/nbd/error-map.js';
import { ExportList, resolveExport } from '../../../src/nbd/export-table.js';

describe('addresses', () => {
  it.each([
    ['nbd://localhost', { address: { host: 'localhost', port: 10809 }, export: '', tls: false }],
    ['nbds://h:1234/a/b', { address: { host: 'h', port: 1234 }, export: 'a/b', tls: true }],
    [
      'nbd://[::1]/disk%40monday',
      { address: { host: '::1', port: 10809 }, export: 'disk@monday', tls: false },
    ],
    ['nbd://h//x', { address: { host: 'h', port: 10809 }, export: '/x', tls: false }],
    ['nbd+unix:///disk?socket=/run/s', { address: { path: '/run/s' }, export: 'disk', tls: false }],
    ['nbds+unix://?socket=/run/a%20b', { address: { path: '/run/a b' }, export: '', tls: true }],
  ])('%s', (text, target) => expect(parseNbdUri(text)).toEqual(target));

  it.each(['', 'disk.raw', 'http://host/x', 'nbd:', 'nbd:///x', 'nbd+unix:///x', 'nbd://h/%zz'])(
    'not %s',
    (text) => expect(() => parseNbdUri(text)).toThrow(expect.objectContaining({ code: 'INVALID_ARGUMENT' })),
  );
});

describe('ExportList', () => {
  const exported = (name: string) => ({ name, device: new MemoryDevice(4096), readOnly: false });

  it('has a default: the first, or the one said to be', () => {
    const list = new ExportList();
    expect(resolveExport(list, '')).toBeUndefined();
    list.add(exported('a'));
    list.add(exported('b'), { default: true });
    expect(resolveExport(list, '')?.name).toBe('b');
    list.remove('b');
    expect(resolveExport(list, '')?.name).toBe('a');
    expect(resolveExport(list, 'b')).toBeUndefined();
    list.add(exported(''));
    expect(resolveExport(list, '')?.name).toBe('');
  });

  it('refuses names that are there or that cannot travel', () => {
    const list = new ExportList();
    list.add(exported('a'));
    expect(() => list.add(exported('a'))).toThrow(expect.objectContaining({ code: 'ALREADY_EXISTS' }));
    for (const name of ['ä'.repeat(2049), 'a\0b'])
      expect(() => list.add(exported(name))).toThrow(expect.objectContaining({ code: 'INVALID_ARGUMENT' }));
    list.add(exported('ä'.repeat(2048)));
  });
});

describe('errors', () => {
  it('come back as they went, where the server is ours', () => {
    for (const code of [
      'UNWRITTEN',
      'ALREADY_WRITTEN',
      'NO_SPACE',
      'READ_ONLY',
      'IO_FAILED',
      'IMAGE_CORRUPT',
    ] as const) {
      const { errno, message } = toWire(new VhdkitError(code, 'in /a/secret/place'));
      expect(message).not.toContain('secret');
      expect(fromWire(errno, message)).toBe(code);
    }
  });

  it('mean the same without a message, or with one of another server', () => {
    expect(fromWire(28, '')).toBe('NO_SPACE');
    expect(fromWire(1, 'Operation not permitted')).toBe('READ_ONLY');
    expect(fromWire(95, '')).toBe('UNSUPPORTED');
    expect(fromWire(4711, 'constructor')).toBe('IO_FAILED');
    expect(toWire(new TypeError('a mistake'))).toEqual({ errno: 5, message: '' });
  });
});

describe('mergeExtents', () => {
  it('merges neighbours, cuts at the end of the request, and stops at its limit', () => {
    const extents = [10, 20, 30, 40].map((length, index) => ({ length, flags: index < 2 ? 3 : index }));
    expect(mergeExtents(extents, 70, 9)).toEqual([
      { length: 30, flags: 3 },
      { length: 30, flags: 2 },
      { length: 10, flags: 3 },
    ]);
    expect(mergeExtents(extents, 100, 1)).toEqual([{ length: 30, flags: 3 }]);
    expect(mergeExtents([{ length: 2 ** 40, flags: 0 }], 0xffffffff, 1)).toEqual([
      { length: 0xffffffff, flags: 0 },
    ]);
  });
});
