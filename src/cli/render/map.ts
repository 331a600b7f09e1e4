/**
 * `map` as JSON and as text, both written while the extents come in: memory does not grow with their
 * number.
 *
 * A failure in the middle still leaves one JSON document: it ends with `error` beside `extents`.
 */
import { formatSize } from '../../base/bytes.js';
import type { DiskMap, MapEntry } from '../../operations/map.js';
import { describeFailure } from '../failure.js';
import { OutputClosed, ReportedInDocument, SCHEMA_VERSION, TextWriter } from '../output.js';
import { type BlockMap, hasUnicode, renderBlockMap } from './block-map.js';
import { chainLines } from './chain.js';
import { printable, type Style } from './style.js';
import { sizeText } from './text.js';

/** Extents listed on a terminal; the picture must stay in sight. */
const TERMINAL_LINES = 40;

function entryJson({ offset, length, state, file, fileOffset, depth }: MapEntry): string {
  return JSON.stringify({ offset, length, state, file, fileOffset, depth });
}

/**
 * Prints the one JSON document.
 * @throws ReportedInDocument, OutputClosed
 */
export async function printMapJson(map: DiskMap, picture: BlockMap): Promise<void> {
  const writer = new TextWriter();
  const problem = map.parentProblem;
  const head = {
    schemaVersion: SCHEMA_VERSION,
    virtualSize: map.virtualSize,
    chain: map.images,
    ...(problem ? { parentProblem: describeFailure(problem, 'map') } : {}),
  };
  await writer.write(`${JSON.stringify(head).slice(0, -1)},"extents":[`);
  let separator = '\n';
  try {
    for await (const entry of map.entries()) {
      picture.add(entry);
      await writer.write(`${separator}${entryJson(entry)}`);
      separator = ',\n';
    }
  } catch (error) {
    if (error instanceof OutputClosed) throw error;
    await writer.write(`\n],"error":${JSON.stringify(describeFailure(error, 'map'))}}\n`);
    await writer.flush();
    throw new ReportedInDocument(error);
  }
  await writer.write('\n]}\n');
  await writer.flush();
}

/** Widths that fit every number of the disk, so that lines can be printed as they come. */
class Table {
  readonly #width: number;

  constructor(virtualSize: number) {
    this.#width = Math.max(6, String(virtualSize).length);
  }

  heading(): string {
    return this.#line('offset', 'length', '', 'state', 'depth', 'at', 'file');
  }

  row({ offset, length, state, depth, file, fileOffset }: MapEntry): string {
    const at = fileOffset === undefined ? '' : String(fileOffset);
    const name = file === undefined ? '' : printable(file);
    return this.#line(String(offset), String(length), formatSize(length), state, String(depth), at, name);
  }

  #line(...cells: [string, string, string, string, string, string, string]): string {
    const [offset, length, size, state, depth, at, file] = cells;
    const w = this.#width;
    const columns = [offset.padStart(w), length.padStart(w), size.padStart(9), state.padEnd(6)];
    return [...columns, depth.padStart(5), at.padStart(w), file].join('  ').trimEnd();
  }
}

function totalsLine(picture: BlockMap): string {
  const { extents, data, zero, absent, jumps } = picture.totals;
  const parts = [`data ${sizeText(data)}`, `zero ${sizeText(zero)}`];
  if (absent > 0) parts.push(`absent ${sizeText(absent)}`);
  parts.push(`${extents} ${extents === 1 ? 'extent' : 'extents'}`, `${jumps} jumps in the file`);
  return parts.join(', ');
}

/** Prints the extents as a table, then the picture and the totals. */
export async function printMapText(
  map: DiskMap,
  picture: BlockMap,
  path: string,
  style: Style,
): Promise<void> {
  const writer = new TextWriter();
  const table = new Table(map.virtualSize);
  const limit = process.stdout.isTTY ? TERMINAL_LINES : Number.POSITIVE_INFINITY;
  for (const line of chainLines(map.images, style)) await writer.write(`${line}\n`);
  await writer.write(`${style.dim(table.heading())}\n`);
  for await (const entry of map.entries()) {
    picture.add(entry);
    if (picture.totals.extents <= limit) await writer.write(`${table.row(entry)}\n`);
  }
  const left = picture.totals.extents - limit;
  if (left > 0)
    await writer.write(style.dim(`… and ${left} more; all of them with --json or through a pipe\n`));
  const size = `${style.bold(printable(path))}: ${sizeText(map.virtualSize)}`;
  const lines = ['', size, ...renderBlockMap(picture, style, hasUnicode()), totalsLine(picture)];
  await writer.write(`${lines.join('\n')}\n`);
  await writer.flush();
}
