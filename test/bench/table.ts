/**
 * Results as a table that reads well in a terminal and in Markdown.
 */

export type Row = readonly string[];

/** Columns padded to the same width; the first is aligned left, the others right. */
export function table(header: Row, rows: readonly Row[]): string {
  const widths = header.map((title, column) =>
    Math.max(title.length, ...rows.map((row) => row[column]?.length ?? 0)),
  );
  const line = (row: Row): string =>
    `| ${widths
      .map((width, column) => {
        const cell = row[column] ?? '';
        return column === 0 ? cell.padEnd(width) : cell.padStart(width);
      })
      .join(' | ')} |`;
  const rule = `|${widths.map((width, column) => `${'-'.repeat(width + (column === 0 ? 2 : 1))}${column === 0 ? '' : ':'}`).join('|')}|`;
  return [line(header), rule, ...rows.map(line)].join('\n');
}

export function milliseconds(value: number): string {
  return value < 1000 ? `${value.toFixed(0)} ms` : `${(value / 1000).toFixed(2)} s`;
}

export function mebibytes(value: number | undefined): string {
  return value === undefined ? '-' : `${(value / 1024 / 1024).toFixed(0)} MiB`;
}

/** `0.043 (1/23)`: a ratio, and for small ones how many times faster that is. */
export function ratio(value: number): string {
  return value < 0.5 ? `${value.toFixed(3)} (1/${(1 / value).toFixed(0)})` : value.toFixed(2);
}
