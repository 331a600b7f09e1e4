/**
 * Conversions through pipes: other programs read what was streamed, and compress it on the way.
 */
import {
  closeSync,
  ftruncateSync,
  openSync,
  readdirSync,
  readFileSync,
  statSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import path from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { qemuDifference, sha256, storedBytes } from '../support/content.js';
import { convert, expectIdentical } from '../support/convert.js';
import { IMAGE_KINDS, qemuConvert } from '../support/image-kinds.js';
import {
  qemuCheckComplaint,
  qemuVirtualSize,
  vhdiComplaint,
  vhdLibContentHash,
} from '../support/independent-readers.js';
import { lacking, tool } from '../support/requires.js';
import { vhdkit } from '../support/run.js';
import { seededBytes } from '../support/sample-disk.js';
import { mustShell, shell } from '../support/shell-pipes.js';
import { makeTempFolder, testFolder } from '../support/tmp.js';

const MiB = 1024 ** 2;
const SIZE = 64 * MiB;
let disk: string;

beforeAll(() => {
  disk = path.join(makeTempFolder('streaming'), 'disk.raw');
  const fd = openSync(disk, 'w');
  ftruncateSync(fd, SIZE);
  for (const [at, length] of [
    [0, 5 * MiB + 512],
    [21 * MiB, 70_000],
    [40 * MiB - 512, 3 * MiB],
    [SIZE - 4096, 4096],
  ] as const) {
    writeSync(fd, seededBytes(length, at + 1), 0, length, at);
  }
  closeSync(fd);
});

const needsQemu = lacking('qemu-img');

describe.each(IMAGE_KINDS)('a streamed $name', (kind) => {
  let image: string;

  beforeAll(async () => {
    image = path.join(makeTempFolder('streamed'), 'image');
    await mustShell(`vhdkit convert "$1" - ${kind.vhdkit.join(' ')} | cat > "$2"`, [disk, image]);
  });

  it.skipIf(needsQemu)(`is what qemu-img expects${needsQemu}`, async () => {
    expect(await qemuVirtualSize(image, kind.qemu)).toBe(SIZE);
    const raw = { path: disk, format: 'raw' };
    expect(await qemuDifference({ path: image, format: kind.qemu }, raw)).toBeUndefined();
    if (kind.qemu === 'vhdx') expect(await qemuCheckComplaint(image, 'vhdx')).toBeUndefined();
  });

  it.skipIf(!tool('vhdiinfo'))(`is accepted by libvhdi${lacking('vhdiinfo')}`, async () => {
    expect(await vhdiComplaint(image, SIZE)).toBeUndefined();
  });

  if (kind.name === 'dynamic VHD') {
    it('reads the same in vhd-lib', async () => {
      expect(await vhdLibContentHash(image)).toBe(await sha256(disk));
    });
  }

  it.skipIf(needsQemu)(`from qemu-img is read from stdin${needsQemu}`, async () => {
    const folder = testFolder();
    const made = path.join(folder, 'image');
    const back = path.join(folder, 'back.raw');
    await qemuConvert(disk, kind, made);
    const { stderr } = await mustShell('cat "$1" | vhdkit convert - "$2"', [made, back]);
    await expectIdentical(disk, back);
    expect(stderr).toBe(
      `stdin is spooled into an unnamed temporary file in ${folder}: its format shows only at its ends; if it is a raw disk, say -f raw\n`,
    );
    expect(readdirSync(folder).sort()).toEqual(['back.raw', 'image']);
  });

  it('goes from stream to stream', async () => {
    const back = path.join(testFolder(), 'back.raw');
    const script = `vhdkit convert "$1" - ${kind.vhdkit.join(' ')} -q | vhdkit convert - - -O raw -q > "$2"`;
    const { stderr } = await mustShell(script, [disk, back]);
    await expectIdentical(disk, back);
    expect(stderr).toBe('');
  });
});

describe.each([
  ['gzip', 'gzip -1', 'gzip -dc'],
  ['xz', 'xz -0', 'xz -dc'],
  ['zstd', 'zstd -q', 'zstd -dcq'],
])('through %s', (name, pack, unpack) => {
  const lacks = lacking(name);

  it.skipIf(lacks)(`a raw disk out and, as an image, in${lacks}`, async () => {
    const folder = testFolder();
    const image = path.join(folder, 'disk.vhdx');
    const packed = path.join(folder, 'packed');
    const target = path.join(folder, 'back.vhdx');
    await convert(disk, image);
    await mustShell(`vhdkit convert "$1" - -O raw | ${pack} > "$2"`, [image, packed]);
    expect(statSync(packed).size).toBeLessThan(12 * MiB);
    const { stderr } = await mustShell(`${unpack} < "$1" | vhdkit convert - "$2" -f raw --size ${SIZE}`, [
      packed,
      target,
    ]);
    expect(stderr).toBe('');
    const same = await vhdkit(['compare', disk, target]);
    expect(same.status, same.stderr).toBe(0);
  });
});

const lacksZstd = lacking('zstd');

// By one packer of the three: what goes through the pipes is not its business.
it.skipIf(lacksZstd)(`a VHD out and in, through zstd${lacksZstd}`, async () => {
  const folder = testFolder();
  const packed = path.join(folder, 'packed');
  const target = path.join(folder, 'back.raw');
  await mustShell('vhdkit convert "$1" - -O vhd | zstd -q > "$2"', [disk, packed]);
  await mustShell('zstd -dcq < "$1" | vhdkit convert - "$2" -f vhd', [packed, target]);
  await expectIdentical(disk, target);
  expect(storedBytes(target)).toBeLessThan(12 * MiB);
});

describe('what is said, and where', () => {
  it('the result goes to stderr when the image goes to stdout, and nowhere with -q', async () => {
    const folder = testFolder();
    const image = path.join(folder, 'out.vhd');
    const { stderr } = await mustShell('vhdkit convert "$1" - -O vhd > "$2"', [disk, image]);
    expect(stderr).toMatch(/^Converted .*disk\.raw \(raw\) to - \(vhd, dynamic\)\n/);
    const quiet = await mustShell('vhdkit convert "$1" - -O vhd -q > "$2"', [disk, image]);
    expect(quiet.stderr).toBe('');
  });

  it('JSON progress knows the length from the first line on', async () => {
    const out = path.join(testFolder(), 'out.vhdx');
    const script = 'vhdkit convert "$1" - -O vhdx --progress json > "$2"';
    const lines = (await mustShell(script, [disk, out])).stderr
      .split('\n')
      .filter((line) => line.startsWith('{'));
    expect(lines.length).toBeGreaterThan(0);
    for (const line of lines) expect(JSON.parse(line)).toMatchObject({ size: statSync(out).size });
  });

  it('a dry run tells as JSON what would be streamed', async () => {
    const out = path.join(testFolder(), 'out.vhdx');
    const { stdout } = await mustShell('vhdkit convert "$1" - -O vhdx --dry-run --json', [disk]);
    await mustShell('vhdkit convert "$1" - -O vhdx > "$2"', [disk, out]);
    expect(JSON.parse(stdout)).toMatchObject({ dryRun: true, fileSize: statSync(out).size });
  });

  it.each([
    ['convert "$1" - -O vhd --json', /no place for JSON/],
    ['convert "$1" -', /format must be said/],
    ['convert "$1" - -O raw --provider reflink', /read and written/],
    ['convert "$1" - -O raw --resume', /resumed/],
    ['convert "$1" x.vhd --size 1M', /--size is only for/],
    ['convert "$1" x.vhd --temp-dir .', /--temp-dir is only for/],
    ['convert - x.vhd --size 1M < "$1"', /--size is for raw disks/],
    ['convert - x.vhd -f raw --size 0 < "$1"', /more than 0 bytes/],
    ['convert - x.vhd --dry-run < "$1"', /--dry-run needs a source/],
    ['convert - x.vhd --resume < "$1"', /--resume needs a source/],
  ])('%s is refused as wrong usage', async (line, message) => {
    const { status, stderr, stdout } = await shell(`vhdkit ${line}`, [disk], { cwd: testFolder() });
    expect(status).toBe(64);
    expect(`${stderr}${stdout}`).toMatch(message);
    expect(`${stderr}${stdout}`).toMatch(/hint/);
  });

  it.skipIf(!tool('script'))(`terminals are refused on both sides${lacking('script')}`, async () => {
    const folder = testFolder();
    const terminal = async (line: string): Promise<string> => {
      const command = `"${process.execPath}" "${path.resolve('bin/run.js')}" ${line}`;
      const log = path.join(folder, 'log');
      await shell('script -qec "$1" "$2" < /dev/null > /dev/null', [command, log]);
      return readFileSync(log, 'utf8');
    };
    expect(await terminal(`convert ${disk} - -O raw`)).toMatch(/does not write an image to a terminal/);
    expect(await terminal(`convert - ${path.join(folder, 'x.raw')} -f raw`)).toMatch(
      /does not read a disk from a terminal/,
    );
    expect(readdirSync(folder)).toEqual(['log']);
  });
});

it('a file named - is written ./-', async () => {
  const folder = testFolder();
  writeFileSync(path.join(folder, '-'), Buffer.alloc(MiB, 7));
  const { status } = await vhdkit(['convert', './-', 'copy.raw'], { cwd: folder });
  expect(status).toBe(0);
  await expectIdentical(path.join(folder, '-'), path.join(folder, 'copy.raw'));
});
