/** `vhdkit serve`: images over NBD, until it is told to end. */
import type { FormatId } from '../../formats/disk-image.js';
import type { NbdEvent } from '../../nbd/events.js';
import type { NbdAddress } from '../../nbd/server.js';
import type { ServeOptions } from '../../operations/serve.js';
import { BaseCommand } from '../base-command.js';
import { Flags, fromFlag, pathArg } from '../flags.js';
import { UsageError } from '../usage-error.js';

export default class Serve extends BaseCommand {
  static override summary = 'Serve disks over NBD.';
  static override description =
    'Raw images, block devices, VHDs, VHDXs and whole chains become network block devices, for any NBD client: ' +
    'qemu, nbdcopy, nbd-client, fio. Each image is one export, named like its file; the first is also the ' +
    'default one. It runs until Ctrl-C, SIGTERM or a request on the control socket; then it takes no new ' +
    'requests, finishes those under way, makes everything durable, and unlocks the images. A server that is ' +
    'killed leaves sound images with everything in them that a client had flushed.\n\n' +
    'Without --read-only the top image of each chain is changed in place; it is locked as long as it is served, ' +
    'and refused while another process writes it or other images in its folder depend on it. Listens on ' +
    '127.0.0.1 only, unless told otherwise: NBD without TLS knows no passwords.';
  static override examples = [
    {
      description: 'A disk for this machine, on the registered port',
      command: '<%= config.bin %> serve disk.vhdx',
    },
    {
      description: 'Look into a chain without changing anything, through a socket',
      command: '<%= config.bin %> serve child.avhdx --read-only --listen unix:/run/disk.sock',
    },
    {
      description: 'Try something out: changes are thrown away, or kept in a differencing image',
      command:
        '<%= config.bin %> serve disk.vhdx --overlay temp\n<%= config.bin %> serve disk.vhdx --overlay try.vhdx',
    },
    {
      description: 'Over the network, with certificates on both sides',
      command:
        '<%= config.bin %> serve disk.vhd --listen 0.0.0.0:10809 --tls-cert server.pem --tls-key server.key --tls-ca clients.pem',
    },
  ];
  static override strict = false;
  static override args = {
    image: pathArg('Image file or block device; several make several exports.'),
  };
  static override flags = {
    from: fromFlag('Format of the images; without it the content is probed, head and tail.'),
    name: Flags.string({
      multiple: true,
      multipleNonGreedy: true,
      summary: "Name of an export instead of the file's; once for each image, in their order.",
    }),
    listen: Flags.string({
      multiple: true,
      multipleNonGreedy: true,
      helpValue: '<unix:PATH|HOST:PORT>',
      summary: 'Where to listen; may be given several times. Default: 127.0.0.1:10809.',
    }),
    control: Flags.string({
      helpValue: '<socket>',
      summary: 'Unix socket for commands to the running server (HTTP and JSON); only for the same user.',
    }),
    'read-only': Flags.boolean({ summary: 'Let nobody change anything.' }),
    overlay: Flags.string({
      helpValue: '<temp|FILE>',
      summary:
        'Changes go into a scratch file that is gone afterwards, or into a differencing image, made if it is not there (VHD, VHDX).',
    }),
    'temp-dir': Flags.string({ summary: 'Folder for the scratch file; beside the image if not given.' }),
    'snapshot-folder': Flags.string({
      helpValue: '<folder>',
      summary:
        'Where the snapshots of the image are; block devices have none without. Beside the image if not given.',
    }),
    'tls-cert': Flags.string({ summary: 'Certificate of the server (PEM); with it clients must use TLS.' }),
    'tls-key': Flags.string({ summary: 'Private key of the certificate (PEM).' }),
    'tls-ca': Flags.string({
      summary: 'Authority whose clients are let in (PEM); with it clients must show a certificate.',
    }),
    'tls-optional': Flags.boolean({ summary: 'Let clients go on without TLS.' }),
    'max-connections': Flags.integer({ min: 1, summary: 'Clients at the same time; default 128.' }),
    'exit-on-disconnect': Flags.boolean({
      summary: 'End when the last client has gone, as qemu-nbd does without -t.',
    }),
    force: Flags.boolean({
      summary: 'Let images be changed that others in their folder depend on; they will not fit any more.',
    }),
    verbose: Flags.boolean({ char: 'v', summary: 'Tell of every client on stderr.' }),
  };

