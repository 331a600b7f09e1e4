/** Who a process is, and how certain it is that another one has ended. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { processIdentity } from '../../../src/io/process-identity.js';

describe.skipIf(process.platform !== 'linux')('process identity', () => {
  const { self, system, hasEnded } = processIdentity();

  it('names this process and this start of the system', () => {
    expect(self.pid).toBe(process.pid);
    expect(readFileSync('/proc/sys/kernel/random/boot_id', 'latin1').startsWith(system ?? '?')).toBe(true);
    expect(self.started).toMatch(/^\d+$/);
    expect(hasEnded(self)).toBe(false);
  });

  it('tells a process from a later one with its id', () => {
    expect(hasEnded({ ...self, started: '1' })).toBe(true);
    const { started: _, ...nameless } = self;
    expect(hasEnded(nameless)).toBe(false);
  });

  it('knows nothing of other systems, and nothing of what is no process', () => {
    expect(hasEnded({ host: 'elsewhere', pid: 2 ** 22 + 1 })).toBe(false);
    for (const pid of [0, -1, 1.5, Number.NaN]) expect(hasEnded({ host: self.host, pid })).toBe(false);
  });

  it('notices that a process was killed', async () => {
    const child = spawn('sleep', ['60']);
    const other = { host: self.host, pid: child.pid ?? 0 };
    expect(hasEnded(other)).toBe(false);
    child.kill('SIGKILL');
    await once(child, 'exit');
    expect(hasEnded(other)).toBe(true);
  });
});
