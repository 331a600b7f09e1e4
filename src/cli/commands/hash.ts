/** `vhdkit hash`: the SHA-256 of a disk's contents. */
import { BaseCommand } from '../base-command.js';
import { fromFlag, pathArg } from '../flags.js';

export default class Hash extends BaseCommand {
  static override summary = "Print the SHA-256 of a disk's contents, the same for every format.";
  static override description =
    'Hashes all bytes of the virtual disk, parents of a differencing image included. For a raw image of whole ' +
    '512-byte sectors it is what sha256sum prints; a shorter last sector counts as filled up with zeros, as it ' +
    'is in every other format.';
  static override examples = [
    { description: 'An image', command: '<%= config.bin %> hash disk.vhdx' },
    {
      description: 'The digest alone, for a script',
      command: '<%= config.bin %> hash disk.vhd --json | jq -r .sha256',
    },
  ];
  static override args = { image: pathArg('Image file or block device.') };
  static override flags = { from: fromFlag() };

  async run(): Promise<void> {
    const { args, flags } = await this.parse(Hash);
    const { hash } = await import('../../operations/hash.js');
    const { renderHash } = await import('../render/hash.js');
    const host = await this.host();
    const result = await this.withProgress(flags, 'Hashing', (progress) =>
      hash(host, {
        path: args.image,
        signal: this.signal,
        progress,
        ...(flags.from ? { format: flags.from } : {}),
      }),
    );
    await this.show(flags, result, () => renderHash(result));
  }
}
