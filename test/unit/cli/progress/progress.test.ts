import { describe, expect, test } from 'vitest';
import { JsonProgress } from '../../../../src/cli/progress/json-lines.js';
import { PlainProgress } from '../../../../src/cli/progress/plain.js';
import { resolveKind } from '../../../../src/cli/progress/progress.js';

const MiB = 1024 ** 2;

class Screen {
  readonly lines: string[] = [];
  write(text: string): void {
    this.lines.push(text.trimEnd());
  }
}

class Time {
  milliseconds = 0;
  readonly now = (): number => this.milliseconds;
}

test.each([
  ['auto', true, 'xterm', 'bar'],
  ['auto', true, 'dumb', 'none'],
  ['auto', false, 'xterm', 'none'],
  ['bar', false, undefined, 'bar'],
  ['json', true, 'xterm', 'json'],
] as const)('%s on a terminal (%s, %s) is %s', (kind, isTTY, term, expected) => {
  expect(resolveKind(kind, isTTY, term)).toBe(expected);
});

describe('JSON lines', () => {
  test('throttled, with the last state at the end', () => {
    const screen = new Screen();
    const time = new Time();
    const progress = new JsonProgress(screen, 'Converting', time.now);
    for (let done = 0; done <= 1000; done += 1) {
      time.milliseconds = done;
      progress.update(done, 1000);
    }
    progress.stop();
    progress.stop();
    const lines = screen.lines.map((line) => JSON.parse(line) as Record<string, unknown>);
    expect(lines.map((line) => line.transferred)).toEqual([0, 200, 400, 600, 800, 1000]);
    expect(lines.at(-1)).toEqual({
      transferred: 1000,
      size: 1000,
      elapsed: 1,
      description: 'Converting',
      work: null,
      rate: 1000,
      remaining: 0,
    });
    expect(lines[2]).toMatchObject({ rate: 1000, remaining: 0.6 });
  });

  test('says nothing when nothing happened', () => {
    const screen = new Screen();
    new JsonProgress(screen, 'x', () => 0).stop();
    expect(screen.lines).toEqual([]);
  });
});

test('plain lines tell percentage, rate and what is left', () => {
  const screen = new Screen();
  const time = new Time();
  const progress = new PlainProgress(screen, 'Comparing', time.now);
  for (time.milliseconds = 0; time.milliseconds <= 4000; time.milliseconds += 500)
    progress.update((time.milliseconds / 500) * MiB, 16 * MiB);
  progress.stop();
  expect(screen.lines).toEqual([
    'Comparing: 0.0 %, 0 B of 16 MiB',
    'Comparing: 25.0 %, 4 MiB of 16 MiB, 2 MiB/s, 6.0 s left',
    'Comparing: 50.0 %, 8 MiB of 16 MiB, 2 MiB/s, 4.0 s left',
  ]);
});
