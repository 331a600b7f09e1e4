/** Each rule of each profile: broken by exactly the facts that are meant to break it. */
import { describe, expect, test } from 'vitest';
import { PROFILES } from '../../../../src/operations/profiles/profiles.js';
import { type ImageFacts, judge, type ProfileName } from '../../../../src/operations/profiles/rule.js';

const MiB = 1024 ** 2;
const GiB = 1024 * MiB;
const TiB = 1024 * GiB;

const gpt = (size: number): ImageFacts['contents'] => ({
  partitionTable: 'gpt',
  gptBackupOffset: size - 512,
});

function fixedVhd(virtualSize: number): ImageFacts {
  return {
    format: 'vhd',
    type: 'fixed',
    virtualSize,
    fileSize: virtualSize + 512,
    logicalSectorSize: 512,
    log: 'none',
    defects: [],
    contents: gpt(virtualSize) ?? { partitionTable: 'none' },
  };
}

function dynamicVhd(virtualSize: number): ImageFacts {
  return { ...fixedVhd(virtualSize), type: 'dynamic', fileSize: 4 * MiB, blockSize: 2 * MiB };
}

function dynamicVhdx(virtualSize: number): ImageFacts {
  return { ...dynamicVhd(virtualSize), format: 'vhdx', blockSize: MiB, log: 'clean' };
}

const ext4 = { partitionTable: 'none', wholeDisk: 'ext4' } as const;

/** An image that the platform takes without a word. */
const GOOD: Record<ProfileName, ImageFacts> = {
  azure: fixedVhd(GiB),
  hyperv: dynamicVhdx(GiB),
  xenserver: dynamicVhd(GiB),
  virtualbox: dynamicVhd(GiB),
  wsl: { ...dynamicVhdx(GiB), contents: ext4 },
};

interface Case {
  rule: string;
  facts: ImageFacts;
}

const of = (facts: ImageFacts, change: Partial<ImageFacts>): ImageFacts => ({ ...facts, ...change });
const A = GOOD.azure;
const H = GOOD.hyperv;
const X = GOOD.xenserver;
const V = GOOD.virtualbox;
const W = GOOD.wsl;
const raw = (facts: ImageFacts): ImageFacts =>
  of(facts, { format: 'raw', type: 'fixed', fileSize: facts.virtualSize });

const BROKEN: Record<ProfileName, readonly Case[]> = {
  azure: [
    { rule: 'AZURE_FORMAT', facts: raw(A) },
    { rule: 'AZURE_FORMAT', facts: dynamicVhdx(GiB) },
    { rule: 'AZURE_TYPE', facts: dynamicVhd(GiB) },
    { rule: 'AZURE_TYPE', facts: of(dynamicVhd(GiB), { type: 'differencing' }) },
    { rule: 'AZURE_SIZE_NOT_MIB', facts: fixedVhd(GiB + 512) },
    { rule: 'AZURE_SIZE_NOT_MIB', facts: fixedVhd(GiB - 512) },
    { rule: 'AZURE_FILE_LENGTH', facts: of(A, { fileSize: GiB + 1024 }) },
    { rule: 'AZURE_FILE_LENGTH', facts: of(A, { fileSize: GiB + 511 }) },
    { rule: 'AZURE_TOO_SMALL', facts: fixedVhd(19 * MiB) },
    { rule: 'AZURE_TOO_LARGE', facts: fixedVhd(32 * TiB + MiB) },
    { rule: 'AZURE_DATA_DISK_ONLY', facts: fixedVhd(4095 * GiB + MiB) },
    { rule: 'AZURE_DATA_DISK_ONLY', facts: fixedVhd(32 * TiB) },
    { rule: 'AZURE_GENERATION_2_ONLY', facts: fixedVhd(2 * TiB + MiB) },
    { rule: 'AZURE_GENERATION_2_ONLY', facts: fixedVhd(4095 * GiB) },
    { rule: 'AZURE_OVER_1_TIB', facts: fixedVhd(1023 * GiB + MiB) },
    { rule: 'AZURE_OVER_1_TIB', facts: fixedVhd(2 * TiB) },
    { rule: 'AZURE_GENERATION_1_ONLY', facts: of(A, { contents: { partitionTable: 'mbr' } }) },
    { rule: 'AZURE_GPT_BACKUP', facts: of(A, { contents: gpt(GiB - MiB) ?? ext4 }) },
  ],
  hyperv: [
    { rule: 'HYPERV_FORMAT', facts: raw(H) },
    { rule: 'HYPERV_GENERATION_1_ONLY', facts: dynamicVhd(GiB) },
    { rule: 'HYPERV_LARGE_SECTORS', facts: of(H, { logicalSectorSize: 4096 }) },
    { rule: 'HYPERV_LOG_DIRTY', facts: of(H, { log: 'dirty' }) },
  ],
  xenserver: [
    { rule: 'XENSERVER_FORMAT', facts: raw(X) },
    { rule: 'XENSERVER_FORMAT', facts: dynamicVhdx(GiB) },
    { rule: 'XENSERVER_TYPE', facts: fixedVhd(GiB) },
    { rule: 'XENSERVER_BLOCK_SIZE', facts: of(X, { blockSize: 512 * 1024 }) },
    { rule: 'XENSERVER_TOO_LARGE', facts: dynamicVhd(2040 * GiB + 2 * MiB) },
    { rule: 'XENSERVER_SIZE_NOT_2_MIB', facts: dynamicVhd(GiB + MiB) },
    { rule: 'XENSERVER_STRUCTURES', facts: of(X, { defects: ['VHD_GEOMETRY_TOO_LARGE'] }) },
    { rule: 'XENSERVER_VHD_LIB', facts: of(X, { vhdLibComplaint: 'no' }) },
    { rule: 'XENSERVER_GPT_BACKUP', facts: of(X, { contents: gpt(GiB - 512) ?? ext4 }) },
  ],
  virtualbox: [
    { rule: 'VIRTUALBOX_FORMAT', facts: raw(V) },
    { rule: 'VIRTUALBOX_VHDX_READ_ONLY', facts: dynamicVhdx(GiB) },
    { rule: 'VIRTUALBOX_TOO_LARGE', facts: of(dynamicVhd(2040 * GiB + MiB), { type: 'differencing' }) },
    { rule: 'VIRTUALBOX_BLOCK_SIZE', facts: of(V, { blockSize: 4 * MiB }) },
    { rule: 'VIRTUALBOX_FIXED_NOT_RESIZABLE', facts: fixedVhd(GiB) },
    { rule: 'VIRTUALBOX_NOT_COMPACTABLE', facts: dynamicVhd(9 * GiB) },
  ],
  wsl: [
    { rule: 'WSL_FORMAT', facts: raw(W) },
    { rule: 'WSL_FORMAT', facts: of(dynamicVhd(GiB), { contents: ext4 }) },
    { rule: 'WSL_DIFFERENCING', facts: of(W, { type: 'differencing' }) },
    { rule: 'WSL_FIXED', facts: of(W, { type: 'fixed' }) },
    { rule: 'WSL_BLOCK_SIZE', facts: of(W, { blockSize: 32 * MiB }) },
    { rule: 'WSL_LARGE_SECTORS', facts: of(W, { logicalSectorSize: 4096 }) },
    { rule: 'WSL_PARTITION_TABLE', facts: of(W, { contents: gpt(GiB) ?? ext4 }) },
    { rule: 'WSL_PARTITION_TABLE', facts: of(W, { contents: { partitionTable: 'damaged' } }) },
    { rule: 'WSL_NOT_EXT4', facts: of(W, { contents: { partitionTable: 'none', wholeDisk: 'other' } }) },
  ],
};

