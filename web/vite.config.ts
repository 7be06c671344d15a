import type { Plugin } from "vite";
import { defineConfig } from "vitest/config";

/** Where `npm run dev` sends API calls: a running `r1 serve`. */
const server = process.env["R1_SERVER"] ?? "http://127.0.0.1:8000";

/** Every browser that runs the page reads WOFF2: KaTeX's other two copies of each font stay out. */
const onlyWoff2: Plugin = {
  name: "only-woff2",
  enforce: "pre",
  transform(code, id) {
    if (!id.includes("katex") || !/\.css($|\?)/.test(id)) return null;
    return code.replace(/,\s*url\([^)]+\.(?:woff|ttf)\)\s*format\(["'][^)]+\)/g, "");
  },
};

export default defineConfig({
  plugins: [onlyWoff2],
  build: {
    outDir: "../r1/serving/page",
    emptyOutDir: true,
    target: "es2022",
    // The page's policy allows no inline or data scripts, and fonts only from its own origin.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    rolldownOptions: { checks: { pluginTimings: false } },
  },
  server: { proxy: { "/api": server, "/v1": server } },
  test: { environment: "jsdom", include: ["src/**/*.test.{ts,tsx}", "tests/**/*.test.{ts,tsx}"] },
});
