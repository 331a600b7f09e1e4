/**
 * Every damaged image there is, repaired: what can be put right is, what can be read stays as it is, what is left
 * has a reason, a second repair finds nothing to do, and the backup leads back to the first byte.
 */
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { isVhdkitError } from '../../../../src/base/errors.js';
import { VHDX_DEFECTS } from '../../../../src/formats/vhdx/defects.js';
import type { CheckResult } from '../../../../src/operations/check.js';
import { undoRepair } from '../../../../src/operations/repair/undo.js';
import type { RepairResult } from '../../../../src/operations/repair.js';
import { DAMAGED_IMAGES, type DamagedImage } from '../../../support/damaged-images.js';
import { checkOn, diskWith, hostOn, IMAGE, repairOn, shownBy } from '../../../support/repair-kit.js';
import { PROJECT_ROOT } from '../../../support/run.js';

const seen = new Set<string>();
/** Codes that a finding called repairable. */
const repairable = new Set<string>();

/** Codes that no image of a few MiB can show, and where they are tested. */
const ELSEWHERE = new Map([
  ['VHDX_FILE_TOO_LONG', 'hostile.test.ts: a sparse file of 257 TiB'],
  ['VHDX_LOG_TOO_COMPLEX', 'log.test.ts: a log of many MiB'],
  ['VHDX_SIGNATURE_MISSING', 'hostile.test.ts: without it a file is no VHDX'],
  ['VHDX_TRUNCATED', 'only when a file shrinks while it is read'],
]);

function isOwn({ path: file }: { path: string }): boolean {
  return file === IMAGE;
}

function keys({ findings }: CheckResult): string[] {
  return findings.filter(isOwn).map(({ code, offset }) => `${code}@${offset}`);
}

/** Undefined when there is nothing to check: not an image any more, or a variant that is not supported. */
async function checked(image: Uint8Array): Promise<CheckResult | undefined> {
  try {
    return await checkOn(diskWith(image));
  } catch (error) {
    if (!isVhdkitError(error)) throw error;
    const cause = error.cause;
    const defect = isVhdkitError(cause) ? cause.context.defect : error.context.defect;
    if (defect !== undefined) seen.add(defect);
    return undefined;
  }
}

async function isStillReadable(before: Uint8Array, after: Uint8Array, result: RepairResult): Promise<void> {
  const was = await shownBy(before).catch(() => []);
  if (was.length === 0) return;
  const is = await shownBy(after);
  const isDropped = (at: number): boolean =>
    result.dropped.some(({ diskOffset, length }) => at + 65536 > diskOffset && at < diskOffset + length);
  for (const [index, part] of was.entries()) {
    if (part && !isDropped(index * 65536)) expect(is[index]?.equals(part), `at ${index * 65536}`).toBe(true);
  }
}

/** Codes that images had that were repaired: one of a kind is enough where images are large. */
const examined = new Set<string>();

async function examine({ build, code, format }: DamagedImage): Promise<void> {
  const image = await build();
  const before = await checked(image);
  for (const finding of before?.findings ?? []) {
    seen.add(finding.code);
    if (finding.repairable && finding.severity !== 'leak') repairable.add(finding.code);
  }
  if (code !== undefined) expect(before?.findings.map((finding) => finding.code)).toContain(code);
  const disk = diskWith(image);
  if (!before) {
    await expect(repairOn(disk, 'all')).rejects.toThrow();
    expect(Buffer.compare(disk.files().get(IMAGE) ?? Buffer.alloc(0), image)).toBe(0);
    return;
  }
  const kinds = before.findings.map((finding) => finding.code).join(' ');
  if (format === 'vhdx' && code === undefined && examined.has(kinds)) return;
  examined.add(kinds);
  if (!before.findings.some(({ repairable }) => repairable)) {
    expect(await repairOn(disk, 'all')).toMatchObject({ backup: null, repaired: [], dropped: [] });
    expect(Buffer.compare(disk.files().get(IMAGE) ?? Buffer.alloc(0), image)).toBe(0);
    return;
  }
  const foreseen = await repairOn(disk, 'all', true);
  expect([...disk.files().keys()]).toEqual([IMAGE]);
  const result = await repairOn(disk, 'all');
  expect(result.dropped.map(({ block }) => block)).toEqual(foreseen.dropped.map(({ block }) => block));
  const after = disk.files().get(IMAGE) ?? Buffer.alloc(0);
  await isStillReadable(image, after, result);
  const left = result.findings.filter((finding) => isOwn(finding) && finding.repairable);
  if (result.refused.length === 0) expect(left).toEqual([]);
  const errorsBefore = keys({
    ...before,
    findings: before.findings.filter(({ severity }) => severity === 'error'),
  });
  const isNew = result.findings.filter(
    (finding) =>
      finding.severity === 'error' &&
      isOwn(finding) &&
      !errorsBefore.includes(`${finding.code}@${finding.offset}`),
  );
  expect(isNew).toEqual([]);
  expect(await repairOn(disk, 'all')).toMatchObject({ backup: null, repaired: [], dropped: [] });
  if (result.backup === null) expect(Buffer.compare(after, image)).toBe(0);
  else {
    await undoRepair(hostOn(disk), { path: IMAGE, backup: result.backup });
    expect(Buffer.compare(disk.files().get(IMAGE) ?? Buffer.alloc(0), image)).toBe(0);
  }
}

/** A type leaves nothing at run time: the codes of VHD are read from the source. */
function declaredCodes(): string[] {
  const source = readFileSync(path.join(PROJECT_ROOT, 'src/formats/vhd/defects.ts'), 'utf8');
  const declared = /export type VhdDefect =(.*?);\n\n/s.exec(source)?.[1] ?? '';
  const vhd = [...declared.matchAll(/'(VHD_[A-Z0-9_]+)'/g)].map(([, code]) => code ?? '');
  return [...vhd, ...Object.keys(VHDX_DEFECTS)];
}

describe('repairing', () => {
  it.each(DAMAGED_IMAGES)('$name', examine);

  it('is tried with every code that the formats know', () => {
    expect(declaredCodes().length).toBeGreaterThan(80);
    const missing = declaredCodes().filter((code) => !seen.has(code));
    expect(missing.filter((code) => !ELSEWHERE.has(code))).toEqual([]);
  });

  it('is documented for every code', () => {
    const page = readFileSync(path.join(PROJECT_ROOT, 'docs/cli.md'), 'utf8');
    const repairs = new Map(
      [...page.matchAll(/^\| `(VHDX?_[A-Z0-9_]+)` \| .+ \| (.+) \|$/gm)].map(([, code, what]) => [
        code,
        what,
      ]),
    );
    expect([...declaredCodes()].filter((code) => !repairs.has(code))).toEqual([]);
    expect([...repairable].filter((code) => repairs.get(code) === '—')).toEqual([]);
  });
});
