/**
 * Places for the texts of parent locators. Pure.
 *
 * Invariant: places overlap neither each other nor anything outside the gaps given.
 */
import type { ByteRange } from '../../io/random-access-file.js';
import { type LocatorText, locatorRoom, type PlacedLocator } from './parent-fields.js';

/** What Windows reserves: a longer path can be put there later. */
const USUAL_ROOM: Readonly<Record<string, number>> = { W2ku: 4096, W2ru: 64 * 1024, MacX: 2048 };

/** The range in the smallest gap that it fits into, which loses it. */
function takeFrom(gaps: ByteRange[], room: number): number | undefined {
  let best: ByteRange | undefined;
  for (const gap of gaps) {
    if (gap.length >= room && (!best || gap.length < best.length)) best = gap;
  }
  if (!best) return undefined;
  const { offset } = best;
  best.offset += room;
  best.length -= room;
  return offset;
}

function placeAll(
  texts: readonly LocatorText[],
  gaps: readonly ByteRange[],
  roomOf: (text: LocatorText) => number,
): PlacedLocator[] | undefined {
  const left = gaps.map((gap) => ({ ...gap }));
  const placed: PlacedLocator[] = [];
  for (const text of texts) {
    const room = roomOf(text);
    const offset = takeFrom(left, room);
    if (offset === undefined) return undefined;
    placed.push({ ...text, offset, room });
  }
  return placed;
}

/** Room with which a locator can grow. */
export function usualRoom(text: LocatorText): number {
  return Math.max(locatorRoom(text), USUAL_ROOM[text.code] ?? 0);
}

/** Places with the usual room, or with just what the texts take; undefined when they don't fit. */
export function placeLocators(
  texts: readonly LocatorText[],
  gaps: readonly ByteRange[],
): PlacedLocator[] | undefined {
  return placeAll(texts, gaps, usualRoom) ?? placeAll(texts, gaps, locatorRoom);
}

/** Places one after the other from `start` on. */
export function placeInRow(texts: readonly LocatorText[], start: number): PlacedLocator[] {
  let at = start;
  return texts.map((text) => {
    const room = locatorRoom(text);
    const offset = at;
    at += room;
    return { ...text, offset, room };
  });
}
