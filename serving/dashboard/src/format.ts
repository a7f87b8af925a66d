// Numbers and times for people.

import type { Cell } from "./api";

const LARGE = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 2 });
const PLAIN = new Intl.NumberFormat("en", { maximumFractionDigits: 2 });

/** Of a cell: numbers that JSON cannot hold come as text. */
export const numeric = (cell: Cell | undefined): number | null => {
  if (cell === null || cell === undefined || cell === "" || typeof cell === "boolean") return null;
  const value = Number(cell);
  return Number.isFinite(value) ? value : null;
};

/** A whole number with all its digits. */
export const count = (value: number): string => value.toLocaleString("en");

export const short = (value: number): string => (Math.abs(value) >= 1e6 ? LARGE : PLAIN).format(value);

const TIME = /^(\d{4}-\d\d-\d\d)T(\d\d:\d\d:\d\d)\.(\d{3})$/;

/** Exactly as the server says it; only times are made readable. */
export const shown = (cell: Cell | undefined): string => {
  if (cell === null || cell === undefined) return "∅";
  if (typeof cell === "number") return cell.toLocaleString("en", { maximumFractionDigits: 6 });
  const time = typeof cell === "string" ? TIME.exec(cell) : null;
  if (time) return time[2] === "00:00:00" ? `${time[1]} 00:00` : `${time[1]} ${time[2]!.endsWith(":00") ? time[2]!.slice(0, 5) : time[2]}`;
  return String(cell);
};

export const ago = (milliseconds: number): string => {
  const seconds = Math.max(0, milliseconds) / 1000;
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  if (seconds < 120) return `${Math.round(seconds)} s`;
  if (seconds < 7200) return `${Math.round(seconds / 60)} min`;
  if (seconds < 172_800) return `${Math.round(seconds / 3600)} h`;
  return `${Math.round(seconds / 86_400)} d`;
};

/** Seconds since 1970 of a time of UTC as the server writes it. */
export const epochSeconds = (cell: Cell | undefined): number => (typeof cell === "string" ? Date.parse(`${cell}Z`) / 1000 : Number.NaN);