  async run(): Promise<void> {
    const { argv, flags } = await this.parse(Serve);
    const { serve } = await import('../../operations/serve.js');
    const { parseAddress } = await import('../../operations/serve/addresses.js');
    const { eventLine, renderServe } = await import('../render/serve.js');
    const paths = argv.map(String);
    const listen = flags.listen?.map(parseAddress);
    const tell = (event: NbdEvent): void => {
      const line = eventLine(event, flags.verbose);
      if (line !== undefined) this.tell(flags, line);
    };
    const host = await this.host();
    const serving = await serve(host, {
      ...optionsOf(paths, flags, listen),
      signal: this.signal,
      listener: tell,
    });
    for (const notice of serving.start.notices) this.tell(flags, notice);
    await this.show(flags, { schemaVersion: 1, ...serving.start }, (style) =>
      flags.quiet ? [] : renderServe(serving.start, style),
    );
    const reason = await serving.ended;
    if (reason === 'signal') process.exitCode = this.signalExitCode ?? 0;
  }
}

/** The flags' values. */
interface ServeFlags {
  from?: FormatId | undefined;
  name?: string[] | undefined;
  control?: string | undefined;
  'read-only': boolean;
  overlay?: string | undefined;
  'temp-dir'?: string | undefined;
  'snapshot-folder'?: string | undefined;
  'tls-cert'?: string | undefined;
  'tls-key'?: string | undefined;
  'tls-ca'?: string | undefined;
  'tls-optional': boolean;
  'max-connections'?: number | undefined;
  'exit-on-disconnect': boolean;
  force: boolean;
}

/** @throws UsageError for flags that do not go together */
function optionsOf(
  paths: readonly string[],
  flags: ServeFlags,
  listen: readonly NbdAddress[] | undefined,
): ServeOptions {
  const { name: names = [], overlay, from: format } = flags;
  if (names.length > paths.length)
    throw new UsageError('There are more names than images', 'Give --name at most once for each image.');
  const images = paths.map((path, index) => {
    const name = names[index];
    return { path, ...(format ? { format } : {}), ...(name === undefined ? {} : { name }) };
  });
  const temporaryFolder = flags['temp-dir'];
  const snapshotFolder = flags['snapshot-folder'];
  const connections = flags['max-connections'];
  return {
    images,
    readOnly: flags['read-only'],
    force: flags.force,
    exitOnDisconnect: flags['exit-on-disconnect'],
    ...(listen ? { listen } : {}),
    ...(flags.control === undefined ? {} : { control: flags.control }),
    ...(overlay === undefined ? {} : { overlay: overlay === 'temp' ? 'temp' : { path: overlay } }),
    ...(temporaryFolder === undefined ? {} : { temporaryFolder }),
    ...(snapshotFolder === undefined ? {} : { snapshotFolder }),
    ...(connections === undefined ? {} : { limits: { connections } }),
    ...tlsOf(flags),
  };
}

function tlsOf(flags: ServeFlags): Pick<ServeOptions, 'tls'> {
  const {
    'tls-cert': certificate,
    'tls-key': key,
    'tls-ca': clientAuthority,
    'tls-optional': optional,
  } = flags;
  if (certificate === undefined && key === undefined && clientAuthority === undefined && !optional) return {};
  if (certificate === undefined || key === undefined)
    throw new UsageError('TLS takes a certificate and its key', 'Give both --tls-cert and --tls-key.');
  return {
    tls: { certificate, key, optional, ...(clientAuthority === undefined ? {} : { clientAuthority }) },
  };
}
