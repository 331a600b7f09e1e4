/** `serve` as text: what is served where, and what happens meanwhile. */
import { formatSize } from '../../base/bytes.js';
import { isVhdkitError } from '../../base/errors.js';
import type { NbdEvent } from '../../nbd/events.js';
import type { ServedExport, ServeStart } from '../../operations/serve.js';
import { printable, type Style } from './style.js';

function accessText({ readOnly, overlay }: ServedExport): string {
  if (readOnly) return 'read only';
  if (overlay === null) return 'writable';
  return overlay === 'temp' ? 'changes are thrown away' : `changes go into ${printable(overlay)}`;
}

export function renderServe({ exports, control }: ServeStart, style: Style): string[] {
  const lines: string[] = [];
  for (const each of exports) {
    const facts = `${each.format}, ${each.type}, ${formatSize(each.virtualSize)}, ${accessText(each)}`;
    lines.push(`Serving ${style.bold(printable(each.path))} (${facts})`);
    for (const uri of each.uris) lines.push(`  ${uri}`);
  }
  if (control !== null) lines.push(`Control socket: ${printable(control)}`);
  return lines;
}

const REASONS: Partial<Record<string, string>> = {
  client: 'closed by the client',
  lost: 'connection lost',
  protocol: 'it broke the protocol',
  tls: 'TLS failed',
  'handshake-time': 'the handshake took too long',
  stalled: 'it did not take its replies',
  fault: 'a mistake in vhdkit',
  displaced: 'another client needed the room',
  dropped: 'its export is gone',
  shutdown: 'the server ends',
};

/** A line for an event; undefined for one that is not worth one. @param all also what is no trouble */
export function eventLine(event: NbdEvent, all: boolean): string | undefined {
  switch (event.type) {
    case 'failed': {
      const { error } = event;
      const text = error instanceof Error ? error.message : String(error);
      const code = isVhdkitError(error) ? ` (${error.code})` : '';
      return `warning: client ${event.id}, export '${event.export}': ${text}${code}`;
    }
    case 'fault': {
      const { error } = event;
      const text = error instanceof Error ? (error.stack ?? error.message) : String(error);
      return `warning: client ${event.id} was cut off because of a mistake in vhdkit; please report it: ${text}`;
    }
    case 'refused':
      return `warning: a client was refused: there are as many as --max-connections allows`;
    case 'connected':
      return all ? `client ${event.id} connected${event.peer ? ` from ${event.peer}` : ''}` : undefined;
    case 'ready': {
      const { id, encrypted, subject } = event;
      const how = encrypted ? `, encrypted${subject ? `, ${subject}` : ''}` : '';
      return all ? `client ${id} uses '${event.export}'${how}` : undefined;
    }
    case 'closed': {
      const detail = event.detail ? `: ${event.detail}` : '';
      return all ? `client ${event.id} left: ${REASONS[event.reason] ?? event.reason}${detail}` : undefined;
    }
  }
}
