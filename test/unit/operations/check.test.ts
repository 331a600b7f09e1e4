/** `check`: findings of an image, its chain and a profile; nothing is ever changed. */
import { copyFileSync, readFileSync, renameSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import {
  type CheckOptions,
  type CheckResult,
  CheckUnsupported,
  check,
} from '../../../src/operations/check.js';
import { convert } from '../../../src/operations/convert.js';
import { systemHost } from '../../../src/operations/host.js';
import { sha256Sync } from '../../support/content.js';
import { fixture, fixtures } from '../../support/fixtures.js';
import { seededBytes } from '../../support/sample-disk.js';
import { makeTempFolder, testFolder } from '../../support/tmp.js';
import { writeVhdChild } from '../../support/vhd-child.js';

const MiB = 1024 ** 2;
const host = systemHost();
let folder: string;
const at = (name: string): string => path.join(folder, name);

beforeAll(async () => {
  folder = makeTempFolder('check');
  const disk = Buffer.alloc(24 * MiB);
  seededBytes(3 * MiB, 5).copy(disk, 4 * MiB);
  writeFileSync(at('disk.raw'), disk);
  await convert(host, { source: at('disk.raw'), target: at('dynamic.vhd') });
  await convert(host, { source: at('disk.raw'), target: at('fixed.vhd'), type: 'fixed' });
  await convert(host, { source: at('disk.raw'), target: at('dynamic.vhdx') });
  await convert(host, { source: at('disk.raw'), target: at('small-blocks.vhd'), blockSize: 512 * 1024 });
});

function codesOf({ findings }: CheckResult): string[] {
  return findings.map(({ code }) => code);
}

/** A copy of an image with some bytes changed. */
function damaged(name: string, change: (bytes: Buffer) => void): string {
  const file = path.join(testFolder('check'), name);
  const bytes = readFileSync(at(name));
  change(bytes);
  writeFileSync(file, bytes);
  return file;
}

function run(file: string, options: Partial<CheckOptions> = {}): Promise<CheckResult> {
  return check(host, { path: file, ...options });
}

/** Sum of all bytes, inverted. The checksum field must be zero. Source: VHD specification 1.0, "Checksum". */
function sealed(footer: Buffer): Buffer {
  footer.writeUInt32BE(0, 64);
  footer.writeUInt32BE(~footer.reduce((sum, byte) => sum + byte, 0) >>> 0, 64);
  return footer;
}

/** Changes both footers of a dynamic VHD and their checksums. */
function editFooters(bytes: Buffer, change: (footer: Buffer) => void): void {
  for (const start of [0, bytes.length - 512]) {
    const footer = bytes.subarray(start, start + 512);
    change(footer);
    sealed(footer);
  }
}

describe('sound images', () => {
  test.each(fixtures().map(({ file }) => file))(
    'fixture %s has no errors and is not changed',
    async (file) => {
      const result = await run(fixture(file));
      expect(result.findings.filter(({ severity }) => severity === 'error')).toEqual([]);
      expect(result.verdict).toBe('clean');
      expect(result.repaired).toEqual([]);
      expect(sha256Sync(fixture(file))).toBe(fixtures().find((facts) => facts.file === file)?.sha256);
    },
  );

  test('our own have no findings at all', async () => {
    for (const name of ['dynamic.vhd', 'fixed.vhd', 'dynamic.vhdx', 'small-blocks.vhd']) {
      const result = await run(at(name));
      expect({ name, ...result }).toMatchObject({
        name,
        findings: [],
        verdict: 'clean',
        virtualSize: 24 * MiB,
      });
    }
  });

  test('every finding says what to do', async () => {
    const { findings } = await run(fixture('dirty-log.vhdx'));
    expect(findings).toHaveLength(1);
    expect(findings[0]).toMatchObject({ code: 'VHDX_LOG_DIRTY', path: fixture('dirty-log.vhdx') });
    expect(findings[0]?.hint.length).toBeGreaterThan(10);
  });
});

describe('damage', () => {
  test('that keeps the image from being opened is a finding, with its place', async () => {
    const file = damaged('dynamic.vhd', (bytes) => bytes.fill(0, 512, 1024));
    const result = await run(file);
    expect(result).toMatchObject({ verdict: 'corrupt', format: null, type: null, virtualSize: null });
    expect(result.findings).toMatchObject([{ code: 'VHD_HEADER_COOKIE', severity: 'error', offset: 512 }]);
    expect(result.findings[0]?.message).not.toContain(file);
  });

  test('of a table', async () => {
    const file = damaged('dynamic.vhd', (bytes) => {
      const bat = Number(bytes.readBigUInt64BE(512 + 16));
      bytes.writeUInt32BE(0x00ffffff, bat + 2 * 4);
    });
    const result = await run(file);
    expect(result.verdict).toBe('corrupt');
    expect(codesOf(result)).toContain('VHD_BAT_ENTRY_OUTSIDE_FILE');
  });

  test('of one of two copies is a warning', async () => {
    const file = damaged('dynamic.vhd', (bytes) => bytes.fill(0, bytes.length - 512));
    const result = await run(file);
    expect(result.verdict).toBe('clean');
    expect(result.findings).toMatchObject([{ code: 'VHD_FOOTER_DAMAGED', severity: 'warning' }]);
  });

  test('space that nothing uses is a leak', async () => {
    const file = damaged('dynamic.vhd', (bytes) => {
      const bat = Number(bytes.readBigUInt64BE(512 + 16));
      bytes.writeUInt32BE(0xffffffff, bat + 3 * 4);
    });
    const result = await run(file);
    expect(result.verdict).toBe('leaks');
    expect(codesOf(result)).toEqual(['VHD_UNUSED_SPACE']);
  });

  test('a truncated VHDX', async () => {
    const file = damaged('dynamic.vhdx', () => undefined);
    truncateSync(file, readFileSync(file).length - 3 * MiB);
    expect((await run(file)).verdict).toBe('corrupt');
  });
});

describe('chains', () => {
  function chain(): { child: string; parent: string } {
    const own = testFolder('check');
    const [child, parent] = [path.join(own, 'child.vhd'), path.join(own, 'parent.vhd')];
    copyFileSync(at('dynamic.vhd'), parent);
    writeVhdChild(child, { parent });
    return { child, parent };
  }

  test('that are whole', async () => {
    const { child, parent } = chain();
    const result = await run(child);
    expect(result.parents).toEqual([{ path: parent, status: 'matches' }]);
    expect(result.verdict).toBe('clean');
  });

  test('whose parent is gone', async () => {
    const { child, parent } = chain();
    rmSync(parent);
    const result = await run(child);
    expect(result.parents).toMatchObject([{ status: 'missing' }]);
    expect(result.findings).toMatchObject([{ code: 'PARENT_MISSING', severity: 'error', path: child }]);
    expect(result.verdict).toBe('corrupt');
  });

  test('whose parent is another image', async () => {
    const { child, parent } = chain();
    copyFileSync(at('small-blocks.vhd'), parent);
    const result = await run(child);
    expect(result.parents).toMatchObject([{ status: 'mismatch', path: parent }]);
    expect(codesOf(result)).toEqual(['PARENT_MISMATCH']);
  });

  test('whose parent is damaged: the finding names the parent', async () => {
    const { child, parent } = chain();
    const bytes = readFileSync(parent);
    const bat = Number(bytes.readBigUInt64BE(512 + 16));
    bytes.writeUInt32BE(0x00ffffff, bat + 2 * 4);
    writeFileSync(parent, bytes);
    const result = await run(child);
    expect(result.verdict).toBe('corrupt');
    expect(result.findings).toMatchObject([{ path: parent, code: 'VHD_BAT_ENTRY_OUTSIDE_FILE' }]);
  });

  test('whose parent can not even be opened', async () => {
    const { child, parent } = chain();
    const bytes = readFileSync(parent);
    bytes.fill(0, 512, 1024);
    writeFileSync(parent, bytes);
    const result = await run(child);
    expect(result.parents).toMatchObject([{ status: 'unreadable', path: parent }]);
    expect(result.findings).toMatchObject([{ path: parent, code: 'VHD_HEADER_COOKIE', severity: 'error' }]);
  });

  test('that come back to themselves', async () => {
    const { child, parent } = chain();
    // The child's child takes the parent's place and has the id that the child asks for.
    const grandchild = path.join(path.dirname(child), 'grandchild.vhd');
    const id = readFileSync(parent).subarray(68, 84);
    writeVhdChild(grandchild, { parent: child, uniqueId: Buffer.from(id) });
    renameSync(grandchild, parent);
    const result = await run(child);
    expect(codesOf(result)).toEqual(['PARENT_LOOP']);
    expect(result.verdict).toBe('corrupt');
  });
});

describe('profiles', () => {
  test('a rule that is broken counts as an error, with reason and source', async () => {
    const result = await run(at('dynamic.vhd'), { profile: 'azure' });
    expect(result).toMatchObject({ verdict: 'corrupt', profile: 'azure' });
    const [finding] = result.findings;
    expect(finding).toMatchObject({ code: 'AZURE_TYPE', severity: 'error' });
    expect(finding?.reason).toContain('page blob');
    expect(finding?.source).toContain('Microsoft');
  });

  test('a raw image can be checked with one only', async () => {
    await expect(run(at('disk.raw'))).rejects.toBeInstanceOf(CheckUnsupported);
    expect(codesOf(await run(at('disk.raw'), { profile: 'hyperv' }))).toEqual(['HYPERV_FORMAT']);
  });

  test('bytes behind the footer of a fixed VHD for Azure', async () => {
    const file = damaged('fixed.vhd', () => undefined);
    const footer = readFileSync(file).subarray(-512);
    writeFileSync(file, Buffer.concat([readFileSync(file), footer]));
    const result = await run(file, { profile: 'azure' });
    expect(codesOf(result)).toContain('AZURE_FILE_LENGTH');
  });

  test('small blocks for XenServer', async () => {
    expect(codesOf(await run(at('small-blocks.vhd'), { profile: 'xenserver' }))).toEqual([
      'XENSERVER_BLOCK_SIZE',
    ]);
  });

  test('a geometry that vhd-util refuses', async () => {
    const file = damaged('dynamic.vhd', (bytes) =>
      editFooters(bytes, (f) => f.writeUInt32BE(0xffff10ff, 56)),
    );
    expect(codesOf(await run(file, { profile: 'xenserver' }))).toContain('XENSERVER_STRUCTURES');
  });

  test('what only vhd-lib refuses: an original size above the current one', async () => {
    const file = damaged('dynamic.vhd', (bytes) =>
      editFooters(bytes, (footer) => footer.writeBigUInt64BE(BigInt(25 * MiB), 40)),
    );
    const result = await run(file, { profile: 'xenserver' });
    expect(codesOf(result)).toEqual(['XENSERVER_VHD_LIB']);
    expect(result.verdict).toBe('corrupt');
    expect(codesOf(await run(file))).toEqual([]);
  });

  test('a damaged image is not given to vhd-lib, which believes sizes', async () => {
    const file = damaged('dynamic.vhd', (bytes) => {
      const bat = Number(bytes.readBigUInt64BE(512 + 16));
      bytes.writeUInt32BE(0x00ffffff, bat + 2 * 4);
    });
    expect(codesOf(await run(file, { profile: 'xenserver' }))).not.toContain('XENSERVER_VHD_LIB');
  });

  test('a child whose parent is gone: its own rules are still checked', async () => {
    const own = testFolder('check');
    const parent = path.join(own, 'parent.vhd');
    copyFileSync(at('dynamic.vhd'), parent);
    writeVhdChild(path.join(own, 'child.vhd'), { parent });
    rmSync(parent);
    const result = await run(path.join(own, 'child.vhd'), { profile: 'azure' });
    expect(codesOf(result)).toEqual(['PARENT_MISSING', 'AZURE_TYPE']);
  });
});

test('a file that is not there is an error, not a finding', async () => {
  await expect(run(at('nothing.vhd'))).rejects.toMatchObject({ code: 'NOT_FOUND' });
});

test('a format of others is an error', async () => {
  const file = path.join(testFolder('check'), 'disk.qcow2');
  writeFileSync(file, Buffer.concat([Buffer.from('QFI\xfb\0\0\0\x03', 'latin1'), Buffer.alloc(4096)]));
  await expect(run(file)).rejects.toMatchObject({ code: 'FORMAT_UNKNOWN' });
});

describe('advice', () => {
  test('about disks of a chain that differ in size', async () => {
    const own = testFolder('check');
    const [child, parent] = [path.join(own, 'child.vhd'), path.join(own, 'parent.vhd')];
    copyFileSync(at('dynamic.vhd'), parent);
    writeVhdChild(child, { parent });
    expect(codesOf(await run(child))).not.toContain('CHAIN_SIZE_DIFFERS');
    const bytes = readFileSync(parent);
    editFooters(bytes, (footer) => footer.writeBigUInt64BE(BigInt(22 * MiB), 48));
    writeFileSync(parent, bytes);
    const result = await run(child);
    expect(result.findings).toContainEqual(
      expect.objectContaining({ code: 'CHAIN_SIZE_DIFFERS', severity: 'note', path: child }),
    );
  });

  test('about payload that no storage can share', async () => {
    const file = damaged('dynamic.vhd', (bytes) => {
      const bat = Number(bytes.readBigUInt64BE(512 + 16));
      for (const block of [2, 3]) {
        const entry = bytes.readUInt32BE(bat + block * 4);
        bytes.copy(bytes, (entry - 1) * 512, entry * 512, entry * 512 + 512 + 2 * MiB);
        bytes.writeUInt32BE(entry - 1, bat + block * 4);
      }
    });
    const result = await run(file);
    expect(result.findings).toContainEqual(
      expect.objectContaining({ code: 'PAYLOAD_MISALIGNED', severity: 'note', repairable: false }),
    );
  });
});