/** Rules that can't be broken alone, and what is broken with them. */
const WITH: Record<string, readonly string[]> = {
  // A VHD is for generation 1 whatever its size.
  HYPERV_TOO_LARGE: ['HYPERV_GENERATION_1_ONLY', 'HYPERV_TOO_LARGE'],
};

const names = Object.keys(PROFILES) as ProfileName[];
const codes = (name: ProfileName, facts: ImageFacts): string[] =>
  judge(PROFILES[name], facts).map(({ code }) => code);

describe.each(names)('%s', (name) => {
  test('an image as it should be breaks no rule', () => {
    expect(codes(name, GOOD[name])).toEqual([]);
  });

  test.each(BROKEN[name].map(({ rule, facts }, index) => [rule, index, facts] as const))(
    '%s, case %i: this rule and no other',
    (rule, _index, facts) => {
      expect(codes(name, facts)).toEqual([rule]);
    },
  );

  test('every rule has a case', () => {
    const tested = new Set([...BROKEN[name].map(({ rule }) => rule), ...Object.keys(WITH)]);
    expect(PROFILES[name].rules.map(({ id }) => id).filter((id) => !tested.has(id))).toEqual([]);
  });

  test('every rule says why, where that is written and what to do', () => {
    for (const { id, reason, source, hint } of PROFILES[name].rules) {
      expect(id).toMatch(new RegExp(`^${name.toUpperCase()}_[A-Z0-9_]+$`));
      for (const text of [reason, source, hint]) expect(text.length, id).toBeGreaterThan(10);
      expect(reason, id).toMatch(/\.$/);
    }
  });

  test('facts that are not known yet break no rule', () => {
    const { format, type, virtualSize, logicalSectorSize, log } = GOOD[name];
    expect(codes(name, { format, type, virtualSize, logicalSectorSize, log, defects: [] })).toEqual([]);
  });
});

test('a VHD too large for Windows', () => {
  expect(codes('hyperv', of(dynamicVhd(2041 * GiB), {}))).toEqual(WITH.HYPERV_TOO_LARGE);
});

test('the limits of Azure are where they are: 20 MiB and 32 TiB are in', () => {
  expect(codes('azure', fixedVhd(20 * MiB))).toEqual([]);
  expect(codes('azure', fixedVhd(32 * TiB))).toEqual(['AZURE_DATA_DISK_ONLY']);
});

test('it is said which of the two sizes is wrong when only the file is a whole number of MiB', () => {
  const [finding] = judge(PROFILES.azure, fixedVhd(GiB - 512));
  expect(finding?.message).toContain('not what counts');
});

test('2040 GiB are not too large for XenServer', () => {
  expect(codes('xenserver', dynamicVhd(2040 * GiB))).toEqual([]);
});

test.each(['VHD_FOOTER_COPIES_DIFFER', 'VHD_UNIQUE_ID_ZERO', 'VHD_RESERVED_FIELD', 'VHD_FOOTER_LEGACY'])(
  'vhd-util refuses %s',
  (defect) => {
    expect(codes('xenserver', of(X, { defects: [defect] }))).toEqual(['XENSERVER_STRUCTURES']);
  },
);
