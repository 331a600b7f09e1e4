/**
 * The picture of a disk as an SVG file: rows of cells, a legend and the totals.
 *
 * Neighbouring cells of the same state are one rectangle, so the file stays small. It refers to nothing
 * outside itself. The file appears under its name when it is complete.
 */
import { formatSize } from '../../base/bytes.js';
import type { FileSystem } from '../../io/file-system.js';
import { type BlockMap, CELL_NAMES, CELL_STATES, type CellState } from './block-map.js';

const CELL = 8;
const MARGIN = 16;
const COLORS: Record<CellState, string> = {
  data: '#1f77b4',
  scattered: '#ff7f0e',
  mixed: '#9ecae1',
  zero: '#e6e6e6',
  absent: '#ffffff',
};

function escapeXml(text: string): string {
  const names: Record<string, string> = { '<': '&lt;', '>': '&gt;', '&': '&amp;', '"': '&quot;' };
  // XML 1.0 does not allow control characters, not even escaped.
  return text.replace(/\p{Cc}/gu, '�').replace(/[<>&"]/g, (character) => names[character] ?? '');
}

function rect(x: number, y: number, width: number, state: CellState): string {
  return `<rect x="${x}" y="${y}" width="${width}" height="${CELL}" class="${state}"/>`;
}

function rowRects(row: readonly CellState[], y: number): string[] {
  const rects: string[] = [];
  for (let start = 0; start < row.length; ) {
    const state = row[start] ?? 'zero';
    let end = start;
    while (end < row.length && row[end] === state) end += 1;
    rects.push(rect(MARGIN + start * CELL, y, (end - start) * CELL, state));
    start = end;
  }
  return rects;
}

function legend(y: number): string[] {
  return CELL_STATES.map((state, index) => {
    const top = y + index * 16;
    return `${rect(MARGIN, top, CELL, state)}<text x="${MARGIN + 14}" y="${top + 8}">${CELL_NAMES[state]}</text>`;
  });
}

function summary(map: BlockMap): string {
  const { data, zero, absent, extents, jumps } = map.totals;
  const parts = [
    `${formatSize(map.virtualSize)} disk`,
    `data ${formatSize(data)}`,
    `zero ${formatSize(zero)}`,
  ];
  if (absent > 0) parts.push(`absent ${formatSize(absent)}`);
  parts.push(`${extents} extents`, `${jumps} jumps in the file`, `each cell ${formatSize(map.cellSize)}`);
  return parts.join(' · ');
}

/** The whole SVG document. */
export function renderSvg(map: BlockMap, title: string): string {
  const states = map.states();
  const rows = Math.max(1, Math.ceil(states.length / map.columns));
  const top = MARGIN + 44;
  const bottom = top + rows * CELL + MARGIN;
  const width = MARGIN * 2 + map.columns * CELL;
  const height = bottom + CELL_STATES.length * 16 + MARGIN;
  const rects = Array.from({ length: rows }, (_, row) =>
    rowRects(states.slice(row * map.columns, (row + 1) * map.columns), top + row * CELL),
  ).flat();
  const classes = CELL_STATES.map((state) => `.${state}{fill:${COLORS[state]}}`).join('');
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}">`,
    `<title>${escapeXml(title)}</title>`,
    `<style>text{font:12px sans-serif;fill:#222}rect{stroke:#bbb;stroke-width:.25}${classes}</style>`,
    `<text x="${MARGIN}" y="${MARGIN + 10}" font-weight="bold">${escapeXml(title)}</text>`,
    `<text x="${MARGIN}" y="${MARGIN + 30}">${escapeXml(summary(map))}</text>`,
    ...rects,
    ...legend(bottom),
    '</svg>',
    '',
  ].join('\n');
}

/** @throws ALREADY_EXISTS unless `overwrite`; NOT_FOUND, PERMISSION_DENIED, NO_SPACE, IO_FAILED */
export async function saveSvg(
  fileSystem: FileSystem,
  path: string,
  map: BlockMap,
  title: string,
  overwrite: boolean,
): Promise<void> {
  const pending = await fileSystem.createPending(path, { overwrite });
  try {
    await pending.file.write(new TextEncoder().encode(renderSvg(map, title)), 0);
    await pending.publish();
  } finally {
    await pending.discard();
  }
}
