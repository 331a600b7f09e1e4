/**
 * Two hosts on one machine: network namespaces joined by a cable, which share what is mounted here.
 *
 * Invariant: nothing of them is left when the test run ends; what a killed run left is removed by the next.
 * They share the kernel, its clock and its file systems, but no address: what they know of each other went
 * through the network or through the storage.
 */
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import path from 'node:path';
import { isRoot } from './mounts.js';
import { mustSync, PROJECT_ROOT, type RunOptions, type RunResult, run } from './run.js';
import { findTool } from './tools.js';

const PREFIX = 'vhdkit';
const BIN = path.join(PROJECT_ROOT, 'bin/run.js');

export interface NetworkHost {
  readonly address: string;
  /** In front of a command, it runs it there. */
  readonly within: readonly string[];
  /** Runs the built command line there. */
  vhdkit(args: readonly string[], options?: RunOptions): Promise<RunResult>;
  /** The same with `--json`; fails with everything it said when it does not succeed. */
  json(args: readonly string[], options?: RunOptions): Promise<Record<string, unknown>>;
  /** Is somebody listening at this address, who speaks first? */
  answers(address: string, port: number): Promise<boolean>;
}

export interface TwoHosts {
  readonly a: NetworkHost;
  readonly b: NetworkHost;
  remove(): void;
}

function removeStale(): void {
  for (const line of mustSync('ip', ['netns', 'list']).split('\n')) {
    const [, name, pid] = new RegExp(`^(${PREFIX}-(\\d+)-\\w+)`).exec(line) ?? [];
    if (name !== undefined && !existsSync(`/proc/${pid}`)) mustSync('ip', ['netns', 'delete', name]);
  }
}

function hostIn(namespace: string, address: string): NetworkHost {
  const within = ['nsenter', `--net=/run/netns/${namespace}`];
  const [enter = '', ...more] = within;
  const vhdkit: NetworkHost['vhdkit'] = (args, options) =>
    run(enter, [...more, process.execPath, BIN, ...args], options);
  return {
    address,
    within,
    vhdkit,
    async json(args, options) {
      const { status, stdout, stderr } = await vhdkit([...args, '--json'], options);
      if (status !== 0) throw new Error(`vhdkit ${args.join(' ')}\n${status}\n${stdout}${stderr}`);
      return JSON.parse(stdout) as Record<string, unknown>;
    },
    async answers(other, port) {
      const script = `exec 3<>/dev/tcp/${other}/${port} && read -t 2 -u 3 line`;
      const child = spawn(enter, [...more, 'bash', '-c', script], { stdio: 'ignore' });
      return new Promise((resolve) => {
        child.on('error', () => resolve(false));
        child.on('exit', (code) => resolve(code === 0));
      });
    },
  };
}

function make(): TwoHosts {
  removeStale();
  const ip = (...args: string[]): string => mustSync('ip', args);
  const sides = (['a', 'b'] as const).map((side, index) => {
    const namespace = `${PREFIX}-${process.pid}-${side}`;
    return { namespace, link: `vk${side}`, address: `10.213.77.${index + 1}` };
  });
  const remove = (): void => {
    for (const { namespace } of sides) {
      if (existsSync(`/run/netns/${namespace}`)) ip('netns', 'delete', namespace);
    }
  };
  const [a, b] = sides;
  if (!a || !b) throw new Error('two sides');
  try {
    for (const { namespace } of sides) ip('netns', 'add', namespace);
    // Made inside, so that the names are nobody else's.
    ip(
      '-n',
      a.namespace,
      'link',
      'add',
      a.link,
      'type',
      'veth',
      'peer',
      'name',
      b.link,
      'netns',
      b.namespace,
    );
    for (const { namespace, link, address } of sides) {
      ip('-n', namespace, 'addr', 'add', `${address}/24`, 'dev', link);
      ip('-n', namespace, 'link', 'set', link, 'up');
      ip('-n', namespace, 'link', 'set', 'lo', 'up');
    }
  } catch (error) {
    remove();
    throw error;
  }
  return { a: hostIn(a.namespace, a.address), b: hostIn(b.namespace, b.address), remove };
}

/** Makes the hosts; call `remove` at the end. @throws where this machine can't */
export function twoHosts(): TwoHosts {
  return make();
}

/** Can hosts be made here? Tries it; for titles, like `lacking`. */
export function lackingHosts(): string {
  if (!isRoot) return ' (needs root)';
  const missing = ['ip', 'nsenter'].filter((name) => findTool(name) === undefined);
  if (missing.length > 0) return ` (needs ${missing.join(', ')})`;
  try {
    make().remove();
    return '';
  } catch {
    return ' (needs network namespaces)';
  }
}
