/**
 * What every command has: the global flags, signals, output and how failures end.
 *
 * Invariant: stdout carries the result and nothing else; everything else goes to stderr. A failure ends
 * in exactly one report (failure.ts) and an exit code; oclif's own error printing is never reached.
 *
 * Not here: what the commands do (operations/) and how results look (render/).
 */
import { Command } from '@oclif/core/command';
import type { VhdkitError } from '../base/errors.js';
import type { Finding } from '../formats/finding.js';
import type { Host } from '../operations/host.js';
import { exitCodeOfSignal } from './exit-codes.js';
import { reportFailure } from './failure.js';
import { globalFlags } from './flags.js';
import { Interrupt } from './interrupt.js';
import { endIfStuck, guardStreams, writeJson, writeOut } from './output.js';
import type { Progress } from './progress/progress.js';
import { makeStyle, printable, type Style, wantsColor } from './render/style.js';

/** The global flags' values. */
export interface GlobalFlags {
  json: boolean;
  progress: 'auto' | 'bar' | 'plain' | 'json' | 'none';
  quiet: boolean;
  color?: boolean | undefined;
  debug: boolean;
}

export abstract class BaseCommand extends Command {
  static override baseFlags = globalFlags;

  readonly #interrupt = new Interrupt();

  /** Aborted by Ctrl-C, SIGTERM or SIGHUP. */
  protected get signal(): AbortSignal {
    return this.#interrupt.signal;
  }

  /** The exit code when a signal asked us to stop; undefined otherwise. */
  protected get signalExitCode(): number | undefined {
    const { received } = this.#interrupt;
    return received === undefined ? undefined : exitCodeOfSignal(received);
  }

  protected override async init(): Promise<void> {
    await super.init();
    guardStreams();
    this.#interrupt.watch();
  }

  protected override async catch(error: unknown): Promise<void> {
    this.parsed = true;
    const signal = this.#interrupt.received;
    process.exitCode = await reportFailure(error, {
      argv: this.argv,
      command: this.id ?? '',
      ...(signal ? { signal } : {}),
    });
    if (signal) await endIfStuck();
  }

  protected override async finally(error: Error | undefined): Promise<void> {
    this.#interrupt.unwatch();
    await super.finally(error);
  }

  /** The real machine, for operations. */
  protected async host(): Promise<Host> {
    const { systemHost } = await import('../operations/host.js');
    return systemHost();
  }

  /** Colours for stdout. */
  protected style(flags: GlobalFlags): Promise<Style> {
    return makeStyle(wantsColor(flags.color, process.stdout));
  }

  /** Prints a result: as JSON, or as the lines that `render` makes of it. */
  protected async show(
    flags: GlobalFlags,
    result: object,
    render: (style: Style) => string[],
  ): Promise<void> {
    if (flags.json) return writeJson(result);
    const lines = render(await this.style(flags));
    if (lines.length > 0) await writeOut(`${lines.join('\n')}\n`);
  }

  /** Prints a result to stderr, because stdout carries data. */
  protected async showAside(flags: GlobalFlags, render: (style: Style) => string[]): Promise<void> {
    const lines = render(await makeStyle(wantsColor(flags.color, process.stderr)));
    if (lines.length > 0) process.stderr.write(`${lines.join('\n')}\n`);
  }

  /** Says on stderr what a person should know while work goes on. */
  protected tell(flags: GlobalFlags, text: string): void {
    if (!flags.quiet) process.stderr.write(`${printable(text)}\n`);
  }

  /** Prints warnings of an image to stderr, unless they are in the JSON document already. */
  protected async warnAbout(flags: GlobalFlags, findings: readonly Finding[]): Promise<void> {
    if (flags.json || flags.quiet || findings.length === 0) return;
    const { findingLines } = await import('./render/text.js');
    const style = await makeStyle(wantsColor(flags.color, process.stderr));
    process.stderr.write(`${findingLines(findings, style).join('\n')}\n`);
  }

  /** Tells on stderr of a failure that does not stop the command. */
  protected warnOf(flags: GlobalFlags, { message, hint }: VhdkitError): void {
    if (flags.json || flags.quiet) return;
    process.stderr.write(`warning: ${printable(message)}\n${hint ? `  hint: ${printable(hint)}\n` : ''}`);
  }

  /** Runs work with progress on stderr, which is taken away again whatever happens. */
  protected async withProgress<T>(
    flags: GlobalFlags,
    description: string,
    work: (progress: Progress, next: (description: string) => Promise<Progress>) => Promise<T>,
  ): Promise<T> {
    const { startProgress } = await import('./progress/progress.js');
    const kind = flags.quiet ? 'none' : flags.progress;
    let progress = await startProgress(kind, description);
    // Another piece of work begins: its progress takes the place of the last one's.
    const next = async (what: string): Promise<Progress> => {
      progress.stop();
      progress = await startProgress(kind, what);
      return progress;
    };
    try {
      return await work(progress, next);
    } finally {
      progress.stop();
    }
  }
}
