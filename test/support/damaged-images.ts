/**
 * One damaged image at least for every defect code of the formats: those of the formats' own tests, and recipes
 * for what they do not have.
 */
import { HOSTILE_CASES, type HostileCase } from '../unit/formats/vhd/hostile-cases.js';
import { AT, BLOCK, editFooters, smallChild, smallDynamic, smallFixed } from '../unit/formats/vhd/images.js';
import { CONTENT_CASES } from '../unit/formats/vhdx/hostile-contents.js';
import type { HostileCase as VhdxCase } from '../unit/formats/vhdx/hostile-kit.js';
import { STRUCTURE_CASES } from '../unit/formats/vhdx/hostile-structures.js';
import { buildVhdx, LOG_GUID, logPage, MIB, putLogEntry } from './vhdx-builder.js';

export interface DamagedImage {
  name: string;
  format: 'vhd' | 'vhdx';
  /** Codes that it is sure to show; others come along. */
  code?: string;
  build(): Promise<Uint8Array>;
}

type VhdRecipe = Pick<HostileCase, 'name' | 'base' | 'mutate'> & { code: string };

const footers = (edit: (footer: Buffer) => void) => (bytes: Buffer) => editFooters(bytes, edit);

/** An image that Virtual PC made, with a geometry of 4 × 17 × 1 sectors for 128. */
function geometryOfVirtualPc(footer: Buffer): void {
  footer.write('vpc ', 28, 'latin1');
  footer.writeUInt16BE(1, 56);
  footer.writeUInt8(4, 58);
  footer.writeUInt8(17, 59);
}

const VHD_RECIPES: VhdRecipe[] = [
  {
    name: 'front copy damaged',
    base: 'dynamic',
    code: 'VHD_FOOTER_COPY_DAMAGED',
    mutate: (bytes) => bytes.fill(0x55, 100, 200),
  },
  {
    name: 'fixed, wrong checksum',
    base: 'fixed',
    code: 'VHD_FOOTER_CHECKSUM',
    mutate: (bytes) => bytes.fill(7, bytes.length - 512 + 64, bytes.length - 512 + 68),
  },
  {
    name: 'both copies with the same wrong checksum',
    base: 'dynamic',
    code: 'VHD_FOOTER_CHECKSUM',
    mutate: (bytes) => bytes.fill(7, 64, 68).fill(7, bytes.length - 448, bytes.length - 444),
  },
  {
    name: 'both copies damaged, each otherwise',
    base: 'dynamic',
    code: 'VHD_FOOTER_CHECKSUM',
    mutate: (bytes) => bytes.fill(7, 64, 68).fill(9, bytes.length - 448, bytes.length - 444),
  },
  {
    name: 'a footer of 511 bytes',
    base: 'fixed',
    code: 'VHD_FOOTER_LEGACY',
    mutate: (bytes) => bytes.subarray(0, bytes.length - 1),
  },
  {
    name: 'a size that is no multiple of a sector',
    base: 'fixed',
    code: 'VHD_SIZE_NOT_SECTORS',
    mutate: footers((footer) => footer.writeBigUInt64BE(BigInt(4 * BLOCK - 100), 48)),
  },
  {
    name: 'a geometry of Virtual PC that is too small',
    base: 'dynamic',
    code: 'VHD_GEOMETRY_SMALLER',
    mutate: footers(geometryOfVirtualPc),
  },
  {
    name: 'saved state',
    base: 'dynamic',
    code: 'VHD_SAVED_STATE',
    mutate: footers((footer) => footer.writeUInt8(1, 84)),
  },
  {
    name: 'features without the reserved bit',
    base: 'dynamic',
    code: 'VHD_RESERVED_FIELD',
    mutate: footers((footer) => footer.writeUInt32BE(0, 8)),
  },
  {
    name: 'the footer at the end is gone',
    base: 'dynamic',
    code: 'VHD_FOOTER_DAMAGED',
    mutate: (bytes) => bytes.subarray(0, AT.endFooter),
  },
];

const BASES = { dynamic: smallDynamic, fixed: smallFixed, child: async () => smallChild() };

const VHD: DamagedImage[] = [...HOSTILE_CASES, ...VHD_RECIPES].map((recipe) => ({
  name: `${recipe.base} VHD: ${recipe.name}`,
  format: 'vhd',
  ...('code' in recipe ? { code: recipe.code } : {}),
  build: async () => Uint8Array.from(recipe.mutate(Buffer.from(await BASES[recipe.base]()))),
}));

const PATTERN = Uint8Array.from({ length: MIB }, (_, at) => at * 13 + (at >>> 9));
const FIRST = { index: 0, data: [{ offset: 0, bytes: PATTERN }] };

async function dirtyLog(updates: number): Promise<Uint8Array> {
  const built = await buildVhdx({ virtualSize: 4 * MIB, blocks: [FIRST], logGuid: LOG_GUID });
  const payload = built.places.payload.get(0) ?? 0;
  const pages = Array.from({ length: updates }, (_, page) => ({
    offset: payload + page * 8192,
    page: logPage(page),
  }));
  await putLogEntry(built, 0, { sequence: 1n, updates: pages });
  return built.file.bytes();
}

const VHDX_RECIPES: DamagedImage[] = [
  { name: 'a log to replay', format: 'vhdx', code: 'VHDX_LOG_DIRTY', build: () => dirtyLog(3) },
  {
    name: 'two valid region tables that differ',
    format: 'vhdx',
    code: 'VHDX_REGION_TABLES_DIFFER',
    async build() {
      const { file } = await buildVhdx({ virtualSize: 4 * MIB, blocks: [FIRST] });
      const other = await buildVhdx({
        virtualSize: 4 * MIB,
        regions: (regions) => regions.map((region) => ({ ...region, required: false })),
      });
      const table = other.file.bytes().slice(256 * 1024, 320 * 1024);
      await file.write(table, 256 * 1024);
      return file.bytes();
    },
  },
  {
    name: 'the file ends inside its last block',
    format: 'vhdx',
    code: 'VHDX_BLOCK_CUT_SHORT',
    async build() {
      const { file } = await buildVhdx({ virtualSize: 4 * MIB, blocks: [FIRST] });
      await file.truncate(file.size() - 4096);
      return file.bytes();
    },
  },
];

async function buildCase({ description, spoil }: VhdxCase): Promise<Uint8Array> {
  const built = await buildVhdx({ virtualSize: 16 * MIB, blocks: [FIRST], ...description });
  await spoil?.(built);
  return built.file.bytes();
}

const VHDX: DamagedImage[] = [...STRUCTURE_CASES, ...CONTENT_CASES].map((recipe) => ({
  name: `VHDX: ${recipe.name}`,
  format: 'vhdx',
  build: () => buildCase(recipe),
}));

export const DAMAGED_IMAGES: readonly DamagedImage[] = [...VHD, ...VHDX_RECIPES, ...VHDX];
