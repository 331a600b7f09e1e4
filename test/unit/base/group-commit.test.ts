/**
 * Group commits: who is answered when, and by which round.
 */
import { describe, expect, it } from 'vitest';
import { GroupCommit } from '../../../src/base/group-commit.js';

function gate(): { opened: Promise<void>; open: () => void } {
  let open = (): void => undefined;
  const opened = new Promise<void>((resolve) => {
    open = resolve;
  });
  return { opened, open };
}

async function settle(): Promise<void> {
  for (let i = 0; i < 10; i += 1) await Promise.resolve();
}

describe('GroupCommit', () => {
  it('does together what is asked while a round is under way', async () => {
    const rounds: string[][] = [];
    const first = gate();
    const group = new GroupCommit<string>(async (items) => {
      rounds.push([...items]);
      if (rounds.length === 1) await first.opened;
    });
    const a = group.add('a');
    await settle();
    const rest = [group.add('b'), group.add('c')];
    await settle();
    expect(rounds).toEqual([['a']]);
    first.open();
    await Promise.all([a, ...rest]);
    expect(rounds).toEqual([['a'], ['b', 'c']]);
    await group.add('d');
    expect(rounds).toHaveLength(3);
  });

  it('tells a failure to those of the round and goes on', async () => {
    let count = 0;
    const group = new GroupCommit<number>(async () => {
      count += 1;
      if (count === 1) throw new Error('full');
    });
    const failed = group.add(1);
    await expect(failed).rejects.toThrow('full');
    await expect(group.add(2)).resolves.toBeUndefined();
  });

  it('does not overlap rounds, whoever asks from within', async () => {
    let running = 0;
    let most = 0;
    const group = new GroupCommit<number>(async () => {
      running += 1;
      most = Math.max(most, running);
      await settle();
      running -= 1;
    });
    const asked: Promise<void>[] = [];
    for (let i = 0; i < 50; i += 1) {
      asked.push(group.add(i));
      if (i % 3 === 0) await Promise.resolve();
    }
    await Promise.all(asked);
    expect(most).toBe(1);
  });
});
