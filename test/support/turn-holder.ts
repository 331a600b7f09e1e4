/** Somebody else who has the turn (io/turns.ts) of a file. */
import { spawn } from 'node:child_process';

/** Starts a process that has it for a quarter of a second; resolves when it does. */
async function holdTurn(file: string): Promise<void> {
  const script = 'exec 9<>"$0"; flock 9; echo in; sleep 0.25';
  const child = spawn('sh', ['-c', script, file], { stdio: ['ignore', 'pipe', 'inherit'] });
  await new Promise((resolve) => child.stdout.once('data', resolve));
}

/** Does the work while somebody else has the turn. `waited`: until that ended. */
export async function besideHolder<T>(
  file: string,
  work: () => T | Promise<T>,
): Promise<{ result: T; waited: boolean }> {
  await holdTurn(file);
  const began = performance.now();
  const result = await work();
  return { result, waited: performance.now() - began > 150 };
}
