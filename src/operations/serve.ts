/**
 * `serve`: images as NBD exports, until somebody ends it.
 *
 * Invariants: nothing is served before every image is open and (where it can be changed) locked; whatever goes
 * wrong on the way, what was opened is closed again. Ending flushes everything; a process that is killed leaves
 * images as consistent as after a power failure, with everything in them that a client had flushed.
 */
import { basename } from 'node:path';
import { VhdkitError } from '../base/errors.js';
import { processIdentity } from '../io/process-identity.js';
import type { ControlRoute } from '../nbd/control-routes.js';
import { ControlServer } from '../nbd/control-server.js';
import type { NbdEvent } from '../nbd/events.js';
import { type NbdAddress, NbdServer } from '../nbd/server.js';
import type { ServerTls } from '../nbd/tls.js';
import { clearSocket } from '../nbd/unix-socket.js';
import type { Host } from './host.js';
import { DEFAULT_ADDRESS } from './serve/addresses.js';
import { type OpenDiskOptions, type OpenedDisk, openDisk } from './serve/open-disk.js';
import { openOverFile, openOverTemp } from './serve/overlay.js';
import { serverRoutes } from './serve/routes.js';
import { RunningServer } from './serve/running-server.js';
import { ServedSnapshots } from './serve/snapshots.js';
import type { ServeEnd, ServeImage, ServeOptions, ServeStart, ServeTls, Serving } from './serve/types.js';
import { ServedVolumes } from './serve/volumes.js';

export type { ServedExport, ServeEnd, ServeImage, ServeOptions, ServeStart, Serving } from './serve/types.js';

const OPERATION = 'serve';
const FLUSH_AFTER = 5_000;
const GRACE = 10_000;
/** No certificate or key is as long. */
const MAX_PEM = 1024 * 1024;

function wrong(message: string, hint: string): VhdkitError {
  return new VhdkitError('INVALID_ARGUMENT', message, { operation: OPERATION, hint });
}

function assertSensible({ images, overlay, readOnly, snapshotFolder }: ServeOptions): void {
  if (images.length === 0) throw wrong('There is nothing to serve', 'Name an image.');
  if (snapshotFolder !== undefined && images.length > 1)
    throw wrong('One folder of snapshots is for one image', 'Serve one image, or leave the folder away.');
  if (overlay === undefined) return;
  if (readOnly)
    throw wrong('An overlay takes changes: it makes no sense with --read-only', 'Leave one away.');
  if (overlay !== 'temp' && images.length > 1) {
    throw wrong('One overlay file is for one image', 'Serve one image, or use --overlay temp.');
  }
}

async function readPem(host: Host, path: string): Promise<Buffer> {
  const file = await host.fileSystem.open(path);
  try {
    if (file.size() > MAX_PEM) throw wrong(`${path} is no PEM file: it is too large`, 'Name a PEM file.');
    const bytes = Buffer.alloc(file.size());
    return bytes.subarray(0, await file.read(bytes, 0));
  } finally {
    await file.close();
  }
}

async function readTls(host: Host, tls: ServeTls): Promise<ServerTls> {
  const { certificate, key, clientAuthority, optional = false } = tls;
  return {
    certificate: await readPem(host, certificate),
    key: await readPem(host, key),
    ...(clientAuthority === undefined ? {} : { clientAuthority: await readPem(host, clientAuthority) }),
    optional,
  };
}

function openImage(host: Host, image: ServeImage, options: ServeOptions): Promise<OpenedDisk> {
  const { readOnly = false, overlay, force = false, flushAfter = FLUSH_AFTER, temporaryFolder } = options;
  const { path, format } = image;
  const { timer } = host;
  const open: OpenDiskOptions = { readOnly, force, timer, flushAfter, ...(format ? { format } : {}) };
  if (overlay === undefined) return openDisk(host, path, open);
  if (overlay === 'temp') return openOverTemp(host, path, open, temporaryFolder);
  return openOverFile(host, path, overlay.path, open);
}

