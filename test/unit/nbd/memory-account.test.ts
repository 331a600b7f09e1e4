import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { MemoryAccount, MemoryBudget } from '../../../src/nbd/memory-account.js';

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

describe('MemoryAccount', () => {
  it('has its reserve whatever others hold, and no more than there is', () => {
    const budget = new MemoryBudget(100);
    const greedy = new MemoryAccount(budget, 10, 1000, () => undefined);
    const modest = new MemoryAccount(budget, 10, 1000, () => undefined);
    expect(greedy.take(110)).toBe(true);
    expect(greedy.take(1)).toBe(false);
    expect(modest.take(10)).toBe(true);
    expect(modest.take(1)).toBe(false);
    expect(budget.used).toBe(100);
    expect(budget.isShort).toBe(true);
  });

  it('is told when there is room, in the order of asking; small ones do not overtake', async () => {
    const budget = new MemoryBudget(100);
    const got: string[] = [];
    const holder = new MemoryAccount(budget, 0, 1000, () => undefined);
    holder.take(100);
    const account = (name: string, bytes: number): void => {
      const own: MemoryAccount = new MemoryAccount(budget, 0, 1000, () => {
        if (own.take(bytes)) got.push(name);
      });
      expect(own.take(bytes)).toBe(false);
    };
    account('large', 80);
    account('small', 5);
    holder.give(50);
    await turn();
    expect(got).toEqual([]);
    holder.give(30);
    await turn();
    expect(got).toEqual(['large']);
    holder.give(20);
    await turn();
    expect(got).toEqual(['large', 'small']);
  });

  it('does not hold up others when it got through without the budget, or gave up, or ended', async () => {
    for (const leave of ['reserve', 'withdraw', 'close'] as const) {
      const budget = new MemoryBudget(10);
      const first = new MemoryAccount(budget, 10, 1000, () => undefined);
      expect(first.take(15)).toBe(true);
      expect(first.take(6)).toBe(false);
      if (leave === 'withdraw') first.withdraw();
      if (leave === 'close') first.close();
      first.give(15);
      if (leave === 'reserve') expect(first.take(6)).toBe(true);
      await turn();
      const second = new MemoryAccount(budget, 0, 1000, () => undefined);
      expect(second.take(10), leave).toBe(true);
    }
  });

  it('is limited by itself, but one request always goes through', () => {
    const budget = new MemoryBudget(1000);
    const account = new MemoryAccount(budget, 10, 50, () => undefined);
    expect(account.take(80)).toBe(true);
    expect(account.take(1)).toBe(false);
    account.give(80);
    expect(account.take(50)).toBe(true);
  });

  it('never overdraws the budget, and everything comes back', () => {
    const steps = fc.array(
      fc.record({ who: fc.nat(2), bytes: fc.integer({ min: 1, max: 60 }), give: fc.boolean() }),
    );
    fc.assert(
      fc.property(steps, (list) => {
        const budget = new MemoryBudget(100);
        const accounts = [0, 1, 2].map(() => new MemoryAccount(budget, 20, 90, () => undefined));
        const held: number[][] = [[], [], []];
        for (const { who, bytes, give } of list) {
          const own = held[who] ?? [];
          const account = accounts[who];
          if (give) account?.give(own.pop() ?? 0);
          else if (account?.take(bytes)) own.push(bytes);
          expect(budget.used).toBeLessThanOrEqual(100);
          const beyond = held.map((one) => Math.max(0, one.reduce((a, b) => a + b, 0) - 20));
          expect(budget.used).toBe(beyond.reduce((a, b) => a + b, 0));
        }
      }),
      { endOnFailure: true },
    );
  });
});
