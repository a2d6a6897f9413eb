import { defineConfig } from "@playwright/test";

// The tests look at a running server: HOMEOSTAT_URL says where, CHROMIUM which browser.
export default defineConfig({
  testDir: "tests",
  timeout: 90_000,
  workers: 1,
  reporter: "list",
  outputDir: "node_modules/.cache/playwright",
  use: {
    baseURL: process.env.HOMEOSTAT_URL ?? "http://127.0.0.1:8080",
    launchOptions: {
      executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
      args: [
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
      ],
    },
  },
});