/** Opens all images and gives them their names. */
async function openAll(
  host: Host,
  server: RunningServer,
  volumes: ServedVolumes,
  snapshots: ServedSnapshots,
  options: ServeOptions,
): Promise<void> {
  for (const image of options.images) {
    const name = image.name ?? basename(image.path);
    let disk = await openImage(host, image, options);
    try {
      // What goes into an overlay is not the image's: it has no volumes.
      if (disk.readOnly || disk.overlay !== null) server.add(name, disk);
      else {
        const { contexts, ...kept } = await snapshots.attach(name, disk, options.snapshotFolder);
        disk = kept.disk;
        await volumes.add(name, disk, { contexts });
        snapshots.publish(name);
      }
    } catch (error) {
      await disk.device.close();
      throw error;
    }
  }
}

/** Told of everything that happens; ends the server when the last client has gone, if that is wanted. */
function listenerOf(options: ServeOptions, server: RunningServer): (event: NbdEvent) => void {
  const ready = new Set<number>();
  return (event) => {
    options.listener?.(event);
    if (event.type === 'ready') ready.add(event.id);
    if (event.type !== 'closed' || !ready.delete(event.id)) return;
    if (options.exitOnDisconnect && ready.size === 0) server.stop('disconnect');
  };
}

async function listen(
  host: Host,
  server: RunningServer,
  routes: readonly ControlRoute[],
  options: ServeOptions,
): Promise<void> {
  const { listen: addresses = [DEFAULT_ADDRESS], limits, tls } = options;
  const nbd = new NbdServer({
    exports: server.table,
    timer: host.timer,
    listener: listenerOf(options, server),
    ...(tls ? { tls: await readTls(host, tls) } : {}),
    ...(limits ? { limits } : {}),
  });
  for (const address of addresses) if ('path' in address) await clearSocket(address.path);
  await server.listen(nbd, addresses);
  if (options.control === undefined) return;
  const control = new ControlServer([...serverRoutes(server), ...routes]);
  await control.listen(options.control);
  server.attach(control);
}

function startOf(host: Host, server: RunningServer, options: ServeOptions): Omit<ServeStart, 'notices'> {
  const { control = null, tls } = options;
  const listening: NbdAddress[] = [...server.addresses];
  const { pid } = (host.process ?? processIdentity()).self;
  const encryption = tls === undefined ? 'none' : tls.optional ? 'optional' : 'required';
  return { exports: server.exports(), listen: listening, control, tls: encryption, pid };
}

/**
 * Opens the images and begins to serve them.
 * @throws IN_USE (another process writes an image, or listens there), ALREADY_EXISTS (two exports of one name),
 *   INVALID_ARGUMENT, NOT_FOUND, PERMISSION_DENIED, and what opening images throws
 */
export async function serve(host: Host, options: ServeOptions): Promise<Serving> {
  assertSensible(options);
  const { grace = GRACE, signal, tls } = options;
  let requestEnd: (reason: ServeEnd) => void = () => undefined;
  const requested = new Promise<ServeEnd>((resolve) => {
    requestEnd = resolve;
  });
  const server = new RunningServer({ encrypted: tls !== undefined, grace, requestEnd });
  const volumes = new ServedVolumes(host, server);
  const snapshots = new ServedSnapshots(host, server, volumes);
  try {
    await openAll(host, server, volumes, snapshots, options);
    await listen(host, server, [...volumes.routes(), ...snapshots.routes()], options);
  } catch (error) {
    await server.end().catch(() => undefined);
    throw error;
  }
  const start = { ...startOf(host, server, options), notices: snapshots.notices };
  const leave = (): void => requestEnd('signal');
  if (signal?.aborted) leave();
  signal?.addEventListener('abort', leave, { once: true });
  const ended = requested.then(async (reason) => {
    signal?.removeEventListener('abort', leave);
    await server.end();
    return reason;
  });
  return { start, stop: requestEnd, ended };
}
