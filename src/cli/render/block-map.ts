/**
 * A picture of a disk: a fixed number of cells, each an equal share of it.
 *
 * Memory is that of the cells whatever the number of extents. A cell shows what its share consists of
 * (data, zero, absent, or a mixture), and whether payload in it jumps about in the file.
 *
 * Not here: the picture as SVG (block-map-svg.ts).
 */
import { formatSize, roundUp } from '../../base/bytes.js';
import type { MapEntry } from '../../operations/map.js';
import type { Style } from './style.js';

export type CellState = 'data' | 'scattered' | 'mixed' | 'zero' | 'absent';

export const CELL_STATES: readonly CellState[] = ['data', 'scattered', 'mixed', 'zero', 'absent'];

export const CELL_NAMES: Record<CellState, string> = {
  data: 'data',
  scattered: 'data, not in one piece in the file',
  mixed: 'partly data',
  zero: 'zero',
  absent: 'absent',
};

const GRIDS = { terminal: { columns: 64, rows: 16 }, file: { columns: 128, rows: 64 } } as const;

const UNICODE: Record<CellState, string> = { data: '█', scattered: '▓', mixed: '▒', zero: '·', absent: ' ' };
const ASCII: Record<CellState, string> = { data: '#', scattered: '%', mixed: '+', zero: '.', absent: ' ' };

/** Gap in the file that is no jump: a VHD block has its bitmap in front of it, 64 KiB at most. */
const TABLE_GAP = 64 * 1024;

interface Cell {
  data: number;
  zero: number;
  absent: number;
  /** Places where payload goes on somewhere else in the file. */
  jumps: number;
}

export interface MapTotals {
  extents: number;
  data: number;
  zero: number;
  absent: number;
  jumps: number;
}

export class BlockMap {
  readonly columns: number;
  /** Bytes of the disk that one cell stands for. */
  readonly cellSize: number;
  readonly virtualSize: number;
  readonly totals: MapTotals = { extents: 0, data: 0, zero: 0, absent: 0, jumps: 0 };
  readonly #cells: Cell[];
  #previous: MapEntry | undefined;

  constructor(virtualSize: number, blockSize: number | null, grid: keyof typeof GRIDS) {
    const { columns, rows } = GRIDS[grid];
    const unit = blockSize ?? 4096;
    this.virtualSize = virtualSize;
    this.columns = columns;
    this.cellSize = Math.max(unit, roundUp(Math.ceil(virtualSize / (columns * rows)), unit));
    const count = Math.ceil(virtualSize / this.cellSize);
    this.#cells = Array.from({ length: count }, () => ({ data: 0, zero: 0, absent: 0, jumps: 0 }));
  }

  /** Adds the next extent. Extents come in the order of the disk. */
  add(entry: MapEntry): void {
    this.totals.extents += 1;
    this.totals[entry.state] += entry.length;
    const jump = this.#isJump(entry);
    if (jump) this.totals.jumps += 1;
    const end = entry.offset + entry.length;
    for (let at = entry.offset; at < end; ) {
      const index = Math.floor(at / this.cellSize);
      const cell = this.#cells[index];
      if (!cell) return;
      const next = Math.min(end, (index + 1) * this.cellSize);
      cell[entry.state] += next - at;
      if (jump && at === entry.offset) cell.jumps += 1;
      at = next;
    }
  }

  #isJump(entry: MapEntry): boolean {
    if (entry.state !== 'data') return false;
    const before = this.#previous;
    this.#previous = entry;
    if (before?.fileOffset === undefined || entry.fileOffset === undefined) return false;
    if (before.file !== entry.file) return false;
    const gap = entry.fileOffset - (before.fileOffset + before.length);
    // As far apart in the file as on the disk: one piece with something left out.
    if (gap === entry.offset - (before.offset + before.length)) return false;
    return gap < 0 || gap > TABLE_GAP;
  }

  /** What each cell shows, in order. */
  states(): CellState[] {
    return this.#cells.map(({ data, zero, absent, jumps }) => {
      if (data > 0 && zero + absent > 0) return 'mixed';
      if (data > 0) return jumps > 0 ? 'scattered' : 'data';
      return absent > zero ? 'absent' : 'zero';
    });
  }
}

/** True where the terminal's character set has block characters. */
export function hasUnicode(
  env: Readonly<Record<string, string | undefined>> = process.env,
  platform: string = process.platform,
): boolean {
  if (platform === 'win32' || platform === 'darwin') return true;
  return /utf-?8/i.test(env.LC_ALL || env.LC_CTYPE || env.LANG || '');
}

function painter(state: CellState, style: Style): (text: string) => string {
  if (state === 'data') return style.cyan;
  if (state === 'scattered') return style.yellow;
  return state === 'mixed' ? style.green : style.dim;
}

function paintRow(row: readonly CellState[], glyphs: Record<CellState, string>, style: Style): string {
  let text = '';
  for (let start = 0; start < row.length; ) {
    const state = row[start] ?? 'zero';
    let end = start;
    while (end < row.length && row[end] === state) end += 1;
    text += painter(state, style)(glyphs[state].repeat(end - start));
    start = end;
  }
  return text;
}

/** The picture for a terminal, with the disk's offset before each row, and the legend. */
export function renderBlockMap(map: BlockMap, style: Style, unicode: boolean): string[] {
  const glyphs = unicode ? UNICODE : ASCII;
  const [left, right] = unicode ? ['│', '│'] : ['|', '|'];
  const states = map.states();
  const lines: string[] = [];
  for (let at = 0; at < states.length; at += map.columns) {
    const row = states.slice(at, at + map.columns);
    const padding = ' '.repeat(states.length > map.columns ? map.columns - row.length : 0);
    const label = formatSize(at * map.cellSize).padStart(10);
    lines.push(`${style.dim(label)} ${left}${paintRow(row, glyphs, style)}${padding}${right}`);
  }
  const present = CELL_STATES.filter((state) => states.includes(state));
  const legend = present.map(
    (state) => `${painter(state, style)(`[${glyphs[state]}]`)} ${CELL_NAMES[state]}`,
  );
  lines.push('', `${' '.repeat(11)}${legend.join('  ')}`);
  lines.push(`${' '.repeat(11)}each cell: ${formatSize(map.cellSize)}`);
  return lines;
}
