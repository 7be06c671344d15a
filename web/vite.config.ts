import { defineConfig } from "vitest/config";

/** Where `npm run dev` sends API calls: a running `r1 serve`, or the mock of mock/server.ts. */
const server = process.env.R1_SERVER ?? "http://127.0.0.1:8000";

export default defineConfig({
  build: {
    outDir: "../r1/serving/page",
    emptyOutDir: true,
    target: "es2022",
    // The page's policy allows no inline or data scripts and fonts only from our own origin.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
  },
  server: { proxy: { "/api": server, "/v1": server } },
  test: { environment: "jsdom", include: ["src/**/*.test.{ts,tsx}", "tests/**/*.test.{ts,tsx}"] },
});
