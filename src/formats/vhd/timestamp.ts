/**
 * Time as VHD counts it. Pure.
 */

/** 2000-01-01 00:00 UTC in Unix seconds. */
const VHD_EPOCH = 946_684_800;

/** Seconds since 2000-01-01, within 32 bits. Source: VHD specification 1.0, "Time Stamp". */
export function vhdTimestamp(milliseconds: number): number {
  const seconds = Math.floor(milliseconds / 1000) - VHD_EPOCH;
  return Math.min(Math.max(seconds, 0), 0xffff_ffff);
}

/** The inverse, in milliseconds since 1970. */
export function fromVhdTimestamp(seconds: number): number {
  return (seconds + VHD_EPOCH) * 1000;
}
