/**
 * Frames per second and memory while 100,000 characters stream through the page's own components, in
 * Chromium without a screen:  npm run bench -- [kind...] [--rate CHARACTERS_PER_SECOND] [--characters N]
 */
import { readFileSync } from "node:fs";
import { dirname, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { chromium } from "playwright-core";
import { build, preview } from "vite";

const HERE = dirname(fileURLToPath(import.meta.url));
const KINDS = ["thought", "paragraph", "code", "list", "formulas", "table"];
const ARGUMENTS = [
  "--no-sandbox", "--headless=new", "--disable-gpu", "--disable-background-networking",
  "--disable-component-update", "--disable-sync", "--no-first-run", "--enable-precise-memory-info",
];

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    rate: { type: "string", default: "8000" },
    characters: { type: "string", default: "100000" },
    chromium: { type: "string", default: "/usr/bin/chromium" },
    built: { type: "boolean", default: false },
  },
});

/** Proportional memory of a process in MB: pages shared by n processes count 1/n to each. */
function memoryOf(pid) {
  const rollup = readFileSync(`/proc/${pid}/smaps_rollup`, "utf8");
  return Number(/^Pss:\s+(\d+)/m.exec(rollup)?.[1] ?? 0) / 1_000;
}

function percentile(sorted, share) {
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))];
}

function report(kind, frames, memory) {
  const sorted = frames.intervals.toSorted((left, right) => left - right);
  const sum = sorted.reduce((total, interval) => total + interval, 0);
  return {
    kind,
    characters: frames.numCharacters,
    seconds: (sum / 1_000).toFixed(1),
    "fps mean": ((1_000 * sorted.length) / sum).toFixed(1),
    "fps median": (1_000 / percentile(sorted, 0.5)).toFixed(1),
    "fps worst 5%": (1_000 / percentile(sorted, 0.95)).toFixed(1),
    "longest ms": sorted.at(-1).toFixed(0),
    "longest at": `frame ${frames.intervals.indexOf(sorted.at(-1)) + 1} of ${sorted.length}`,
    elements: frames.numElements,
    ...memory,
  };
}

async function measure(browser, url, kind) {
  const page = await browser.newPage({ viewport: { width: 1280, height: 800 } });
  page.on("pageerror", (error) => console.error(error));
  page.on("console", (message) => message.type() === "error" && console.error(message.text()));
  await page.goto(url);
  await page.waitForFunction(() => "bench" in window);
  // Libraries load and functions get compiled before the clock runs.
  await page.evaluate((kind) => window.bench.stream(kind, 3_000, 8_000, true), kind);
  await page.waitForTimeout(500);
  const settings = [kind, Number(values.characters), Number(values.rate), true];
  const frames = await page.evaluate((given) => window.bench.stream(...given), settings);
  const session = await browser.newBrowserCDPSession();
  const { processInfo } = await session.send("SystemInfo.getProcessInfo");
  const renderers = processInfo.filter((one) => one.type === "renderer").map((one) => memoryOf(one.id));
  const heap = await page.evaluate(() => performance.memory.usedJSHeapSize / 1e6);
  const opened = await page.evaluate((given) => window.bench.open(given[0], given[1]), settings);
  await page.close();
  return report(kind, frames, {
    "JS heap MB": heap.toFixed(0),
    "page process MB": Math.max(...renderers).toFixed(0),
    "open at once ms": opened.toFixed(0),
  });
}

const outDir = resolve(HERE, "dist");
const shared = { root: HERE, configFile: resolve(HERE, "../vite.config.ts"), logLevel: "warn" };
if (!values.built) await build({ ...shared, build: { outDir, emptyOutDir: true } });
const server = await preview({ ...shared, build: { outDir }, preview: { port: 0, host: "127.0.0.1" } });
const browser = await chromium.launch({ executablePath: values.chromium, args: ARGUMENTS });
const rows = [];
for (const kind of positionals.length > 0 ? positionals : KINDS) {
  rows.push(await measure(browser, server.resolvedUrls.local[0], kind));
  console.log(JSON.stringify(rows.at(-1)));
}
console.table(Object.fromEntries(rows.map(({ kind, ...row }) => [kind, row])));
await browser.close();
await server.close();
