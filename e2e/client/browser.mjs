// A browser on the dashboard, told line by line what to do: one JSON object in, one out.
//
//   node browser.mjs http://127.0.0.1:8080 pictures
//
// The page is opened once: whatever is awaited after that comes without a reload.

import assert from "node:assert/strict";
import { existsSync, mkdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { createInterface } from "node:readline";

import { chromium } from "playwright-core";

const [url, pictures] = process.argv.slice(2);
mkdirSync(pictures, { recursive: true });
const axe = createRequire(import.meta.url).resolve("axe-core/axe.min.js");
const executablePath = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"].find(existsSync);
assert.ok(executablePath, "no chromium: apt-get install chromium");
const browser = await chromium.launch({ executablePath, args: ["--no-sandbox", "--disable-dev-shm-usage"] });
const context = await browser.newContext({ viewport: { width: 1360, height: 900 }, colorScheme: "light" });
const page = await context.newPage();
const complaints = [];
let bytes = 0;
page.on("console", (message) => message.type() === "error" && complaints.push(message.text()));
page.on("pageerror", (error) => complaints.push(String(error)));
const session = await context.newCDPSession(page);
await session.send("Network.enable");
session.on("Network.loadingFinished", ({ encodedDataLength }) => (bytes += encodedDataLength));

/** As long as a layer may take to be fresh again. */
const LIMIT_MS = 90_000;
/** A picture that takes longer is taken again: it is for people, and claims nothing. */
const PICTURE_MS = 10_000;
page.setDefaultTimeout(LIMIT_MS);

/** Tries until it holds. */
async function eventually(what, check) {
  const end = Date.now() + LIMIT_MS;
  for (;;) {
    try {
      return await check();
    } catch (error) {
      if (Date.now() > end) throw new Error(`${what}: ${error.message}`);
      await page.waitForTimeout(150);
    }
  }
}

/** The first two columns of the table behind a chart, as it is rendered. */
const table = (id) =>
  page.evaluate((id) => {
    const rows = [...document.querySelectorAll(`#${id} .data tbody tr`)];
    return Object.fromEntries(rows.map((row) => [row.cells[0].dataset.value, row.cells[1].dataset.value]));
  }, id);

const tile = (measure) => page.evaluate((measure) => document.querySelector(`.tile[data-measure="${measure}"]`)?.dataset.value, measure);

/** The pivot's cells as they are rendered: row header, column path, value. */
const pivot = () =>
  page.evaluate(() => {
    const find = (root) => {
      for (const element of root.querySelectorAll("*")) {
        if (element.tagName === "REGULAR-TABLE") return element;
        const found = element.shadowRoot && find(element.shadowRoot);
        if (found) return found;
      }
      return null;
    };
    const table = find(document);
    if (!table) throw new Error("no table in the pivot");
    const rows = (part) => [...table.querySelectorAll(`${part} tr`)].map((row) => [...row.cells].map((cell) => [cell.textContent.trim(), cell.colSpan, cell.tagName]));
    return { head: rows("thead"), body: rows("tbody") };
  });

const commands = {
  async open({ path, scheme }) {
    await page.setViewportSize({ width: 1360, height: 900 });
    await page.emulateMedia({ colorScheme: scheme ?? "light" });
    await page.goto(`${url}${path ?? "/"}`);
    await page.evaluate(() => (window.opened = true));
    await page.waitForSelector(".tile, .panel", { timeout: LIMIT_MS });
    return { bytes };
  },
  /** Tiles, tables behind pie, bar and series have exactly these values. */
  async reach({ tiles, pie, bar, series }) {
    await eventually("the page does not reach the recount", async () => {
      for (const [measure, value] of Object.entries(tiles ?? {})) assert.equal(Number(await tile(measure)), value, `tile ${measure}`);
      for (const [id, expected] of Object.entries({ pie, bar, series })) {
        if (!expected) continue;
        const found = Object.fromEntries(Object.entries(await table(id)).map(([key, value]) => [key, Number(value)]));
        assert.deepEqual(found, expected, id);
      }
    });
    assert.ok(await page.evaluate(() => window.opened === true), "the page was loaded again");
    return { slices: await page.evaluate(() => document.querySelectorAll("#pie svg path").length), bars: await page.evaluate(() => document.querySelectorAll("#bar svg path").length) };
  },
  async freshness({ contains }) {
    return eventually(`the page does not say "${contains}"`, async () => {
      const said = await page.locator("#freshness").innerText();
      assert.ok(said.includes(contains), said);
      return { said };
    });
  },
  /** Opens the pivot; the cells in sight are these: {"Berlin|Red": 3}, and the row of totals adds up all of them. */
  async pivot({ expected }) {
    const before = bytes;
    if (await page.locator("#pivot button[aria-expanded=false]").count()) await page.click("#pivot button[aria-expanded=false]");
    return eventually("the pivot does not reach the recount", async () => {
      const { head, body } = await pivot();
      const names = Object.keys(expected).map((key) => key.split("|")[1]);
      const columns = head.map((row) => row.filter(([, , tag]) => tag === "TH")).find((row) => row.some(([text]) => names.includes(text)));
      assert.ok(columns, `no column ${names[0]}: ${JSON.stringify(head)}`);
      const titles = columns.flatMap(([text, span]) => Array(span).fill(text)).filter((text) => text !== "");
      const found = {};
      for (const row of body) {
        const header = row.filter(([, , tag]) => tag === "TH").map(([text]) => text).filter(Boolean).at(-1);
        row.filter(([, , tag]) => tag === "TD").forEach(([text], index) => {
          const value = Number(text.replaceAll(",", ""));
          if (header && text !== "" && text !== "-") found[`${header}|${titles[index]}`] = value;
        });
      }
      const all = { ...expected };
      for (const [key, value] of Object.entries(expected)) {
        const total = `TOTAL|${key.split("|")[1]}`;
        all[total] = (all[total] ?? 0) + value;
      }
      for (const [key, value] of Object.entries(found)) assert.equal(value, all[key], key);
      const cells = Object.keys(found).length;
      assert.ok(cells >= 30 && [...new Set(names)].every((name) => `TOTAL|${name}` in found), `${cells} cells in sight`);
      return { cells, bytes: bytes - before };
    });
  },
  async watch({ measure, above }) {
    await page.setViewportSize({ width: 1360, height: 900 });
    await page.emulateMedia({ colorScheme: "light" });
    await page.goto(`${url}/?view=status_by_city&alert=${measure}%3E${above}&by=city`);
    await page.evaluate(() => (window.opened = true));
    return eventually("no tile is red", async () => {
      assert.equal(await page.locator(`.tile.red[data-measure="${measure}"]`).count(), 1);
      return { groups: Object.fromEntries(Object.entries(await table("alert")).map(([key, value]) => [key, Number(value)])) };
    });
  },
  /** Chooses by keyboard alone. */
  async keyboard() {
    await page.locator("#bar select").focus();
    await page.keyboard.press("ArrowDown");
    await eventually("the URL does not hold the choice", async () => assert.match(page.url(), /bar=/));
    const chosen = await page.locator("#bar select").inputValue();
    const title = await page.locator("#bar h2").innerText();
    await page.keyboard.press("ArrowUp");
    return { chosen, title };
  },
  /** What axe finds that is serious. */
  async accessible() {
    // The policy of the page allows no script of others: it is evaluated instead.
    await page.evaluate(readFileSync(axe, "utf8"));
    const { violations, passes } = await page.evaluate(() => window.axe.run(document, { resultTypes: ["violations"] }));
    const serious = violations.filter((found) => ["serious", "critical"].includes(found.impact));
    assert.deepEqual(serious.map((found) => [found.id, found.nodes.map((node) => node.target.join(" ")).slice(0, 5)]), []);
    return { passes: passes.length, minor: violations.length };
  },
  async picture({ name, width, height }) {
    if (width) await page.setViewportSize({ width, height });
    // A header that sticks would lie over the middle.
    await page.evaluate(() => scrollTo(0, 0));
    await page.waitForTimeout(900);
    await eventually("no picture", () => page.screenshot({ path: `${pictures}/${name}.png`, fullPage: true, timeout: PICTURE_MS }));
    const overflow = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
    return { overflow };
  },
  async text({ contains }) {
    return eventually(`the page does not say "${contains}"`, async () => {
      const said = await page.locator("main").innerText();
      assert.ok(said.includes(contains), said.slice(0, 600));
      return {};
    });
  },
  /** Opens the newest rejected records of the first source. */
  async samples({ count }) {
    await page.locator("details.samples summary").first().click();
    return eventually(`${count} rejected records are not shown`, async () => {
      const rows = await page.locator("details.samples").first().locator("tbody tr").count();
      assert.equal(rows, count, await page.locator("details.samples").first().innerText());
      return {};
    });
  },
  async complaints() {
    return { complaints: complaints.splice(0) };
  },
};

for await (const line of createInterface({ input: process.stdin })) {
  let answer;
  try {
    const { do: name, ...rest } = JSON.parse(line);
    answer = await commands[name](rest);
  } catch (error) {
    answer = { error: error.message };
  }
  process.stdout.write(`${JSON.stringify(answer)}\n`);
}
await browser.close();
