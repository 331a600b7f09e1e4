/**
 * Containers that vhdkit does not read, recognised so that they are not taken for raw disks by mistake.
 *
 * Only magic numbers; nothing of these formats is parsed.
 */

interface Magic {
  name: string;
  offset: number;
  bytes: Uint8Array;
}

function text(name: string, offset: number, value: string): Magic {
  return { name, offset, bytes: Buffer.from(value, 'latin1') };
}

const MAGICS: readonly Magic[] = [
  text('a QCOW2 image', 0, 'QFI\xfb'),
  text('a VMDK image', 0, 'KDMV'),
  text('a VMDK image', 0, 'COWD'),
  text('a VMDK descriptor', 0, '# Disk DescriptorFile'),
  text('a VDI image', 64, '\x7f\x10\xda\xbe'),
  text('a QED image', 0, 'QED\0'),
  text('a Parallels image', 0, 'WithoutFreeSpace'),
  text('a Parallels image', 0, 'WithouFreSpacExt'),
  text('a WIM archive', 0, 'MSWIM\0\0\0'),
  text('gzip-compressed', 0, '\x1f\x8b\x08'),
  text('a ZIP archive', 0, 'PK\x03\x04'),
  text('bzip2-compressed', 0, 'BZh'),
  text('xz-compressed', 0, '\xfd7zXZ\0'),
  text('zstd-compressed', 0, '\x28\xb5\x2f\xfd'),
];

/** What the first bytes say the file is (`a QCOW2 image`), or undefined. */
export function foreignContainer(head: Uint8Array): string | undefined {
  const bytes = Buffer.from(head.buffer, head.byteOffset, head.length);
  const hit = MAGICS.find((magic) => {
    const end = magic.offset + magic.bytes.length;
    return end <= bytes.length && bytes.subarray(magic.offset, end).equals(magic.bytes);
  });
  return hit?.name;
}
